"""`residual` in a process of its own that can be killed, forked from one that has PyTorch loaded already: it starts in no time.

The installed command itself is started in `cli/test_frame.py`.
"""

import os
import sys
from multiprocessing import get_context
from pathlib import Path

import torch

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["residual.training.experiment", "residual.cli.training", "sklearn.datasets"])


class Launched:
    """A running command; it writes both of its outputs into the file `said`."""

    def __init__(self, arguments: list[str], said: Path, *, threads: int = 1) -> None:
        self._said = said
        self._process = _CONTEXT.Process(target=_run, args=(arguments, said, threads))
        self._process.start()

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._said.read_text() if self._said.exists() else ""

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: int) -> None:
        """Sends a signal, where the process is still there."""
        if self._process.pid is not None and self.runs:
            os.kill(self._process.pid, number)

    def ended(self, seconds: float = 300) -> int | None:
        """The exit code, -9 for one that was killed; None where it still ran after `seconds` and was killed here."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        return code


def _run(arguments: list[str], said: Path, threads: int) -> None:
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    torch.set_num_threads(threads)
    from residual.cli import main

    raise SystemExit(main(arguments))
