"""The Keras backend equals the NumPy reference, on even and odd sides, with no tensor at its default value.

KERAS_BACKEND=jax runs this file and its neighbours on JAX.
"""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from residual.architecture import Architecture, Order, Shortcut, changed
from residual.backends import backend_of, open_backend
from residual.backends import torch as torch_backend
from residual.plan import plan
from residual.variants import VARIANTS
from residual.weights import initialise
from tests.backends.on_keras import NAME, TOLERANCE, equal, largest_difference, model_of, opened
from tests.backends.test_torch import CHANGES
from tests.nets import DISTINCT, SMALL, images, random_weights, scaled_down


def assert_equals_the_reference(arch: Architecture, *sizes: tuple[int, int]) -> None:
    """Logits and the output of every layer, block and stage; the weights come back as they were set."""
    model, network = model_of(arch), plan(arch)
    for size in sizes:
        assert largest_difference(model, arch, size, network.names()) <= TOLERANCE
    assert equal(opened().get_weights(model), random_weights(network))


@pytest.mark.parametrize("name", DISTINCT)
def test_every_variant(name: str) -> None:
    assert_equals_the_reference(DISTINCT[name], (33, 46))


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
    assert_equals_the_reference(arch, (11, 8))


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_field(changes: dict[str, Any]) -> None:
    assert_equals_the_reference(changed(SMALL, changes), (16, 9), (9, 16))


def test_one_pixel_and_one_picture() -> None:
    assert_equals_the_reference(replace(SMALL, stem="imagenet"), (1, 1))
    assert_equals_the_reference(SMALL, (2, 1))


def test_without_taps_the_compiled_model_says_the_same() -> None:
    """A grouped and a squeezing net too, and more pictures than the first time."""
    for changes in ({"inner_widths": (4, 8), "out_widths": (4, 8), "groups": 4}, {"se_reduction": 2, "shortcut": "pad"}):
        arch = changed(SMALL, changes)
        model = model_of(arch)
        assert largest_difference(model, arch, (9, 12), []) <= TOLERANCE
        x = images(model.plan, 9, 12, count=5)
        found, eager = opened().forward(model, x), opened().forward(model, x, ["layer1"])
        assert list(found) == ["logits"]
        assert np.abs(found["logits"] - eager["logits"]).max() <= TOLERANCE * np.abs(eager["logits"]).max()


def test_weights_are_copies_and_wrong_ones_change_nothing() -> None:
    model, backend, weights = model_of(), opened(), random_weights(plan(SMALL), seed=5)
    before = backend.get_weights(model)
    assert all(value.flags.c_contiguous for value in before.values())
    backend.get_weights(model)["fc.bias"][:] = 9
    assert equal(backend.get_weights(model), before)
    backend.set_weights(model, weights)
    weights["fc.bias"][:] = 8
    assert not (backend.get_weights(model)["fc.bias"] == 8).any()
    backend.set_weights(model, before)
    weights["other"] = weights.pop("fc.bias")
    with pytest.raises(ValueError, match=r"missing fc.bias .*extra other"):
        backend.set_weights(model, weights)
    assert equal(backend.get_weights(model), before)


def test_unknown_taps_are_refused() -> None:
    model = model_of()
    with pytest.raises(ValueError, match=r"no layer 'layer7'; its layers: .*layer2.0.conv1"):
        opened().forward(model, images(model.plan, 8, 8), ["layer7"])


@pytest.mark.parametrize("name", ["resnet18_d2l", "se_resnet50"])
def test_a_model_starts_from_the_core_s_values_as_pytorch_s_does(name: str) -> None:
    network = plan(scaled_down(VARIANTS[name]))
    found = opened().get_weights(opened().build(network, 7))
    assert equal(found, initialise(network, 7))
    assert equal(found, torch_backend.get_weights(torch_backend.build(network, 7)))
    assert not equal(found, initialise(network, 8))


def test_the_backend_is_known_by_its_model_and_cannot_change() -> None:
    model, other = model_of(), {"tensorflow": "jax", "jax": "tensorflow"}[NAME]
    assert backend_of(model) is opened()
    assert open_backend(NAME) is opened()
    with pytest.raises(ValueError, match=f"Keras runs on {NAME} in this process"):
        open_backend(other)


def test_the_chapter_s_shape_trace() -> None:
    """Zhang et al., Dive into Deep Learning, section 8.6.2."""
    model = opened().build(plan(VARIANTS["resnet18_d2l"]))
    stages = ["maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    found = opened().forward(model, np.random.default_rng(0).random((1, 1, 224, 224), np.float32), stages)
    assert [found[name].shape for name in stages] == [
        (1, 64, 56, 56), (1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7), (1, 512, 1, 1), (1, 10),
    ]  # fmt: skip
