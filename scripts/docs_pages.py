"""Writes what the documentation site is built from into build/docs or the folder that is named: docs/ and the reference pages.

Signatures and docstrings are read from the source text, so that types stand as they are written and no framework is imported; the tables
of variants and recipes and the help of each command come from the package itself.
"""

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.update(COLUMNS="100", NO_COLOR="1")  # before tyro is imported: the width of the help

from residual.cli import COMMANDS, main
from residual.describe import describe_variants
from residual.recipe import Recipe
from residual.training.recipes import RECIPES
from residual.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "residual"
WIDTH = 92

# page of the public surface: heading -> (module, names)
SURFACE = {
    "Networks, without a framework": ("variants", ["architecture"]),
    "The layer list": ("plan", ["plan"]),
    "What a network costs": ("cost", ["cost", "Cost", "Row"]),
    "Models": ("models", ["create", "save", "load"]),
    "Weights of other libraries": ("conversion", ["convert"]),
    "The proof of a conversion": ("conversion.certificate", ["Certificate"]),
    "Training": ("training.experiment", ["train"]),
    "Evaluation": ("training.evaluation", ["evaluate"]),
    "What an evaluation holds": ("training.metrics", ["Evaluation", "ClassScore"]),
    "Prediction": ("training.prediction", ["predict", "Prediction"]),
    "A run": ("runs", ["Run"]),
    "How pictures are prepared": ("preprocessing", ["Preprocessing"]),
}
BACKEND = ["build", "set_weights", "get_weights", "forward", "fit"]


