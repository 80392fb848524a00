"""Each way in which networks that look alike differ is seen by the comparison with the reference."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from residual.architecture import Architecture, changed
from residual.layers import Block, Network, PadChannels
from residual.plan import plan
from tests.backends.on_keras import TOLERANCE, largest_difference, model_of, opened
from tests.nets import SMALL, random_weights

SIZE = (16, 9)
STRIDED = changed(SMALL, {"stem": "imagenet"})


def share(model: Any, arch: Architecture) -> float:
    return largest_difference(model, arch, SIZE, ["conv1"])


def cloned(arch: Architecture, change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Any:
    """The model of `arch` with `change` applied to each layer's type and settings, and the weights of `model_of`."""
    import keras

    def again(layer: Any) -> Any:
        return type(layer).from_config(change(type(layer).__name__, layer.get_config()))

    model = model_of(arch)
    twin = keras.models.clone_model(model, clone_function=again)
    opened().set_weights(twin, opened().get_weights(model))
    return twin


def of_network(network: Network) -> Any:
    """The model of a plan that was tampered with, and what it takes of the right weights."""
    model, right = opened().build(network), random_weights(plan(network.architecture))
    opened().set_weights(model, {name: right[name] for name in opened().get_weights(model)})
    return model


def with_blocks(arch: Architecture, change: Callable[[Block], Block]) -> Network:
    network = plan(arch)
    return replace(network, stages=tuple(replace(stage, blocks=tuple(map(change, stage.blocks))) for stage in network.stages))


def test_nothing_changed_is_nothing_seen() -> None:
    assert share(cloned(STRIDED, lambda _, settings: settings), STRIDED) <= TOLERANCE
    assert share(of_network(with_blocks(SMALL, lambda block: block)), SMALL) <= TOLERANCE


def test_same_padding_at_stride_two() -> None:
    def same(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
        if kind == "Conv2D":
            return settings | {"padding": "same"}
        return settings | {"padding": 0} if kind == "ZeroPadding2D" else settings

    assert share(cloned(STRIDED, same), STRIDED) > TOLERANCE


def test_the_default_epsilon() -> None:
    def default(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
        return settings | {"epsilon": 1e-3} if kind == "BatchNormalization" else settings

    assert share(cloned(SMALL, default), SMALL) > TOLERANCE


def test_swapped_gamma_and_beta() -> None:
    model, swapped = model_of(), random_weights(plan(SMALL))
    swapped["bn1.weight"], swapped["bn1.bias"] = swapped["bn1.bias"], swapped["bn1.weight"]
    opened().set_weights(model, swapped)
    assert share(model, SMALL) > TOLERANCE


def test_the_identity_for_a_projection() -> None:
    arch = changed(SMALL, {"shortcut": "projection-all"})
    network = with_blocks(arch, lambda block: replace(block, shortcut=()) if block.name == "layer1.0" else block)
    assert share(of_network(network), arch) > TOLERANCE


def test_zeros_around_a_max_pool() -> None:
    """Seen where values below zero are pooled."""
    arch = changed(STRIDED, {"order": "preact", "preact_start": "block"})
    network = plan(arch)
    stem = tuple(replace(layer, zero_padding=True) if layer.name == "maxpool" else layer for layer in network.stem)  # type: ignore[call-arg]
    assert share(of_network(replace(network, stem=stem)), arch) > TOLERANCE


@pytest.mark.parametrize("side", ["before", "after"])
def test_swapped_padding_of_option_a(side: str) -> None:
    arch = changed(SMALL, {"shortcut": "pad"})

    def swapped(block: Block) -> Block:
        layers = (
            replace(layer, before=layer.after, after=layer.before) if side == "before"
            else replace(layer, before=0, after=layer.before + layer.after)
            for layer in block.shortcut or () if isinstance(layer, PadChannels)
        )  # fmt: skip
        return replace(block, shortcut=tuple(layers))

    assert share(of_network(with_blocks(arch, swapped)), arch) > TOLERANCE


def test_wrong_groups() -> None:
    """Another number of groups has other shapes; the right number in another order of channels has other values."""
    arch = changed(SMALL, {"inner_widths": (4, 8), "out_widths": (4, 8), "groups": 4})

    def halved(_: str, settings: dict[str, Any]) -> dict[str, Any]:
        return settings | {"groups": 2} if settings.get("groups") == 4 else settings

    with pytest.raises(ValueError, match=r"layer1.0.conv1.weight has shape \(4, 1, 3, 3\) instead of \(4, 2, 3, 3\)"):
        cloned(arch, halved)
    model, shuffled = model_of(arch), random_weights(plan(arch))
    weight = shuffled["layer1.0.conv1.weight"]
    shuffled["layer1.0.conv1.weight"] = weight.reshape(2, 2, *weight.shape[1:]).swapaxes(0, 1).reshape(weight.shape)
    opened().set_weights(model, shuffled)
    assert share(model, arch) > TOLERANCE
