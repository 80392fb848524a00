"""Training by a backend's own `fit` on the loop's batches. PyTorch's takes part like any other, and must then repeat the loop."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from residual.backends import torch as backend
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.recipe import EpochEnd, Recipe
from residual.training import loop, portable
from residual.training.feed import Normaliser, Resident
from tests.nets import SMALL

RECIPE = Recipe(
    epochs=4, batch_size=6, flip="alternate", crop_padding=1, warmup=0.2, weight_decay=0.01, label_smoothing=0.1, channels_last=False,
    precision="float32",
)  # fmt: skip


@pytest.fixture
def setting() -> loop.Setting:
    """25 pictures to train on (a last batch of one, which is left out) and 10 held out."""
    stream = np.random.default_rng(3)
    decoded: Any = SimpleNamespace(images=stream.integers(0, 256, (35, 10, 10, 3), np.uint8), labels=stream.integers(0, 5, 35))
    cpu = torch.device("cpu")
    return loop.Setting(
        recipe=RECIPE, train=Resident(decoded, np.arange(25), cpu), validation=Resident(decoded, np.arange(25, 35), cpu),
        normalise=Normaliser(Preprocessing(size=(10, 10), channels=3, mean=(0.5,) * 3, std=(0.2,) * 3), cpu), size=(10, 10), device=cpu,
        half=False, call=backend.build(plan(SMALL)),
    )  # fmt: skip


def state() -> portable.PortableState:
    return portable.PortableState(model=backend.build(plan(SMALL), 1))


def test_it_takes_the_loops_own_steps(setting: loop.Setting) -> None:
    model = backend.build(plan(SMALL), 1)
    looped = loop.State(model=model, optimizer=backend.optimizer(model, RECIPE))
    started = loop.Setting(**{**vars(setting), "call": model})
    wanted = [end for end in loop.fit(looped, started) if isinstance(end, EpochEnd)]
    found = list(portable.fit(state(), setting))
    assert [end.losses for end in found] == [end.losses for end in wanted]
    assert [(end.validation_loss, end.validation_accuracy) for end in found] == [(e.validation_loss, e.validation_accuracy) for e in wanted]
    assert [(end.epoch, end.steps, end.learning_rate) for end in found] == [(e.epoch, e.steps, e.learning_rate) for e in wanted]


def test_what_was_stopped_ends_in_the_same_weights(setting: loop.Setting, tmp_path: Path) -> None:
    whole, first, second = state(), state(), state()
    list(portable.fit(whole, setting))
    events = portable.fit(first, setting)
    next(events), next(events)
    events.close()
    portable.save(tmp_path, first)
    portable.restore(tmp_path, second)
    assert (second.epoch, second.step, second.best_epoch) == (2, 8, first.best_epoch)
    assert [end.epoch for end in portable.fit(second, setting)] == [3, 4]
    for name, value in backend.get_weights(whole.model).items():
        np.testing.assert_array_equal(backend.get_weights(second.model)[name], value, err_msg=name)


def test_patience_ends_it(setting: loop.Setting) -> None:
    patient = loop.Setting(**{**vars(setting), "recipe": Recipe(**{**vars(RECIPE), "patience": 1, "learning_rate": 1e-12})})
    found = state()
    ends = list(portable.fit(found, patient))
    assert len(ends) == found.epoch == found.best_epoch + 1 < RECIPE.epochs


def test_a_damaged_checkpoint_is_named(setting: loop.Setting, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no checkpoint"):
        portable.restore(tmp_path, state())
    portable.save(tmp_path, state())
    file = tmp_path / "checkpoint" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:999])
    with pytest.raises(ValueError, match=r"last\.safetensors is damaged"):
        portable.restore(tmp_path, state())
