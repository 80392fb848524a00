"""Training in another framework: the batches are the PyTorch loop's own, number for number; the steps are the framework's.

Only whole epochs are kept: a training that is killed goes on from the last epoch it finished.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from residual.backends import backend_of
from residual.recipe import EpochEnd, Recipe, learning_rate
from residual.training.checkpoint import CHECKPOINT
from residual.training.inference import logits
from residual.training.loop import Setting, inputs, key, order, scored
from residual.weights import Weights, write_whole

_NUMBERS = ("epoch", "step", "seconds", "best_accuracy", "best_epoch")


@dataclass(kw_only=True)
class PortableState:
    """Everything that training changes, at the end of an epoch.

    Attributes:
        model: of any backend.
        velocity: of SGD's momentum, by tensor name; empty before the first step.
    """

    model: Any
    velocity: Weights = field(default_factory=dict)
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    best_epoch: int = 0

    def finished(self, recipe: Recipe) -> bool:
        """Whether the epochs are over or patience is at its end."""
        if recipe.patience and self.best_epoch and self.epoch - self.best_epoch >= recipe.patience:
            return True
        return self.epoch >= recipe.epochs


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """One epoch's batches, made while they are iterated: a pure function of the recipe's seed and `number`, from 0."""

    setting: Setting
    number: int

    def __len__(self) -> int:
        return len(order(len(self.setting.train), self.setting.recipe, self.number))

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        chunks = order(len(self.setting.train), self.setting.recipe, self.number)
        for index, batch in enumerate(self.setting.train.read(chunks)):
            torch.manual_seed(key(self.setting.recipe.seed, self.number, index))
            yield inputs(self.setting, batch, self.number).contiguous().cpu().numpy(), batch[1].cpu().numpy()


def fit(state: PortableState, setting: Setting) -> Iterator[EpochEnd]:
    """An EpochEnd after each epoch, with the validation split's scores; picks up where `state` stands."""
    recipe, framework = setting.recipe, backend_of(state.model)
    batches = [Shuffled(setting=setting, number=number) for number in range(recipe.epochs)]
    began, before = time.perf_counter(), state.seconds
    start, total = began, recipe.epochs * len(batches[0])
    for end in framework.fit(state.model, batches, recipe, velocity=state.velocity, first=state.epoch):
        rate = len(setting.train) / max(time.perf_counter() - start, 1e-9)
        loss = accuracy = None
        if setting.validation is not None:
            found = logits(
                state.model, setting.validation, setting.normalise, size=setting.size, batch=max(recipe.batch_size, 64), views=recipe.views
            )
            loss, accuracy = scored(found, setting.validation.labels)
            if accuracy > state.best_accuracy:
                state.best_accuracy, state.best_epoch = accuracy, end.epoch
        state.epoch, state.step, state.seconds = end.epoch, end.steps, before + time.perf_counter() - began
        yield replace(
            end, validation_loss=loss, validation_accuracy=accuracy, learning_rate=learning_rate((end.steps - 1) / total, recipe),
            progress=end.steps / total, seconds=state.seconds, images_per_second=rate,
        )  # fmt: skip
        if state.finished(recipe):
            break
        start = time.perf_counter()


def save(folder: Path, state: PortableState) -> None:
    """Writes `state` into `folder`/checkpoint, beside its place and renamed into it."""
    tensors = {f"model.{name}": value for name, value in backend_of(state.model).get_weights(state.model).items()}
    tensors |= {f"velocity.{name}": value for name, value in state.velocity.items()}
    path = folder / CHECKPOINT
    path.parent.mkdir(exist_ok=True)
    write_whole(path, serialise(tensors, {"portable": json.dumps({name: getattr(state, name) for name in _NUMBERS})}))


def restore(folder: Path, state: PortableState) -> None:
    """Puts the checkpoint of `folder` into `state`. ValueError names a file that is missing or damaged."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{folder} has no checkpoint to resume from; train again without --resume.")
    try:
        with safe_open(path, framework="numpy") as file:
            numbers = json.loads(file.metadata()["portable"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        backend_of(state.model).set_weights(state.model, _under("model.", tensors))
        state.velocity.update(_under("velocity.", tensors))
        for name in _NUMBERS:
            setattr(state, name, numbers[name])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"The checkpoint {path} is damaged or of another run: {reason.rstrip('.')}.") from error


def _under(prefix: str, tensors: Weights) -> Weights:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
