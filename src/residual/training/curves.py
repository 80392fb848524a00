"""Training one architecture after another on the same pictures, for studies that compare many: no run folder, no model file.

The surprising thing: the seed of a training is that of first values, order and augmentation alone; which pictures are trained on and
which are held out stays.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from residual.architecture import Architecture
from residual.backends import torch as pytorch
from residual.backends.torch_training import training_form
from residual.cost import cost
from residual.data import look, open_source
from residual.plan import plan
from residual.recipe import EpochEnd, Recipe
from residual.runs import as_json
from residual.training.feed import Normaliser
from residual.training.loop import Setting, State, fit
from residual.training.machine import Trial, machine, settle_threads
from residual.training.prepare import Prepared, Progress, prepare
from residual.weights import Weights

_SAMPLE = 128  # pictures that gradients are taken on


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Pictures that are ready to be trained on.

    Attributes:
        told: which they are, ready for JSON.
    """

    recipe: Recipe
    prepared: Prepared
    channels: int
    classes: int
    told: dict[str, Any]

    def sample(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The first training pictures, N C H W as the network sees them without augmentation, and their labels."""
        rows = np.arange(min(_SAMPLE, len(self.prepared.train)))
        pictures, labels, _ = next(iter(self.prepared.train.read([rows])))
        found = Normaliser(self.prepared.preprocessing, pictures.device)(pictures)
        return found.contiguous().cpu().numpy(), labels.cpu().numpy()


def ground(data: Any, recipe: Recipe, *, count: int = 0, seed: int = 0, progress: Progress | None = None) -> Ground:
    """`count` training pictures (0: all) of `data`, drawn by `seed`, at the recipe's size, some held out; no test picture is opened."""
    source = open_source(data)
    records = source.splits["train"]
    if count < 0 or 0 < count < 2 * recipe.batch_size:
        raise ValueError(f"count is {count}, but must be 0 (all) or at least {2 * recipe.batch_size}: two batches.")
    rows = np.arange(len(records), dtype=np.int64)
    if 0 < count < len(records):
        rows = np.sort(np.random.Generator(np.random.Philox(key=seed)).permutation(len(records))[:count])
    chosen = records.subset(rows)
    splits = {"train": chosen} | ({"validation": source.splits["validation"]} if "validation" in source.splits else {})
    seen = look(chosen)
    size = (recipe.image_size,) * 2 if recipe.image_size else seen.size
    device = torch.device(machine().device)
    prepared = prepare(replace(source, splits=splits), recipe, size, seen.channels, device=device, progress=progress)
    held = len(prepared.validation) if prepared.validation is not None else 0
    told = {
        "name": source.name, "split": "train", "count": len(chosen), "of": len(records), "seed": seed, "classes": len(source.classes),
        "trained_on": len(prepared.train), "held_out": held, "size": list(size), "channels": seen.channels,
        "hash": hashlib.sha256(rows.tobytes() + repr(as_json(source.fingerprint)).encode()).hexdigest()[:16],
    }  # fmt: skip
    return Ground(recipe=recipe, prepared=prepared, channels=seen.channels, classes=len(source.classes), told=told)


def train(ground: Ground, arch: Architecture, seed: int) -> tuple[tuple[EpochEnd, ...], Weights]:
    """What each epoch of a whole training gave, and the weights at its end."""
    recipe, prepared, device = replace(ground.recipe, seed=seed), ground.prepared, torch.device(machine().device)
    size = prepared.preprocessing.size
    cost(arch, size)  # refuses pictures that are too small for the strides
    settle_threads(arch, size, Trial(batch=recipe.batch_size))
    model = pytorch.build(plan(arch), seed).to(device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(model=model, optimizer=pytorch.optimizer(model, recipe), warm=not recipe.warmup_rate)
    half = recipe.precision == "bfloat16"
    setting = Setting(
        recipe=recipe, train=prepared.train, validation=prepared.validation, normalise=Normaliser(prepared.preprocessing, device),
        size=size, device=device, half=half, call=training_form(model, half=half),
    )  # fmt: skip
    ends = tuple(event for event in fit(state, setting) if isinstance(event, EpochEnd))
    return ends, pytorch.get_weights(model)


__all__ = ["Ground", "ground", "train"]
