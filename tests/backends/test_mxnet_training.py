"""Gradients and training steps in MXNet are PyTorch's; a training that was stopped ends in the same bits."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from mxnet import autograd, nd
from torch.nn import functional as F

from residual.architecture import Architecture, changed
from residual.backends import mxnet as backend
from residual.backends import torch as pytorch
from residual.backends.mxnet_training import cross_entropy
from residual.plan import plan
from residual.recipe import Recipe
from residual.weights import Weights
from tests.backends.test_mxnet import made
from tests.nets import DISTINCT, LOOKALIKES, SMALL, images, random_weights, scaled_down

RECIPE = Recipe(learning_rate=0.2, warmup=0.3, momentum=0.9, weight_decay=0.01, label_smoothing=0.1)
LABELS = np.asarray([0, 1, 2, 3, 4, 1])


def _epochs(count: int = 4, steps: int = 3) -> list[list[tuple[Any, Any]]]:
    """Batches of 6 pictures, the last of each epoch of 4."""
    stream = np.random.default_rng(0)
    sizes = [6] * (steps - 1) + [4]
    return [[(stream.standard_normal((n, 3, 8, 9), np.float32), stream.integers(0, 5, n)) for n in sizes] for _ in range(count)]


def _gradients(arch: Architecture, x: Any) -> tuple[Weights, Weights, Weights, Weights]:
    """Of both frameworks, and their tensors after the running statistics have moved.

    With these weights no unit is so near a ReLU's kink that float32 and float64 differ in its sign.
    """
    network = plan(arch)
    weights = random_weights(network, seed=1)
    ours, theirs = made(network, weights), pytorch.build(network)
    pytorch.set_weights(theirs, weights)
    F.cross_entropy(theirs.train()(torch.from_numpy(x)), torch.from_numpy(LABELS), label_smoothing=0.1).backward()  # type: ignore[no-untyped-call]
    with autograd.record():
        loss = cross_entropy(ours(nd.array(x)), nd.array(LABELS), 0.1)
    loss.backward()
    found = {n: p.grad().asnumpy() for n, p in backend._parameters(ours).items() if p.grad_req != "null"}
    wanted = {n: p.grad.numpy() for n, p in theirs.named_parameters() if p.grad is not None}
    return found, wanted, backend.get_weights(ours), pytorch.get_weights(theirs)


NETS = [
    SMALL,
    changed(SMALL, {"se_reduction": 2, "conv_bias": True}),
    changed(SMALL, {"shortcut": "pad", "strides": (2, 3)}),
    changed(SMALL, {"shortcut": "pad", "inner_widths": (4, 23), "out_widths": (4, 23)}),
    changed(SMALL, {"shortcut": "projection-all", "shortcut_pool": True, "stem": "imagenet"}),
    changed(SMALL, {"order": "preact", "inner_widths": (4, 8), "out_widths": (4, 8), "groups": 4}),
    changed(SMALL, {"order": "bn-after-addition", "stem": "deep", "bn_epsilon": 1e-2}),
    scaled_down(LOOKALIKES["keras_resnet50v2"]),
    scaled_down(LOOKALIKES["gluon_resnet50_v2"]),
]


@pytest.mark.parametrize("arch", NETS, ids=range(len(NETS)))
def test_gradients_are_pytorch_s(arch: Architecture) -> None:
    """In training, with the batch's own statistics. A bias before a batch norm has no gradient but rounding, of the size of the others'."""
    found, wanted, *_ = _gradients(arch, images(plan(arch), *((9, 12) if arch.stem in ("cifar", "deep") else (33, 34)), len(LABELS)))
    assert found.keys() == wanted.keys()
    overall = max(np.abs(value).max() for value in wanted.values())
    for name, value in wanted.items():
        scale = max(np.abs(value).max(), 0.1 * overall)
        assert np.abs(found[name] - value).max() <= 1e-4 * scale, name


def test_running_variances_are_the_biased_ones() -> None:
    """PyTorch keeps n / (n - 1) times the batch's variance; the running means are the same."""
    arch = replace(SMALL, bn_momentum=0.25)
    x, before = images(plan(arch), 6, 7, len(LABELS)), random_weights(plan(arch), seed=1)
    *_, found, wanted = _gradients(arch, x)
    assert np.allclose(found["bn1.running_mean"], wanted["bn1.running_mean"], rtol=1e-5, atol=1e-6)
    old, n = 0.75 * before["bn1.running_var"], len(LABELS) * 6 * 7
    assert np.allclose((found["bn1.running_var"] - old) * n / (n - 1), wanted["bn1.running_var"] - old, rtol=1e-5)
    assert not np.allclose(found["bn1.running_var"] - old, wanted["bn1.running_var"] - old, rtol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": False, "schedule": "cosine"},
        {"decay_norm_and_bias": True, "schedule": "steps"},
        {"momentum": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0},
    ],
    ids=str,
)
def test_fit_takes_pytorch_s_steps(changes: dict[str, Any]) -> None:
    recipe, network, epochs = replace(RECIPE, **changes), plan(SMALL), _epochs(2)
    models: list[tuple[Any, Any]] = [(backend, backend.build(network, 3)), (pytorch, pytorch.build(network, 3))]
    velocities: list[Weights] = [{}, {}]
    found, wanted = (list(m.fit(model, epochs, recipe, velocity=v)) for (m, model), v in zip(models, velocities, strict=True))
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.allclose(ours.losses, theirs.losses, rtol=1e-5, atol=0)
        assert (ours.epoch, ours.steps, ours.train_accuracy) == (theirs.epoch, theirs.steps, theirs.train_accuracy)
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-5)
    assert velocities[0].keys() == velocities[1].keys()
    assert bool(velocities[0]) == bool(recipe.momentum)
    first, second = (m.get_weights(model) for m, model in models)
    for one, other in (velocities, (first, second)):
        for name in (name for name in one if "running_var" not in name):
            assert np.abs(one[name] - other[name]).max() <= 1e-4 * np.abs(other[name]).max(), name


