"""A network that moves with batch norm folded away equals the NumPy float64 reference at every point."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from residual.architecture import Architecture, Order, Shortcut
from residual.backends import torch as backend
from residual.backends.torch_moving import MovingNet
from residual.plan import plan
from residual.reference import forward as reference
from residual.variants import VARIANTS
from residual.weights import Weights
from tests.nets import DISTINCT, SMALL, images, random_weights

TOLERANCE = 1e-5  # of the loss
STEPS = ((0.0, 0.0), (0.5, -1.0), (-0.75, 0.25))


def moved(center: Weights, steps: tuple[float, ...], directions: list[Weights]) -> Weights:
    found = {name: value.astype(np.float64) for name, value in center.items()}
    for step, direction in zip(steps, directions, strict=True):
        found = {name: value + step * direction[name] for name, value in found.items()}
    return {name: value.astype(np.float32) for name, value in found.items()}


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    highest = logits.max(1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
    return total - logits[np.arange(len(labels)), labels]


def directions_of(center: Weights, *, biases: bool = True) -> list[Weights]:
    """Random steps in kernels and biases, none in batch norm: a tensor beside a running mean is a norm's."""
    stream = np.random.default_rng(4)
    norms = {name.removesuffix("running_mean") for name in center if name.endswith("running_mean")}
    found = []
    for _ in range(2):
        drawn = {name: (0.3 * value.std() * stream.standard_normal(value.shape)).astype(np.float32) for name, value in center.items()}
        for name, value in drawn.items():
            if name.rpartition(".")[0] + "." in norms or (value.ndim == 1 and not biases):
                value[...] = 0
        found.append(drawn)
    return found


def assert_equals_the_reference(arch: Architecture, height: int, width: int) -> None:
    network = plan(arch)
    center, x = random_weights(network), images(network, height, width, 3)
    labels = np.arange(3) % network.num_classes
    directions = directions_of(center)
    net = MovingNet(network, center, x, labels)
    ready = [net.direction(direction) for direction in directions]
    for steps in STEPS:
        logits = reference(network, moved(center, steps, directions), x)["logits"]
        losses, wrong = net.losses(steps, ready)
        wanted = cross_entropy(logits, labels)
        assert losses.dtype == np.float64
        assert np.abs(losses - wanted).max() <= TOLERANCE * max(np.abs(wanted).max(), np.abs(logits).max()), steps
        assert np.array_equal(wrong, logits.argmax(1) != labels)


@pytest.mark.parametrize("name", DISTINCT)
def test_every_variant(name: str) -> None:
    assert_equals_the_reference(DISTINCT[name], 33, 46)


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
def test_every_order_with_every_shortcut(order: Order, shortcut: Shortcut) -> None:
    arch = Architecture(
        depths=(2, 2, 1), inner_widths=(4, 7, 12), out_widths=(4, 7, 12), strides=(1, 2, 2), stem="cifar", stem_width=4, num_classes=5,
        order=order, shortcut=shortcut, conv_bias=True, se_reduction=2, dropout=0.5,
    )  # fmt: skip
    assert_equals_the_reference(arch, 11, 8)


def test_the_loss_of_many_pictures_is_near_the_reference_to_a_hundred_thousandth() -> None:
    """The mean loss of a network as it is used, cut into several parts: 1e-5 of the loss itself."""
    network = plan(VARIANTS["cifar_resnet20"])
    center, x = random_weights(network), images(network, 32, 32, 70)
    labels = np.random.default_rng(0).integers(0, 10, 70)
    directions = directions_of(center, biases=False)
    net = MovingNet(network, center, x, labels)
    ready = [net.direction(direction) for direction in directions]
    for steps in ((0.0, 0.0), (0.1, -0.2)):
        wanted = cross_entropy(reference(network, moved(center, steps, directions), x)["logits"], labels)
        losses, _ = net.losses(steps, ready)
        assert losses.mean() == pytest.approx(wanted.mean(), rel=TOLERANCE)


def test_a_point_is_the_same_whatever_was_visited_before() -> None:
    network = plan(SMALL)
    center, x = random_weights(network), images(network, 8, 9, 5)
    net = MovingNet(network, center, x, np.zeros(5, np.int64))
    ready = [net.direction(direction) for direction in directions_of(center)]
    first, _ = net.losses((0.3, -0.4), ready)
    net.losses((100.0, 1.0), ready)
    assert np.array_equal(net.losses((0.3, -0.4), ready)[0], first)
    assert not np.array_equal(net.losses((-0.4, 0.3), ready)[0], first)


@pytest.mark.parametrize("arch", [SMALL, replace(SMALL, order="preact"), replace(SMALL, dropout=0.5, conv_bias=True)], ids=str)
def test_batch_statistics_are_those_of_pytorch_in_training(arch: Architecture) -> None:
    """Against PyTorch's own training mode in float64; two batches of unequal statistics."""
    network = plan(arch)
    center, x = random_weights(network), images(network, 6, 5, 310)
    x[:155] *= 3
    labels = np.random.default_rng(0).integers(0, 5, 310)
    directions, steps = directions_of(center), (0.5, -0.25)
    net = MovingNet(network, center, x, labels, statistics="batch")
    losses, _ = net.losses(steps, [net.direction(direction) for direction in directions])
    model = backend.build(plan(replace(arch, dropout=0.0)), weights=moved(center, steps, directions))
    model.double().train()
    with torch.no_grad():
        logits = np.concatenate([model(torch.from_numpy(part).double()).numpy() for part in (x[:155], x[155:])])
    assert np.abs(losses - cross_entropy(logits, labels)).max() <= TOLERANCE * np.abs(logits).max()


def test_statistics_of_the_pictures_forgive_a_scaled_filter() -> None:
    """Behind a batch norm a filter's scale means nothing, unless the running statistics of another scale are kept."""
    network = plan(replace(SMALL, bn_epsilon=1e-12))
    center, x = random_weights(network), images(network, 8, 9, 20)
    scaling = {name: value if name == "conv1.weight" else np.zeros_like(value) for name, value in center.items()}
    changes = {}
    for statistics in ("inference", "batch"):
        net = MovingNet(network, center, x, np.zeros(20, np.int64), statistics=statistics)
        ready = [net.direction(scaling)]
        changes[statistics] = np.abs(net.losses((2.0,), ready)[0] - net.losses((0.0,), ready)[0]).max()
    assert changes["batch"] < 1e-5
    assert changes["inference"] > 0.1


def test_mistakes_are_told() -> None:
    network = plan(SMALL)
    center, x = random_weights(network), images(network, 8, 9, 5)
    labels = np.zeros(5, np.int64)
    net = MovingNet(network, center, x, labels)
    with pytest.raises(ValueError, match=r"moves bn1\.weight, but batch norm must stand still"):
        net.direction({**{name: np.zeros_like(value) for name, value in center.items()}, "bn1.weight": center["bn1.weight"]})
    with pytest.raises(ValueError, match=r"missing fc\.bias"):
        net.direction({name: value for name, value in center.items() if name != "fc.bias"})
    with pytest.raises(ValueError, match="the network takes N x 3 x height x width"):
        MovingNet(network, center, x[:, :1], labels)
    with pytest.raises(ValueError, match="labels from 0 to 4"):
        MovingNet(network, center, x, labels + 5)
    with pytest.raises(ValueError, match="as many labels"):
        MovingNet(network, center, x, labels[:4])
