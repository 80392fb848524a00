"""Models by name, and the one file they travel in, for every framework: create, save, load.

A framework is imported when a model of it is asked for, and no sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from residual import weights as core
from residual.architecture import Architecture, changed
from residual.backends import BACKENDS, backend_of, check_backend, open_backend
from residual.conversion import formats
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.runs import Run
from residual.variants import architecture
from residual.weights import SavedModel


def create(name_or_architecture: str | Architecture, *, backend: str = "torch", seed: int = 0, **changes: Any) -> Any:
    """The framework's own model with the first values of `seed`; `changes` are fields of the architecture.

    An `nn.Module` in evaluation mode (torch), a `keras.Model` (tensorflow, jax) or a Gluon `HybridBlock` (mxnet).

    The first values are a function of the names, shapes and `seed` alone: the same in every framework.

    Raises:
        ValueError: for a name, field or backend that is not known, with the nearest right one, or a value out of range.
    """
    check_backend(backend)
    if isinstance(name_or_architecture, Architecture):
        arch = changed(name_or_architecture, changes)
    elif isinstance(name_or_architecture, str):
        arch = architecture(name_or_architecture, **changes)
    else:
        raise ValueError(f"A model is made from a variant's name or an Architecture, not from {name_or_architecture!r}.")
    return open_backend(backend).build(plan(arch), seed)


def save(model: Any, path: str | Path, *, classes: Sequence[str] = (), preprocessing: Preprocessing | None = None) -> None:
    """Writes `model` as one safetensors file: weights, architecture, class names and preprocessing, read again by `load`.

    torchvision and timm read it too. A file that is there is replaced at once, never half written.

    Raises:
        ValueError: `model` was not made by `create` or `load`, a layer was exchanged since, or `classes` do not fit its outputs.
    """
    framework = backend_of(model)
    saved = SavedModel(
        architecture=model.plan.architecture,
        weights=framework.get_weights(model),
        classes=tuple(map(str, classes)),
        preprocessing=preprocessing,
    )
    core.save(path, saved)


def load(path_or_run: str | Path | Run, *, backend: str = "torch") -> Any:
    """The model of a file or of a run (its folder), with its weights, on the CPU, in evaluation mode.

    The file may be another library's: torchvision's, timm's, transformers' (a folder), Keras Applications', Gluon's or the chapter's, found
    out by its content. `residual.convert` shows what was inferred from it.

    Raises:
        ValueError: there is no such file or run, it is of no known format, or it is damaged; the message names it.
    """
    check_backend(backend)
    saved = read(path_or_run)
    framework = open_backend(backend)
    return framework.build(plan(saved.architecture), weights=saved.weights)


def read(path_or_run: str | Path | Run) -> SavedModel:
    """What a model file of any known format or a run holds, without building it."""
    return path_or_run.saved() if isinstance(path_or_run, Run) else formats.read(Path(path_or_run)).saved()


__all__ = ["BACKENDS", "create", "load", "read", "save"]
