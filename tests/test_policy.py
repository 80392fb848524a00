"""The rules of the house: imports go down only, files and functions stay short, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "residual"
FILES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

CORE = (
    "architecture", "variants", "layers", "plan", "tensors", "cost", "weights", "names", "reference", "describe", "recipe", "runs",
    "preprocessing", "spelling", "shortage",
)  # fmt: skip
# what a part may import, besides itself
BELOW = {
    "core": (),
    "backends": ("core",),
    "data": ("core",),
    "conversion": ("core", "backends"),
    "models": ("core", "backends", "conversion"),
    "training": ("core", "backends", "data", "models"),
    "study": ("core", "backends", "models", "training"),
    "report": ("core", "study"),
    "cli": ("core", "backends", "conversion", "data", "models", "training", "study", "report"),
}
RESULTS = {"residual.training.metrics"}  # an evaluation is a result, which a report may read
FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "jax", "mxnet"}
RESIZING = SOURCE / "data" / "resize.py"  # by PyTorch, as arrays in and out: Pillow's takes two thirds of a JPEG's decoding
HEAVY = FRAMEWORKS | {
    "timm",
    "transformers",
    "h5py",
    "datasets",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "plotly",
    "tensorboard",
    "huggingface_hub",
}


def part_of(path: Path) -> str:
    """The part of the package that a file is in; "" for the package's own __init__."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "core" if first in CORE else {"__init__": "", "__main__": "cli"}.get(first, first)


def part_of_module(name: str) -> str:
    parts = name.split(".")
    first = parts[1] if len(parts) > 1 else ""
    return "core" if first in CORE else first


def imports(tree: ast.AST, *, inside_functions: bool) -> Iterator[str]:
    """Names of the modules that are imported, `from residual import x` as residual.x; those for type checking only are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"residual.{alias.name}" for alias in node.names) if module == "residual" else (module,)
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, inside_functions=inside_functions)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_part_is_known() -> None:
    assert {part_of(path) for path in FILES} - {""} <= BELOW.keys()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    if not part:
        found = {part_of_module(name) for name in imports(parsed(path), inside_functions=True) if name.startswith("residual")}
        assert found <= {"core"}
        return
    for name in imports(parsed(path), inside_functions=True):
        if name.partition(".")[0] == "residual" and not (part == "report" and name in RESULTS):
            other = part_of_module(name)
            assert other in (part, *BELOW[part], "", "__version__", "__doc__"), f"{part} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_frameworks_stay_in_their_place(path: Path) -> None:
    part = part_of(path)
    found = {name.partition(".")[0] for name in imports(parsed(path), inside_functions=True)} & FRAMEWORKS
    if part == "backends":
        assert len(found) <= 1
    elif part not in ("training", "conversion"):
        assert found == ({"torch"} if path == RESIZING else set())


@pytest.mark.parametrize(
    "path", [path for path in FILES if part_of(path) in ("", "core", "conversion", "models", "data", "cli")], ids=name_of
)
def test_nothing_heavy_at_the_top(path: Path) -> None:
    found = {name.partition(".")[0] for name in imports(parsed(path), inside_functions=False)} & HEAVY
    assert not found


@pytest.mark.parametrize("path", FILES + TESTS, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 300
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 < 50, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
            assert len(named) <= 7, f"{node.name} has {len(named)} parameters"


@pytest.mark.parametrize("path", [path for path in FILES if path.read_text(encoding="utf-8").strip()], ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_probing(path: Path) -> None:
    called = {node.func.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "hasattr" not in called
    assert path.stem not in ("utils", "helpers", "common", "misc")


def _imported_by(code: str) -> set[str]:
    """The packages that a fresh interpreter has imported after `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(['#'] + sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.rpartition("#\n")[2].split())


@pytest.mark.parametrize(
    "code",
    ["import residual", *(f"from residual.cli import main\nmain([{argument!r}])" for argument in ("--help", "--version"))],
)
def test_the_first_imports_are_light(code: str) -> None:
    found = _imported_by(code)
    assert "residual" in found
    assert not found & (HEAVY | {"numpy", "tyro", "rich", "PIL", "safetensors"})


def test_a_report_needs_no_framework() -> None:
    assert not _imported_by("import residual.report") & FRAMEWORKS


@pytest.mark.parametrize("arguments", [["list"], ["show", "resnet18"], ["show", "--help"], ["train", "--help"], ["predict", "--help"]])
def test_commands_without_a_network_import_no_framework(arguments: list[str]) -> None:
    assert not _imported_by(f"from residual.cli import main\nmain({arguments!r})") & HEAVY
