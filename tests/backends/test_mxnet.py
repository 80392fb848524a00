"""The MXNet backend equals the NumPy reference, on even and odd sides, with no tensor at its default value."""

from dataclasses import replace
from typing import Any, get_args

import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

from residual.architecture import Architecture, Order, Shortcut, changed
from residual.backends import mxnet as backend
from residual.backends import torch as pytorch
from residual.layers import Network
from residual.plan import plan
from residual.reference import forward as reference
from residual.variants import VARIANTS, architecture
from residual.weights import Weights, initialise
from tests.backends.test_torch import CHANGES
from tests.nets import DISTINCT, SMALL, images, random_weights, scaled_down

TOLERANCE = 1e-5  # of the largest value


def made(network: Network, weights: Weights) -> backend.ResidualNet:
    return backend.build(network, weights=weights)


def assert_computes(model: backend.ResidualNet, wanted: dict[str, Any], x: np.ndarray) -> None:
    """Logits and the outputs that `wanted` has besides."""
    found = backend.forward(model, x, [name for name in wanted if name != "logits"])
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == np.float32
        assert found[name].size == value.size, f"{name}: {found[name].shape} instead of {value.shape}"
        difference, largest = np.abs(found[name].reshape(value.shape) - value).max(), np.abs(value).max()
        assert difference <= TOLERANCE * largest, f"{name}: {difference} of {largest}"
    assert np.ptp(wanted["logits"]) > 1e-3, "the network is dead: equality would say nothing"


def assert_equals_the_reference(arch: Architecture, height: int, width: int) -> None:
    """Logits and the output of every layer, block and stage."""
    network = plan(arch)
    weights, x = random_weights(network), images(network, height, width)
    assert_computes(made(network, weights), reference(network, weights, x, network.names()), x)


@pytest.mark.parametrize("name", DISTINCT)
def test_every_variant(name: str) -> None:
    assert_equals_the_reference(DISTINCT[name], 33, 46)


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_order_with_every_shortcut(order: Order, shortcut: Shortcut, block: Any) -> None:
    """An odd number of channels is added in each stage."""
    outer = (4, 7, 12) if block == "basic" else (8, 13, 20)
    arch = Architecture(
        depths=(2, 2, 1), inner_widths=(4, 7, 12), out_widths=outer, strides=(1, 2, 2), stem="cifar", stem_width=4, num_classes=5,
        block=block, order=order, shortcut=shortcut,
    )  # fmt: skip
    assert_equals_the_reference(arch, 11, 8)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("size", [(16, 9), (9, 16)])
def test_every_field(changes: dict[str, Any], size: tuple[int, int]) -> None:
    assert_equals_the_reference(changed(SMALL, changes), *size)


@pytest.mark.parametrize("epsilon", [1e-9, 1e-3])
def test_no_epsilon_is_raised_to_a_least_one(epsilon: float) -> None:
    """The running variances are smaller than the least epsilon of some of MXNet's devices."""
    network = plan(replace(SMALL, bn_epsilon=epsilon))
    weights, x = random_weights(network), images(network, 6, 7)
    for name, value in weights.items():
        if name.endswith("running_var"):
            value *= np.float32(1e-6)
    assert_computes(made(network, weights), reference(network, weights, x, network.names()), x)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 1)])
@pytest.mark.parametrize("arch", [SMALL, replace(SMALL, stem="imagenet"), replace(SMALL, shortcut_pool=True, strides=(3, 2))])
def test_one_pixel_and_one_picture(arch: Architecture, height: int, width: int) -> None:
    assert_equals_the_reference(arch, height, width)


def test_many_channels_are_added_to_few() -> None:
    """Option A adds more channels before the old ones than there are old ones."""
    assert_equals_the_reference(replace(SMALL, shortcut="pad", inner_widths=(4, 23), out_widths=(4, 23)), 8, 9)


def test_weights_come_back_bit_for_bit_and_as_copies() -> None:
    for arch in (SMALL, scaled_down(VARIANTS["se_resnet50"]), scaled_down(VARIANTS["resnet18_d2l"])):
        network = plan(arch)
        weights = random_weights(network, seed=5)
        model = made(network, weights)
        found = backend.get_weights(model)
        assert list(found) == list(weights)
        assert all(found[name].tobytes() == value.tobytes() for name, value in weights.items())
        found["fc.bias"][:] = 9
        weights["fc.bias"][:] = 8
        assert not (model.fc.bias.data().asnumpy() >= 8).any()


def test_wrong_weights_change_nothing() -> None:
    network = plan(SMALL)
    model, weights = made(network, random_weights(network)), random_weights(network, seed=5)
    before = backend.get_weights(model)
    weights["other"] = weights.pop("fc.bias")
    with pytest.raises(ValueError, match=r"missing fc.bias .*extra other"):
        backend.set_weights(model, weights)
    assert all((value == before[name]).all() for name, value in backend.get_weights(model).items())


@pytest.mark.parametrize("name", ["resnet18_d2l", "se_resnet50", "cifar_preact_resnet110"])
def test_a_model_starts_from_the_same_numbers_in_every_framework(name: str) -> None:
    network = plan(scaled_down(VARIANTS[name]))
    found = backend.get_weights(backend.build(network, 7))
    for wanted in (initialise(network, 7), pytorch.get_weights(pytorch.build(network, 7))):
        assert list(found) == list(wanted)
        assert all(found[key].tobytes() == value.tobytes() for key, value in wanted.items())


def test_forward_leaves_the_model_as_it_was() -> None:
    network = plan(SMALL)
    model, x = made(network, random_weights(network)), images(network, 8, 8)
    before = backend.get_weights(model)
    with pytest.raises(ValueError, match=r"no layer 'layer7'"):
        backend.forward(model, x, ["layer7"])
    with mx.autograd.record():
        backend.forward(model, x, ["layer1"])
        assert mx.autograd.is_recording()
        assert mx.autograd.is_training()
    assert not any(block._forward_hooks for block in (model, model.layer1, model.layer2))
    assert all((value == before[name]).all() for name, value in backend.get_weights(model).items())


def test_the_chapter_s_shape_trace() -> None:
    """Zhang et al., "Dive into Deep Learning", section 8.6.3: the shapes printed there."""
    model = backend.build(plan(architecture("resnet18_d2l")))
    stages = ["maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    found = backend.forward(model, np.random.default_rng(0).random((1, 1, 224, 224), np.float32), stages)
    assert [found[name].shape for name in stages] == [
        (1, 64, 56, 56), (1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7), (1, 512, 1, 1), (1, 10),
    ]  # fmt: skip
    assert model(nd.zeros((2, 1, 64, 65))).shape == (2, 10)
