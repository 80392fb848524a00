"""The finding of a study that opens no models of its own: its result with the machine, the versions and the command.

Studies of models get theirs from `bench`; this is for those that build or train what they look at.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from residual.study.store import Finding, Parts, save


def outcome(
    study: str, result: Any, parts: Parts, *, settings: dict[str, Any], data: dict[str, Any], scaled_down: tuple[str, ...],
    out: str | Path | None,
) -> Finding:  # fmt: skip
    """The finding, written to the folder `out` where there is one."""
    from residual.training import machine, versions

    finding = Finding(
        study=study, settings=settings, scaled_down=scaled_down, data=data, machine=machine.machine().as_dict(),
        versions=versions.versions(), seconds=parts.seconds, command=shlex.join(["residual", *sys.argv[1:]]), result=result,
    )  # fmt: skip
    if out is not None:
        save(finding, out)
    return finding


__all__ = ["outcome"]