def test_fit_learns_and_takes_each_batch_once() -> None:
    class Once:
        def __init__(self, batches: list[Any]) -> None:
            self.batches = batches

        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[Any]:
            while self.batches:
                yield self.batches.pop(0)

    stream = np.random.default_rng(0)
    labels = stream.integers(0, 2, 64)
    x = (stream.standard_normal((64, 3, 8, 8)) + (2 * labels - 1)[:, None, None, None]).astype(np.float32)
    epochs = [Once([(x[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]) for _ in range(6)]
    model = backend.build(plan(changed(SMALL, {"num_classes": 2})))
    ends = list(backend.fit(model, epochs, Recipe(learning_rate=0.05, warmup=0.0, label_smoothing=0.0)))
    assert [(end.epoch, end.steps, len(end.losses)) for end in ends] == [(n, 4 * n, 4) for n in range(1, 7)]
    assert ends[-1].train_loss < 0.3 * ends[0].train_loss
    assert ends[-1].train_accuracy > 0.95


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.5, "drop_path": 0.5}], ids=str)
def test_what_was_stopped_ends_in_the_same_bits(changes: dict[str, Any]) -> None:
    network, epochs = plan(changed(SMALL, changes)), _epochs()
    whole, stopped, resumed = (backend.build(network, 1) for _ in range(3))
    wanted, velocity = dict[str, Any](), dict[str, Any]()
    ends = list(backend.fit(whole, epochs, RECIPE, velocity=wanted))
    events = backend.fit(stopped, epochs, RECIPE, velocity=velocity)
    next(events), next(events)
    events.close()
    backend.set_weights(resumed, backend.get_weights(stopped))
    assert list(backend.fit(resumed, epochs, RECIPE, velocity=velocity, first=2)) == ends[2:]
    for one, other in ((velocity, wanted), (backend.get_weights(resumed), backend.get_weights(whole))):
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == value.tobytes() for name, value in other.items())


def test_what_is_frozen_stays_as_it_is() -> None:
    model = backend.build(plan(SMALL))
    model.layer1.collect_params().setattr("grad_req", "null")
    before, velocity = backend.get_weights(model), dict[str, Any]()
    list(backend.fit(model, _epochs(1), RECIPE, velocity=velocity))
    moved = {name for name, value in backend.get_weights(model).items() if (value != before[name]).any() and "running" not in name}
    assert moved == velocity.keys()
    assert moved == {name for name in before if not name.startswith("layer1") and "running" not in name}


def test_what_it_cannot_do_it_refuses() -> None:
    model = backend.build(plan(SMALL))
    with pytest.raises(ValueError, match=r"'mxnet' cannot train with mixup=0.2: set mixup=0"):
        next(backend.fit(model, _epochs(1), replace(RECIPE, mixup=0.2)))


@pytest.mark.parametrize("name", DISTINCT)
def test_gradients_reach_every_parameter_and_are_finite(name: str) -> None:
    network = plan(DISTINCT[name])
    model = made(network, random_weights(network))
    model.hybridize()
    with autograd.record():
        loss = cross_entropy(model(nd.array(images(network, 17, 18, len(LABELS)))), nd.array(LABELS), 0.1)
    loss.backward()
    for key, parameter in backend._parameters(model).items():
        if parameter.grad_req != "null":
            gradient = parameter.grad().asnumpy()
            assert np.isfinite(gradient).all(), key
            assert gradient.any() or gradient.ndim == 1, key
