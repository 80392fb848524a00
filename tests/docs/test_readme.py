"""What README shows: its Python runs from top to bottom in one process, and its commands are understood."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.docs.blocks import DOCS
from tests.docs.test_code import understood

README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
GIVEN = """
from sklearn.datasets import load_digits
images, labels = (load_digits().images * 15.9).astype("uint8"), load_digits().target
"""


def fenced(language: str) -> list[str]:
    inside = re.split(r"^```", README, flags=re.M)[1::2]
    return [code for code in inside if code.partition("\n")[0] == language]


def test_its_python_runs_in_one_process(tmp_path: Path) -> None:
    code = "".join(block.removeprefix("python") for block in fenced("python"))
    assert "time=60" in code  # three seconds of training instead, so that a test may wait for it
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "picture.jpg")
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    command = [sys.executable, "-c", GIVEN + code.replace("time=60", "time=3")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "model.safetensors").stat().st_size > 90e6


def test_its_commands_are_understood() -> None:
    lines = [shlex.split(line, comments=True) for block in fenced("") for line in block.splitlines()]
    commands = [words for words in lines if words[:1] == ["residual"]]
    assert len(commands) > 15
    named = [shlex.split(found) for found in re.findall(r"`residual ([a-z][^`]*)`", README)]
    for words in commands + [["residual", *words] for words in named if len(words) > 1 and "--help" not in words]:
        assert understood(words[1:]) is not None, words
