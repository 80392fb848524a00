"""The code on the pages runs and prints what the pages say, in three frameworks; MXNet's is in `test_mxnet_code.py`."""

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from residual.cli import COMMANDS, main
from residual.cli.parsing import parse
from tests.docs.blocks import DOCS, Block, blocks, of_framework, pages
from tests.docs.running import check

ROOT = DOCS.parent


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "jax"])
def test_the_code_runs(framework: str, tmp_path: Path) -> None:
    assert len(of_framework(framework)) >= (10 if framework == "torch" else 3)
    check(framework, tmp_path)


def shell_lines() -> list[tuple[Block, list[str]]]:
    """Every line of every `sh` block as words, comments left out."""
    found = []
    for page in pages():
        for block in blocks(page):
            if block.language == "sh":
                found += [(block, words) for line in block.code.splitlines() if (words := shlex.split(line, comments=True))]
    return found


def inline_commands() -> list[tuple[str, list[str]]]:
    """Commands within a sentence or a table, those with a placeholder (a word in capitals) left out."""
    found = []
    for page in pages():
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for match in re.finditer(r"`residual ([a-z][^`]*)`", text):
            words = shlex.split(match[1])
            if not any(re.fullmatch(r"[A-Z_]{3,}", word) for word in words) and len(words) > 1:
                found.append((str(page.relative_to(ROOT)), words))
    return found


def understood(words: list[str]) -> Any:
    """The options of the command; ValueError where it does not know them."""
    name, *rest = words
    module, options, _ = COMMANDS[name]
    kind = getattr(importlib.import_module(module), options)
    if isinstance(kind, dict):
        module, options, _ = kind[rest[0]]
        name, rest, kind = f"{name} {rest[0]}", rest[1:], getattr(importlib.import_module(module), options)
    return parse(kind, name, rest)


def test_every_command_is_understood() -> None:
    lines = shell_lines()
    assert len(lines) > 50
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for block, words in lines:
        if words[0] == "residual":
            assert understood(words[1:]) is not None, block.place
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), block.place
        elif words[0] == "make":
            assert words[1] in targets, block.place
        else:
            assert words[:2] == ["pip", "install"], block.place
    for _place, words in inline_commands():
        assert understood(words) is not None


def test_every_network_that_is_shown_exists(capsys: pytest.CaptureFixture[str]) -> None:
    shown = [words[1:] for _, words in shell_lines() if words[:2] in (["residual", "show"], ["residual", "list"])]
    shown += [words for _, words in inline_commands() if words[0] in ("show", "list")]
    assert len(shown) > 20
    for words in shown:
        assert main(words) == 0, f"{words}: {capsys.readouterr().err}"
