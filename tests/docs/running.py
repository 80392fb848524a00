"""Runs the pages' code in a process of its own, because Keras can be only one framework in a process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import DOCS


def check(framework: str, folder: Path) -> None:
    """Nothing, when all of a framework's code runs in `folder` and prints what the pages say."""
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    command = [sys.executable, "-m", "tests.docs.blocks", framework]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
