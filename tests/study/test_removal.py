"""A network without a block equals the network with that block's branch made to put out zero, computed by the NumPy reference."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from scipy.stats import kendalltau

from residual.architecture import Architecture, Order, Shortcut
from residual.backends import torch as backend
from residual.layers import Conv, Network, Norm, Relu
from residual.plan import plan
from residual.reference import forward as reference
from residual.study.removal import interchangeable, kendall_tau, remaining, removable, reordered, without
from residual.variants import VARIANTS, architecture
from residual.weights import Weights
from tests.nets import images, random_weights, scaled_down


def net(block: Any = "basic", **changes: Any) -> Network:
    outer = (4, 6) if block == "basic" else (8, 12)
    arch = Architecture(
        depths=(2, 3), inner_widths=(4, 6), out_widths=outer, strides=(1, 2), stem="cifar", stem_width=4, num_classes=5, block=block,
        **changes,
    )  # fmt: skip
    return plan(arch)


def silenced(network: Network, weights: Weights, name: str) -> Weights:
    """The weights with zeros where the branch of the block `name` ends, so that the branch puts out zero."""
    block = next(block for block in network.blocks() if block.name == name)
    last = next(layer for layer in reversed(block.branch) if isinstance(layer, Conv | Norm))
    found = {key: value.copy() for key, value in weights.items()}
    for part in ("weight", "bias"):
        if f"{last.name}.{part}" in found:
            found[f"{last.name}.{part}"][:] = 0
    return found


def logits(network: Network, weights: Weights, x: np.ndarray) -> np.ndarray:
    """The reference's; the PyTorch backend must agree on the same damaged plan."""
    wanted = reference(network, weights, x)["logits"]
    model = backend.build(network, weights=weights)
    np.testing.assert_allclose(backend.forward(model, x)["logits"], wanted, atol=1e-5 * np.abs(wanted).max())
    return wanted


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("shortcut", [shortcut for shortcut in get_args(Shortcut) if shortcut != "none"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_block_is_removed_as_if_its_branch_were_zero(block: str, shortcut: Shortcut, order: Order) -> None:
    network = net(block, shortcut=shortcut, order=order)
    weights, x = random_weights(network), images(network, 9, 8)
    assert [part.name for part in removable(network)] == [each.name for each in network.blocks()]
    whole = logits(network, weights, x)
    for name in [each.name for each in network.blocks()]:
        cut = without(network, (name,))
        found = logits(cut, remaining(cut, weights), x)
        np.testing.assert_allclose(found, reference(network, silenced(network, weights, name), x)["logits"], atol=1e-9)
        assert np.abs(found - whole).max() > 1e-3, "removing a block with random weights must show"


def test_several_blocks_are_removed_together() -> None:
    network = net(shortcut="pad")
    weights, x = random_weights(network), images(network, 8, 8)
    names = ("layer1.0", "layer2.0", "layer2.2")
    cut, wanted = without(network, names), weights
    for name in names:
        wanted = silenced(network, wanted, name)
    np.testing.assert_allclose(logits(cut, remaining(cut, weights), x), reference(network, wanted, x)["logits"], atol=1e-9)
    assert without(network, ()) == network


def test_a_block_of_zero_gamma_is_nothing() -> None:
    network = plan(architecture("resnet18", depths=(2, 2), inner_widths=(4, 8), out_widths=(4, 8), strides=(1, 2), stem_width=4))
    weights, x = random_weights(network), images(network, 33, 40)
    weights["layer1.1.bn2.weight"][:] = weights["layer1.1.bn2.bias"][:] = 0
    cut = without(network, ("layer1.1",))
    np.testing.assert_array_equal(reference(cut, remaining(cut, weights), x)["logits"], reference(network, weights, x)["logits"])


def identity(weights: Weights, conv: str, norm: str) -> None:
    """Makes a convolution and its batch norm hand on what they take in, but for rounding."""
    value = weights[f"{conv}.weight"]
    value[:] = 0
    for channel in range(len(value)):
        value[channel, channel, value.shape[2] // 2, value.shape[3] // 2] = 1
    weights[f"{norm}.weight"][:] = np.sqrt(weights[f"{norm}.running_var"] + 1e-5)
    weights[f"{norm}.bias"][:] = weights[f"{norm}.running_mean"][:] = 0


def test_a_plain_net_loses_what_keeps_the_shape_as_if_it_were_the_identity() -> None:
    network = net(shortcut="none")
    weights, x = random_weights(network), images(network, 9, 8)
    parts = {part.name: part.unit for part in removable(network)}
    assert [name for name, unit in parts.items() if unit == "block"] == ["layer1.0", "layer1.1", "layer2.1", "layer2.2"]
    assert [name for name, unit in parts.items() if unit == "layer"] == [
        "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2", "layer2.0.conv2", "layer2.1.conv1", "layer2.1.conv2",
        "layer2.2.conv1", "layer2.2.conv2",
    ]  # fmt: skip
    for name, unit in parts.items():
        cut, wanted = without(network, (name,)), {key: value.copy() for key, value in weights.items()}
        for conv in (f"{name}.conv1", f"{name}.conv2") if unit == "block" else (name,):
            identity(wanted, conv, conv.replace("conv", "bn"))
        np.testing.assert_allclose(logits(cut, remaining(cut, weights), x), reference(network, wanted, x)["logits"], atol=1e-5)


def test_what_cannot_be_removed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'layer2.0' cannot be removed .*layer1.0"):
        without(net(shortcut="none"), ("layer2.0",))
    with pytest.raises(ValueError, match="'layer9'"):
        without(net(), ("layer1.0", "layer9"))
    halving = plan(replace(net(shortcut="none").architecture, inner_widths=(4, 4), out_widths=(4, 4)))
    assert "layer2.0" not in {part.name for part in removable(halving)}, "its stride changes the shape though its channels stay"
    assert [part.keeps_shape for part in removable(net(shortcut="pad"))] == [True, True, False, True, True]
    assert {part.unit for part in removable(net(shortcut="none", order="preact"))} == {"block"}


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_plain20", "resnet50", "preact_resnet50", "cifar_preact_resnet110"])
def test_like_blocks_change_places(name: str) -> None:
    """Other weights in the old plan compute what the old weights do in a plan of another order."""
    network = plan(replace(scaled_down(VARIANTS[name]), depths=(3,) * len(VARIANTS[name].depths)))
    weights, x = random_weights(network), images(network, 33, 32)
    groups = interchangeable(network)
    assert groups
    for group in groups:
        first, second = group[:2]
        stages = tuple(replace(stage, blocks=_swapped(stage.blocks, first, second)) for stage in network.stages)
        wanted = reference(replace(network, stages=stages), weights, x)["logits"]
        found = reference(network, reordered(network, weights, {first: second, second: first}), x)["logits"]
        np.testing.assert_allclose(found, wanted, atol=1e-12)
        assert np.abs(found - reference(network, weights, x)["logits"]).max() > 1e-4


def _swapped(blocks: tuple[Any, ...], first: str, second: str) -> tuple[Any, ...]:
    names = [block.name for block in blocks]
    if first not in names:
        return blocks
    order = list(blocks)
    i, j = names.index(first), names.index(second)
    order[i], order[j] = order[j], order[i]
    return tuple(order)


def test_which_blocks_are_alike() -> None:
    assert interchangeable(plan(VARIANTS["cifar_resnet20"])) == (
        ("layer1.0", "layer1.1", "layer1.2"), ("layer2.1", "layer2.2"), ("layer3.1", "layer3.2"),
    )  # fmt: skip
    assert interchangeable(plan(architecture("cifar_resnet8"))) == ()
    assert interchangeable(plan(VARIANTS["resnet50"]))[0] == ("layer1.1", "layer1.2")
    network = plan(VARIANTS["cifar_resnet20"])
    weights = random_weights(network)
    with pytest.raises(ValueError, match=r"'layer2.0' cannot stand in the place of 'layer2.1'"):
        reordered(network, weights, {"layer2.1": "layer2.0", "layer2.0": "layer2.1"})
    with pytest.raises(ValueError, match="each of its blocks once"):
        reordered(network, weights, {"layer2.1": "layer2.2"})


def test_tau_is_kendall_s() -> None:
    stream = np.random.default_rng(0)
    for size in (2, 5, 9):
        order = stream.permutation(size)
        assert kendall_tau(order.tolist()) == pytest.approx(kendalltau(np.arange(size), order).statistic)
    assert (kendall_tau([0, 1, 2]), kendall_tau([2, 1, 0]), kendall_tau([0])) == (1, -1, 1)


def test_a_removed_layer_leaves_its_relu() -> None:
    cut = without(net(shortcut="none"), ("layer1.0.conv1",))
    assert [type(layer) for layer in next(cut.blocks()).branch] == [Relu, Conv, Norm]
