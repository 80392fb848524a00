"""What the comparison with the reference must catch: each classic mistake of a port, made in a plan or in weights, is seen."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from residual.architecture import Architecture
from residual.backends import mxnet as backend
from residual.layers import Block, Conv, Layer, Network, Norm, PadChannels
from residual.plan import plan
from residual.reference import forward as reference
from residual.tensors import manifest
from residual.weights import Weights
from tests.backends.test_mxnet import assert_computes, made
from tests.nets import SMALL, images, random_weights


def with_layers(network: Network, change: Callable[[Layer], Layer]) -> Network:
    def block(old: Block) -> Block:
        before, branch, after = (tuple(map(change, layers)) for layers in (old.before, old.branch, old.after))
        return replace(old, before=before, branch=branch, after=after, shortcut=old.shortcut and tuple(map(change, old.shortcut)))

    stages = tuple(replace(stage, blocks=tuple(map(block, stage.blocks))) for stage in network.stages)
    return replace(network, stem=tuple(map(change, network.stem)), stages=stages, head=tuple(map(change, network.head)))


def same_padding(network: Network, weights: Weights) -> tuple[Network, Weights]:
    """Strided 3x3 convolutions see (0, 1) around an even side: a 4x4 whose first row and column are zeros."""

    def change(layer: Layer) -> Layer:
        return replace(layer, kernel=4) if isinstance(layer, Conv) and (layer.kernel, layer.stride) == (3, 2) else layer

    wrong = with_layers(network, change)
    return wrong, {
        n: weights[n] if weights[n].shape == s else np.pad(weights[n], ((0, 0), (0, 0), (1, 0), (1, 0))) for n, s in manifest(wrong).items()
    }


def other_epsilon(network: Network, weights: Weights) -> tuple[Network, Weights]:
    return with_layers(network, lambda layer: replace(layer, epsilon=1e-3) if isinstance(layer, Norm) else layer), weights


def swapped_scale_and_shift(network: Network, weights: Weights) -> tuple[Network, Weights]:
    found = dict(weights)
    for layer in network.layers():
        if isinstance(layer, Norm):
            one, other = f"{layer.name}.weight", f"{layer.name}.bias"
            found[one], found[other] = weights[other], weights[one]
    return network, found


def identity_for_projection(network: Network, weights: Weights) -> tuple[Network, Weights]:
    """In the first block, whose shape does not change."""
    stage = network.stages[0]
    stages = (replace(stage, blocks=(replace(stage.blocks[0], shortcut=()), *stage.blocks[1:])), *network.stages[1:])
    wrong = replace(network, stages=stages)
    return wrong, {name: weights[name] for name in manifest(wrong)}


def other_side_padded(network: Network, weights: Weights) -> tuple[Network, Weights]:
    def change(layer: Layer) -> Layer:
        return replace(layer, before=layer.after, after=layer.before) if isinstance(layer, PadChannels) else layer

    return with_layers(network, change), weights


@pytest.mark.parametrize(
    ("mistake", "arch"),
    [
        (same_padding, SMALL),
        (other_epsilon, SMALL),
        (swapped_scale_and_shift, SMALL),
        (identity_for_projection, replace(SMALL, shortcut="projection-all")),
        (other_side_padded, replace(SMALL, shortcut="pad")),
    ],
)
def test_it_is_seen(mistake: Callable[[Network, Weights], tuple[Network, Weights]], arch: Architecture) -> None:
    network = plan(arch)
    weights, x = random_weights(network), images(network, 8, 10)
    wanted = reference(network, weights, x)
    assert_computes(made(network, weights), wanted, x)
    wrong = made(*mistake(network, weights))
    with pytest.raises(AssertionError, match=r"^logits: "):
        assert_computes(wrong, wanted, x)


def test_other_groups_do_not_take_the_weights() -> None:
    arch = replace(SMALL, inner_widths=(4, 8), out_widths=(4, 8), groups=4)
    weights = random_weights(plan(arch))
    with pytest.raises(ValueError, match=r"layer1.0.conv1.weight has shape \(4, 1, 3, 3\) instead of \(4, 2, 3, 3\)"):
        backend.set_weights(backend.build(plan(replace(arch, groups=2))), weights)


def test_groups_in_another_order_are_seen() -> None:
    network = plan(replace(SMALL, inner_widths=(4, 8), out_widths=(4, 8), groups=4))
    weights, x = random_weights(network), images(network, 8, 10)
    wanted = reference(network, weights, x)
    wrong = {name: np.roll(value, 1, 0) if value.shape == (4, 1, 3, 3) else value for name, value in weights.items()}
    with pytest.raises(AssertionError, match=r"^logits: "):
        assert_computes(made(network, wrong), wanted, x)
