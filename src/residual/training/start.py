"""The weights that a training goes on from, instead of first values: those of a run or of a model file of any known library.

The surprising thing: pictures are then prepared as that model takes them, so that the first loss is the loss the model ended with.
"""

from pathlib import Path
from typing import Any

import torch

from residual import models
from residual.backends import backend_of
from residual.runs import RUN_FILE, open_run
from residual.training.ladder import Data
from residual.training.loop import State
from residual.training.portable import PortableState
from residual.weights import SavedModel, Weights

_FIXED = ("model", "image_size", "first_layer")


def begin_from(start: str | Path, data: Data, fields: dict[str, Any]) -> SavedModel:
    """The model `start`. ValueError where it does not fit the data, or where a field asks for another model, size or first values."""
    for name in _FIXED:
        if name in fields:
            raise ValueError(f"{name} is that of {start}, from whose weights the training starts: leave out {name}={fields[name]!r}.")
    path = Path(start).expanduser()
    saved = open_run(path).saved() if (path / RUN_FILE).is_file() else models.read(path)
    arch, classes = saved.architecture, tuple(data.classes)
    if arch.in_channels != data.channels:
        raise ValueError(f"{start} takes pictures of {arch.in_channels} channel(s), but those of the data have {data.channels}.")
    if saved.classes and saved.classes != classes:
        other = next((name for name in classes if name not in saved.classes), "")
        told = f"the data has the class {other!r}" if other else "the data has fewer of them, or in another order"
        raise ValueError(f"{start} knows {len(saved.classes)} classes, and {told}: training goes on only with the same classes.")
    if arch.num_classes != len(classes):
        raise ValueError(f"{start} has {arch.num_classes} outputs, but the data has {len(classes)} classes.")
    return saved


def put_weights(state: State | PortableState, weights: Weights) -> None:
    """Replaces the model's weights, and the averaged ones where the recipe keeps them."""
    backend_of(state.model).set_weights(state.model, weights)
    if isinstance(state, State) and state.average is not None:
        with torch.no_grad():
            for name, value in state.model.state_dict().items():
                state.average[name].copy_(value)


__all__ = ["begin_from", "put_weights"]
