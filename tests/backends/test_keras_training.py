"""Keras trains as PyTorch does: the same gradients, the same losses, and a resumed training ends in the same bits."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from residual.architecture import changed
from residual.backends import torch as torch_backend
from residual.plan import plan
from residual.recipe import Recipe
from residual.weights import Weights
from tests.backends.on_keras import NAME, equal, model_of, opened
from tests.nets import SMALL, images, random_weights

Batch = tuple[np.ndarray, np.ndarray]


def batches(epochs: int, sizes: tuple[int, ...] = (8, 8, 5), side: tuple[int, int] = (9, 8)) -> list[list[Batch]]:
    """Random pictures and labels; the last batch of an epoch is smaller."""
    stream = np.random.default_rng(0)
    return [[(stream.standard_normal((n, 3, *side), np.float32), stream.integers(0, 5, n)) for n in sizes] for _ in range(epochs)]


GROUPS = {"inner_widths": (4, 8), "out_widths": (4, 8), "groups": 4}
GRADIENTS: list[dict[str, Any]] = [
    GROUPS | {"se_reduction": 2},
    {"shortcut": "pad", "stem": "imagenet"},
    {"block": "bottleneck", "out_widths": (9, 14), "order": "preact", "shortcut_pool": True, "strides": (1, 3)},
]


@pytest.mark.parametrize("changes", GRADIENTS, ids=str)
def test_gradients_are_pytorch_s(changes: dict[str, Any]) -> None:
    """The velocity after one step from nothing is the gradient; batch norm takes its batch's statistics."""
    arch = changed(SMALL, changes)
    network, ((batch,),), found = plan(arch), batches(1, (8,), (16, 15)), Weights()
    list(opened().fit(model_of(arch), [[batch]], Recipe(learning_rate=1e-12, weight_decay=0.0), velocity=found))
    model = torch_backend.build(network, weights=random_weights(network))
    logits = model.train()(torch.from_numpy(batch[0]))
    F.cross_entropy(logits, torch.from_numpy(batch[1]), label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]
    wanted = {name: parameter.grad.numpy() for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert value.any(), name
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max(), name


RECIPES: list[dict[str, Any]] = [
    {"weight_decay": 0.05},
    {"schedule": "steps", "warmup": 0.0, "nesterov": False, "weight_decay": 0.05, "decay_norm_and_bias": True, "label_smoothing": 0.0},
    {"momentum": 0.0, "warmup": 0.0},
]


@pytest.mark.parametrize("changes", RECIPES, ids=str)
def test_six_steps_are_pytorch_s(changes: dict[str, Any]) -> None:
    """Schedule, warm-up, momentum, Nesterov's look-ahead, weight decay and label smoothing; all but the running variances.

    Keras keeps the biased variance of a batch, PyTorch the unbiased one.
    """
    sizes = (8, 8, 5) if "schedule" in changes else (8, 8, 8)
    network, recipe, epochs = plan(SMALL), Recipe(**{"learning_rate": 0.1, **changes}), batches(2, sizes)
    moving, wanted = Weights(), Weights()
    model, twin = opened().build(network, 3), torch_backend.build(network, 3)
    ends = list(opened().fit(model, epochs, recipe, velocity=moving))
    expected = list(torch_backend.fit(twin, epochs, recipe, velocity=wanted))
    assert [(end.epoch, end.steps, len(end.losses)) for end in ends] == [(1, 3, 3), (2, 6, 3)]
    for end, other in zip(ends, expected, strict=True):
        assert end.losses == pytest.approx(other.losses, rel=1e-5)
        assert end.train_loss == pytest.approx(other.train_loss, rel=1e-5)
        assert end.train_accuracy == pytest.approx(other.train_accuracy, abs=1e-6)
    assert moving.keys() == wanted.keys()
    assert bool(moving) == (recipe.momentum > 0)
    for name, value in (torch_backend.get_weights(twin) | wanted).items():
        if not name.endswith("running_var"):
            found = moving[name] if name in wanted else opened().get_weights(model)[name]
            assert np.abs(found - value).max() <= 1e-4 * np.abs(value).max() + 1e-7, name


def test_a_resumed_training_ends_in_the_same_bits() -> None:
    """Also what is dropped, and by another model in another state."""
    backend, network, epochs = opened(), plan(changed(SMALL, {"dropout": 0.5, "drop_path": 0.5})), batches(4, (8,))
    whole, moving = backend.build(network), Weights()
    training = backend.fit(whole, epochs, Recipe(), velocity=moving)
    ends = [next(training), next(training)]
    kept, weights = dict(moving), backend.get_weights(whole)
    wanted = [*ends, *training]
    other = backend.build(network, 9)
    backend.set_weights(other, weights)
    ends += backend.fit(other, epochs, Recipe(), velocity=kept, first=2)
    assert [end.epoch for end in wanted] == [1, 2, 3, 4]
    assert ends == wanted
    assert equal(kept, moving)
    assert equal(backend.get_weights(other), backend.get_weights(whole))


def test_what_is_dropped_differs_between_epochs_and_seeds() -> None:
    arch = changed(SMALL, {"dropout": 0.5, "drop_path": 0.5})
    epoch, still = batches(1, (8,))[0], {"learning_rate": 1e-12, "weight_decay": 0.0}
    one, other = (list(opened().fit(model_of(arch), [epoch] * 2, Recipe(seed=seed, **still))) for seed in (0, 1))
    assert len({end.losses for end in (*one, *other)}) == 4


def test_units_are_dropped_one_by_one_and_branches_whole() -> None:
    """Each with its probability, and what is kept is scaled up."""
    model = model_of(changed(SMALL, {"dropout": 0.25, "depths": (1, 1), "drop_path": 0.6}))
    for name, rate, whole in (("layer1.0.dropout", 0.25, False), ("layer1.0.drop_path", 0.3, True), ("layer2.0.drop_path", 0.6, True)):
        found = np.asarray(model.get_layer(name)(np.ones((4000, 2, 1, 4), np.float32), training=True)).reshape(4000, -1)
        assert (found == 0).mean() == pytest.approx(rate, abs=0.03), name
        assert set(np.unique(found)) == {0, np.float32(1 / (1 - rate))}
        assert (np.ptp(found, axis=1) == 0).all() == whole


def test_frozen_layers_stay_and_keep_their_statistics() -> None:
    model, backend = model_of(), opened()
    before, moving = backend.get_weights(model), Weights()
    for layer in model.layers:
        layer.trainable = layer.name in ("fc", "bn1")
    ends = list(backend.fit(model, batches(1), Recipe(), velocity=moving))
    after = backend.get_weights(model)
    assert len(ends) == 1
    moved = {name for name, value in before.items() if (after[name] != value).any()}
    assert moved == {"fc.weight", "fc.bias", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"}
    assert moving.keys() == {"fc.weight", "fc.bias", "bn1.weight", "bn1.bias"}
    assert {layer.name for layer in model.layers if layer.trainable} == {"fc", "bn1"}
    model.trainable = False
    with pytest.raises(ValueError, match="set trainable=True"):
        backend.fit(model, batches(1), Recipe())


def test_the_user_s_own_compilation_stays() -> None:
    model = model_of()
    model.compile("adam", "mse")
    list(opened().fit(model, batches(1, (4,)), Recipe()))
    assert type(model.optimizer).__name__ == "Adam"


def test_velocity_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"velocity does not fit the model: it has no bn1\.bias, "):
        list(opened().fit(model_of(), batches(1), Recipe(), velocity={"conv1.weight": np.zeros((4, 3, 3, 3), np.float32)}))


def test_what_it_cannot_do_is_refused_before_a_step() -> None:
    with pytest.raises(ValueError, match=f"The backend '{NAME}' cannot train with mixup=0.2: set mixup=0"):
        opened().fit(model_of(), batches(1), Recipe(mixup=0.2))
    with pytest.raises(ValueError, match="optimizer='adamw'"):
        opened().check(Recipe(optimizer="adamw"))


class Stream:
    """An epoch that can be iterated once; it notes the memory in use, and fails at the batch `broken`."""

    def __init__(self, count: int, broken: int = -1) -> None:
        self.count, self.broken, self.used = count, broken, list[int]()

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        assert not self.used, "asked for twice"
        for number in range(self.count):
            if number == self.broken:
                raise ValueError(f"picture {number} cannot be read")
            self.used.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 if sys.platform == "linux" else 0)
            yield np.full((16, 3, 128, 128), number, np.float32), np.arange(16) % 5


THIN = changed(SMALL, {"depths": (1,), "inner_widths": (2,), "out_widths": (2,), "strides": (8,), "stem": "patch", "stem_width": 2})


def test_batches_are_made_when_they_are_needed() -> None:
    """An epoch of 750 MB passes through a fraction of that; JAX computes up to 32 steps behind."""
    epochs = [Stream(240), Stream(2)]
    training = opened().fit(model_of(THIN), epochs, Recipe())
    next(training)
    assert not epochs[1].used
    assert len(epochs[0].used) == 240
    assert max(epochs[0].used[60:]) - epochs[0].used[60] < 150e6
    next(training)


def test_an_error_of_the_batches_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match=r"^picture 3 cannot be read$"):
        list(opened().fit(model_of(THIN), [Stream(5, broken=3)], Recipe()))


def test_a_batch_of_one_picture() -> None:
    arch = changed(SMALL, GROUPS | {"se_reduction": 2, "drop_path": 0.2})
    (end,) = opened().fit(model_of(arch), [[(images(plan(arch), 8, 8, 1), np.asarray([1]))]], Recipe())
    assert np.isfinite(end.losses).all()
