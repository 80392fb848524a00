"""The weights that a training passed through, from a folder of model files in the order of their names, and whose training it was.

The surprising thing: numbers in the names count as numbers, so that `step-9` comes before `step-10`.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from residual import models
from residual.runs import RUN_FILE
from residual.study.subjects import Subject
from residual.weights import Weights


def snapshots(folder: str | Path) -> tuple[Weights, ...]:
    """The weights at each of the `stops`."""
    return tuple(weights for _, weights in stops(folder))


def stops(folder: str | Path) -> tuple[tuple[str, Weights], ...]:
    """Name and weights of the model files (.safetensors) of `folder`, or of a run's own snapshots, first to last.

    ValueError where there are fewer than three, or two networks.
    """
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ValueError(f"There is no folder {place}: a path is a folder of model files, one for each stop of a training.")
    if (place / RUN_FILE).is_file():
        place = place / "snapshots"
        if not place.is_dir():
            raise ValueError(f"The run {folder} kept no weights along its way: train with --snapshots True.")
    files = sorted((file for file in place.glob("*.safetensors")), key=lambda file: _natural(file.name))
    if len(files) < 3:
        raise ValueError(
            f"{place} holds {len(files)} model files (.safetensors), but a path needs at least 3, the last one the model itself."
        )
    read = [models.read(file) for file in files]
    for file, saved in zip(files, read, strict=True):
        if saved.architecture != read[-1].architecture:
            raise ValueError(f"{file} is of another network than {files[-1]}: a path is of one network.")
    return tuple((file.stem, saved.weights) for file, saved in zip(files, read, strict=True))


def walker(subjects: Sequence[Subject], path: Sequence[Weights]) -> Subject:
    """The model that the path ends in. ValueError where it is none of `subjects`."""
    for subject in subjects:
        if subject.weights.keys() == path[-1].keys() and all(np.array_equal(subject.weights[name], path[-1][name]) for name in path[-1]):
            return subject
    names = ", ".join(subject.label for subject in subjects)
    raise ValueError(f"The path ends in none of the models ({names}): its last file must hold the weights of one of them.")


def digest(path: Sequence[Weights]) -> str:
    """A short hash of all weights of a path; "" where there is none."""
    found = hashlib.sha256()
    for weights in path:
        for name in sorted(weights):
            found.update(np.ascontiguousarray(weights[name], np.float32).tobytes())
    return found.hexdigest()[:16] if path else ""


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