def write(place: Path) -> None:
    """Writes the folder `place` anew."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "docs", place)
    pages = {
        "python": _python(), "architecture": _architecture(), "recipe": _recipe(), "backends": _backends(), "commands": _commands(),
        "studies": _studies(),
    }  # fmt: skip
    (place / "reference").mkdir(exist_ok=True)
    for name, text in pages.items():
        (place / "reference" / f"{name}.md").write_text(text, encoding="utf-8")
    results = place / "results.md"
    results.write_text(results.read_text(encoding="utf-8") + _reproduced(place), encoding="utf-8")
    for path in sorted((place / "notebooks").glob("*.ipynb")):
        path.with_suffix(".md").write_text(_notebook(path), encoding="utf-8")


def _python() -> str:
    parts = [
        "# Python\n\n`import residual` imports no framework. What follows is `residual.NAME`; the classes are what these functions take "
        "and give. [Architecture](architecture.md) and [Recipe](recipe.md) have pages of their own.\n"
    ]
    for heading, (module, names) in SURFACE.items():
        parts += [f"\n## {heading}\n", *(_entry(module, name) for name in names)]
    return "".join(parts)


def _architecture() -> str:
    rows = [["name", "layers", "block", "blocks", "shortcut", "order", "at", "parameters", "multiply-adds"]]
    for row in describe_variants(VARIANTS):
        depths, side = "-".join(map(str, row["depths"])), str(row["image_size"][0])
        numbers = [f"{row['parameters']:,}", f"{row['multiply_adds']:,}"]
        rows.append([f"`{row['name']}`", str(row["depth"]), row["block"], depths, row["shortcut"], row["order"], side, *numbers])
    layers = [node.name for node in _tree("layers").body if isinstance(node, ast.ClassDef)]
    return "".join([
        "# Architecture\n\n`residual.architecture(name, **fields)` gives one of the variants below with fields replaced; ",
        "`residual show NAME --field value` shows it.\n\n", _entry("architecture", "Architecture"),
        f"\n## The {len(VARIANTS)} variants\n\n`cifar_resnetD` and `cifar_plainD` work for any D = 6n + 2.\n\n", _table(rows),
        "\n## What a plan is made of\n\n`residual.plan(arch)` writes an architecture out as these records; ",
        "every backend reads only them.\n",
        *(_entry("layers", name) for name in layers),
    ])  # fmt: skip


def _recipe() -> str:
    default, named = Recipe(), []
    for name, entry in RECIPES.items():
        own = [f"`{key}={value!r}`" for key, value in vars(entry.recipe).items() if value != getattr(default, key)]
        told = ", ".join(own) or "the defaults below"
        fitted = " What is left open is fitted to the data and the machine." if entry.fitted else ""
        named.append(f"\n### `{name}`\n\n{_sentence(entry.source)}\n\nIts own values: {told}.{fitted} Measured: {entry.measured}.\n")
    return "".join([
        "# Recipe\n\nEvery field is an option of `residual train` (`learning_rate` is `--learning-rate`) and a keyword of ",
        "`residual.train`.\n\n## The recipes by name\n", *named, "\n## The fields\n\n", _entry("recipe", "Recipe"),
        _entry("recipe", "EpochEnd"),
    ])  # fmt: skip


def _backends() -> str:
    parts = [
        "# Backends\n\n", _doc(_tree("backends")), "\nEach module has the same five functions: `build`, `set_weights`, ",
        "`get_weights`, `forward` and `fit`. They are described at PyTorch; at the others stands what they say of their own.\n",
    ]  # fmt: skip
    for name in ("open_backend", "backend_of"):
        parts.append(_entry("backends", name))
    for module, title in (("torch", "PyTorch"), ("keras", "TensorFlow and JAX"), ("mxnet", "MXNet")):
        parts += [f"\n## {title}: `residual.backends.{module}`\n\n", _doc(_tree(f"backends.{module}")), "\n"]
        own = {node.name for node in _tree(f"backends.{module}").body if isinstance(node, ast.FunctionDef)}
        parts += [_entry(f"backends.{module}", name) for name in BACKEND if name in own]
    parts += ["\n## The reference: `residual.reference`\n\n", _doc(_tree("reference")), "\n", _entry("reference", "forward")]
    return "".join(parts)


def _commands() -> str:
    parts = ["# Command line\n\n`residual COMMAND --help` prints what stands here. A mistake is one sentence and the exit code 2.\n"]
    for name, (module, options, line) in COMMANDS.items():
        kind = getattr(importlib.import_module(module), options)
        parts.append(f"\n## `residual {name}`\n\n{_sentence(line)}\n")
        if isinstance(kind, dict):
            for inner, (_, _, about) in kind.items():
                parts.append(f"\n### `residual {name} {inner}`\n\n{_sentence(about)}\n\n```text\n{_help(name, inner)}\n```\n")
        else:
            parts.append(f"\n```text\n{_help(name)}\n```\n")
    return "".join(parts)


def _help(*words: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        main([*words, "--help"])
    return said.getvalue().strip()


def _studies() -> str:
    parts = [
        "# Studies\n\n`residual study NAME` runs one; in Python each is a module of `residual.study` with a function that takes what is "
        "asked (`residual.study.bench.Ask`) and gives a `Finding`, whose `result` is that module's `Result`.\n",
        "\n## What every study shares\n", _entry("study.bench", "Ask"), _entry("study.store", "Finding"), _entry("study.claims", "Claim"),
    ]  # fmt: skip
    for path in sorted((SOURCE / "study").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        if "Result" in defined:
            public = [name for name in defined if not name.startswith("_")]
            parts += [f"\n## `residual.study.{path.stem}`\n\n", _doc(tree), "\n"]
            parts += [_entry(f"study.{path.stem}", name) for name in public]
    return "".join(parts)


def _reproduced(place: Path) -> str:
    """The part of the results page that lists what `residual reproduce` wrote into docs/results."""
    rows = [["what", "verdict"]]
    for path in sorted((place / "results").glob("*/result.md")):
        text = path.read_text(encoding="utf-8")
        title, verdict = re.search(r"^# (.*)$", text, re.M), re.search(r"\*\*Verdict: (.*?)\*\*", text)
        if not (title and verdict):
            raise SystemExit(f"docs_pages.py: {path} has no title or no verdict; write it anew with `residual reproduce`.")
        rows.append([f"[{title[1]}]({path.relative_to(place)})", verdict[1]])
    return "\n## The papers, made again\n\nEach page says what was scaled down.\n\n" + _table(rows) if rows[1:] else ""


def _notebook(path: Path) -> str:
    parts = [f"*This page is the notebook [{path.name}]({path.name}).*\n"]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        parts.append(f"\n{text}\n" if cell["cell_type"] == "markdown" else f"\n```python\n{text}\n```\n")
    return "".join(parts)


def _tree(module: str) -> ast.Module:
    place = SOURCE.joinpath(*module.split("."))
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _entry(module: str, name: str) -> str:
    """A function or dataclass: its signature, its docstring, and for a dataclass its fields."""
    node = next((n for n in _tree(module).body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name), None)
    if node is None:
        raise SystemExit(f"docs_pages.py: residual.{module} has no {name}; mend SURFACE.")
    anchor = f"{module}.{name}".replace(".", "-").replace("_", "-").lower()
    if isinstance(node, ast.FunctionDef):
        return f"\n### `{name}` {{ #{anchor} }}\n\n```python\n{_signature(node)}\n```\n\n{_doc(node)}\n"
    anchor = f"class-{anchor}"  # `cost` and `Cost` are two
    methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_") and ast.get_docstring(m)]
    told = "".join(f"- `{_call(m)}`: {_summary(m)}\n" for m in methods)
    return f"\n### `{name}` {{ #{anchor} }}\n\n{_doc(node)}\n" + (f"\n{told}" if told else "")


def _call(node: ast.FunctionDef) -> str:
    if any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
        return node.name
    return f"{node.name}({', '.join(a.arg for a in node.args.args if a.arg != 'self')})"


def _summary(node: ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({ast.unparse(node.args)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{node.name}(\n" + "".join(f"    {part},\n" for part in _arguments(node.args)) + f"){returns}"


def _arguments(found: ast.arguments) -> Iterator[str]:
    plain = [*found.posonlyargs, *found.args]
    missing = len(plain) - len(found.defaults)
    for index, argument in enumerate(plain):
        yield ast.unparse(argument) + (f" = {ast.unparse(found.defaults[index - missing])}" if index >= missing else "")
    if found.kwonlyargs:
        yield "*"
    for argument, default in zip(found.kwonlyargs, found.kw_defaults, strict=True):
        yield ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")
    if found.kwarg:
        yield f"**{ast.unparse(found.kwarg)}"


def _doc(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    """The docstring as Markdown; "Attributes:" becomes the table of the fields, "Raises:" and "Source:" a paragraph each."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    head, *rest = re.split(r"^(Attributes|Raises|Source|Args|Returns): ?", text, flags=re.M)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    parts = [head.strip().replace("<", "&lt;")]
    if isinstance(node, ast.ClassDef):
        parts.append(_fields(node, sections.pop("Attributes", "")))
    elif "Attributes" in sections:
        parts.append(sections.pop("Attributes").strip())
    parts += [f"*{title}:* {' '.join(body.split())}" for title, body in sections.items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fields(node: ast.ClassDef, attributes: str) -> str:
    told = {match[1]: " ".join(match[2].split()) for match in re.finditer(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", attributes, re.M | re.S)}
    rows = [["field", "type", "default", "meaning"]]
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            name = part.target.id
            meaning = told.get(name) or next((text for text in told.values() if f"`{name}`:" in text), "")
            default = f"`{ast.unparse(part.value)}`" if part.value else ""
            rows.append([f"`{name}`", f"`{ast.unparse(part.annotation)}`", default, meaning])
    if len(rows) == 1:
        return ""
    keep = [index for index in range(4) if any(row[index] for row in rows[1:])]
    return _table([[row[index] for index in keep] for row in rows])


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |\n" for row in rows]
    return "".join([lines[0], "|" + " --- |" * len(rows[0]) + "\n", *lines[1:]])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs")
