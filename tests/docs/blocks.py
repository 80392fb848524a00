"""The code blocks of the documentation: found in its pages, and run in one process for each framework.

Every `python` block is run, page by page and in order, those of a page in one namespace; `<!-- not run: why -->` before a block is the
exception. Blocks under a framework's tab run with it, all others with PyTorch and with every framework that its page has a tab for. A
`text` block with the title "Output" right after a block is what that block must print.

python -m tests.docs.blocks FRAMEWORK runs those of one framework in the folder it is started in, and says what went wrong.
"""

import contextlib
import io
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
FRAMEWORKS = {"PyTorch": "torch", "TensorFlow": "tensorflow", "JAX": "jax", "MXNet": "mxnet"}
_FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,})(?P<language>\w*)(?P<rest>.*)$")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block; `tab` is the label of the tab it stands under, `output` what it must print where the page says so."""

    page: str
    line: int
    tab: str
    language: str
    code: str
    skipped: str
    output: str | None = None

    @property
    def place(self) -> str:
        return f"docs/{self.page}:{self.line}"


def pages() -> list[Path]:
    """All but the results, which say what was run when they were made."""
    return [path for path in sorted(DOCS.rglob("*.md")) if DOCS / "results" not in path.parents]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in order; an "Output" block is part of the block before it."""
    found: list[Block] = []
    for block, title in _fences(page):
        if title == "Output":
            assert found, f"{block.place}: an output without code"
            found[-1] = replace(found[-1], output=block.code)
        else:
            found.append(block)
    return found


def _fences(page: Path) -> Iterator[tuple[Block, str]]:
    lines, tab, tab_indent, skipped = page.read_text(encoding="utf-8").splitlines(), "", -1, ""
    index = 0
    while index < len(lines):
        line = lines[index]
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent <= tab_indent:
            tab, tab_indent = "", -1
        if match := re.match(r'^ *=== "(.*)"', line):
            tab, tab_indent = match[1], indent
        if match := re.match(r"^ *<!-- not run: (.+) -->", line):
            skipped = match[1]
        elif fence := _FENCE.match(line):
            end = next(i for i in range(index + 1, len(lines)) if lines[i].strip() == fence["mark"])
            code = "\n".join(text[len(fence["indent"]) :] for text in lines[index + 1 : end])
            title = re.search(r'title="(.*?)"', fence["rest"])
            place = str(page.relative_to(DOCS))
            yield (
                Block(page=place, line=index + 1, tab=tab, language=fence["language"], code=code, skipped=skipped),
                title[1] if title else "",
            )
            skipped, index = "", end
        elif line.strip():
            skipped = ""
        index += 1


def of_framework(framework: str) -> dict[str, list[Block]]:
    """Page -> its Python blocks for `framework`; pages without a tab for it are PyTorch's alone."""
    found = {}
    for page in pages():
        own = [block for block in blocks(page) if block.language == "python" and not block.skipped]
        tabs = {FRAMEWORKS.get(block.tab, "torch") if block.tab else "" for block in own}
        if own and (framework in tabs or (framework == "torch" and tabs == {""})):
            found[own[0].page] = [block for block in own if not block.tab or FRAMEWORKS.get(block.tab, "torch") == framework]
    return found


def run(framework: str) -> list[str]:
    """What went wrong: a sentence for each page whose code fails, or prints something else than the page says."""
    faults = []
    home = Path.cwd()
    for page, own in of_framework(framework).items():
        folder = home / page.replace("/", "-")
        folder.mkdir()
        os.chdir(folder)
        names: dict[str, object] = {"__name__": "__main__"}
        for block in own:
            fault = _fault(block, names)
            if fault:
                faults.append(fault)
                break
    return faults


def _fault(block: Block, names: dict[str, object]) -> str:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile("\n" * block.line + block.code, block.place.partition(":")[0], "exec"), names)
    except Exception:
        return f"{block.place} fails:\n{traceback.format_exc()}"
    printed = "\n".join(line.rstrip() for line in said.getvalue().strip("\n").splitlines())
    if block.output is not None and printed != block.output.strip("\n"):
        return f"{block.place} prints\n{printed}\nbut the page says\n{block.output}"
    return ""


if __name__ == "__main__":
    wrong = run(sys.argv[1])
    print("\n\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))
