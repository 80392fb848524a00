"""The models that a study looks at: a run's, a file's of any known library, or a variant with its first values.

The surprising thing: two models count as a pair, plain and residual, only when nothing but the shortcuts differs in their descriptions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from residual import models
from residual.architecture import Architecture
from residual.layers import Conv, Linear, Network
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.runs import RUN_FILE, Run, open_run
from residual.spelling import nearest
from residual.tensors import manifest
from residual.variants import VARIANTS, architecture, is_variant
from residual.weights import Weights, initialise

Kind = Literal["residual", "plain"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under study.

    Attributes:
        label: a short name, different for each model of a study.
        trained: whether the weights came from a run or a file; else they are the first values of a seed.
        classes, preprocessing, run: empty or None where there is none.
    """

    label: str
    network: Network
    weights: Weights
    trained: bool
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    run: Run | None = None

    @property
    def kind(self) -> Kind:
        return kind_of(self.network.architecture)

    @property
    def depth(self) -> int:
        return depth_of(self.network)

    def digest(self) -> str:
        """A short hash of every weight."""
        found = hashlib.sha256()
        for name in manifest(self.network):
            found.update(np.ascontiguousarray(self.weights[name], np.float32).tobytes())
        return found.hexdigest()[:16]


def run_of(name: str | Path) -> Run | None:
    """The run in the folder `name`; None where it is no run's folder."""
    return open_run(name) if (Path(name).expanduser() / RUN_FILE).is_file() else None


def open_subject(name: str | Path, *, seed: int = 0, channels: int = 3, num_classes: int = 10) -> Subject:
    """The model in a run's folder or a file, or the variant `name` with the first values of `seed`.

    A variant takes `channels` and `num_classes`, those of the data. ValueError where there is no such model.
    """
    path = Path(name).expanduser()
    run = run_of(path)
    if path.is_file() or run is not None or (path / "config.json").is_file():
        saved = run.saved() if run is not None else models.read(path)
        return Subject(
            label=path.resolve().name if run is not None else path.stem, network=plan(saved.architecture), weights=saved.weights,
            trained=True, classes=saved.classes, preprocessing=saved.preprocessing, run=run,
        )  # fmt: skip
    if path.is_dir():
        raise ValueError(f"{name} is a folder, but no run: it has no {RUN_FILE}.")
    told = str(name)
    if not is_variant(told):
        raise ValueError(f"There is no run, model file or variant {told!r}.{nearest(told, VARIANTS)} `residual list` shows the variants.")
    network = plan(architecture(told, in_channels=channels, num_classes=num_classes))
    return Subject(label=told, network=network, weights=initialise(network, seed), trained=False)


def distinct(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """The subjects with a number added to labels that occur twice."""
    found: list[Subject] = []
    for subject in subjects:
        same = sum(other.label == subject.label for other in subjects[: len(found)])
        found.append(replace(subject, label=f"{subject.label} ({same + 1})") if same else subject)
    return tuple(found)


def kind_of(arch: Architecture) -> Kind:
    return "plain" if arch.shortcut == "none" else "residual"


def depth_of(network: Network) -> int:
    """Layers with weights on the longest path, as the papers count them: convolutions of stem and branches, and the linear layer."""
    chains = [*network.stem, *(layer for block in network.blocks() for layer in block.branch), *network.head]
    return sum(isinstance(layer, Conv | Linear) for layer in chains)


def without_shortcuts(arch: Architecture) -> Architecture:
    """The plain twin of `arch`; a plain network's own description."""
    return replace(arch, shortcut="none", drop_path=0.0, zero_last_gamma=False, shortcut_pool=False, shortcut_norm=True)


def is_twin(arch: Architecture, other: Architecture) -> bool:
    """Whether `other` is the plain network that lacks nothing of the residual network `arch` but its shortcuts."""
    return arch.shortcut != "none" and other.shortcut == "none" and without_shortcuts(arch) == without_shortcuts(other)


def family(arch: Architecture) -> Architecture:
    """What networks that differ in depth only have in common."""
    return replace(arch, depths=(1,) * len(arch.depths))


__all__ = [
    "Kind",
    "Subject",
    "depth_of",
    "distinct",
    "family",
    "is_twin",
    "kind_of",
    "open_subject",
    "run_of",
    "without_shortcuts",
]
