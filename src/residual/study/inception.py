"""GoogLeNet's Inception block as layers: four paths side by side, whose channels are put one after another.

The surprising thing: it is no `Architecture`. It stands here only to be compared with residual blocks, counted by the same functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from residual.architecture import Architecture
from residual.layers import Block, Conv, Layer, MaxPool, Network, Relu, Stage


@dataclass(frozen=True, kw_only=True)
class Inception:
    """Channels of the four paths: 1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max pool then 1x1. Szegedy et al. 2015, figure 2b."""

    in_channels: int
    one: int
    three: tuple[int, int]
    five: tuple[int, int]
    pooled: int


# Szegedy et al. 2015, arXiv:1409.4842, table 1
INCEPTION_3A = Inception(in_channels=192, one=64, three=(96, 128), five=(16, 32), pooled=32)


def paths(block: Inception) -> dict[str, tuple[Layer, ...]]:
    """Name -> layers of each path; each convolution has a bias and a ReLU, and keeps height and width."""
    start = block.in_channels
    pool = MaxPool(name="pool", kernel=3, stride=1, padding=1, zero_padding=False)
    return {
        "1x1": _active("one", start, block.one, 1),
        "1x1-3x3": _active("three_reduce", start, block.three[0], 1) + _active("three", *block.three, 3),
        "1x1-5x5": _active("five_reduce", start, block.five[0], 1) + _active("five", *block.five, 5),
        "pool-1x1": (pool, *_active("pooled", start, block.pooled, 1)),
    }


def conv(name: str, channels: int, outer: int, kernel: int, *, bias: bool = False) -> Conv:
    """A convolution of stride 1 that keeps height and width."""
    return Conv(
        name=name, in_channels=channels, out_channels=outer, kernel=kernel, stride=1, padding=kernel // 2, groups=1, bias=bias
    )  # fmt: skip


def chain(layers: Sequence[Layer], channels: int) -> Network:
    """A network of `layers` alone, one after another, that takes `channels`: it can be counted, built and run, and has no head."""
    return _network(channels, stem=tuple(layers))


def alone(block: Block, channels: int) -> Network:
    """A network of one residual block that takes `channels`."""
    return _network(channels, stages=(Stage(name="layer1", blocks=(renamed(block, "layer1.0"),)),))


def renamed(block: Block, name: str) -> Block:
    """The same block in another place: its name, and with it those of its layers."""

    def moved(layers: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(layer, name=name + layer.name.removeprefix(block.name)) for layer in layers)

    shortcut = None if block.shortcut is None else moved(block.shortcut)
    return replace(
        block, name=name, before=moved(block.before), branch=moved(block.branch), shortcut=shortcut, after=moved(block.after)
    )  # fmt: skip


def _network(channels: int, *, stem: tuple[Layer, ...] = (), stages: tuple[Stage, ...] = ()) -> Network:
    told = Architecture(depths=(1,), inner_widths=(channels,), out_widths=(channels,), strides=(1,), in_channels=channels)
    return Network(
        architecture=told, stem=stem, stages=stages, head=(), in_channels=channels, num_classes=told.num_classes, initialisation="he"
    )  # fmt: skip


def _active(name: str, channels: int, outer: int, kernel: int) -> tuple[Layer, ...]:
    return (conv(name, channels, outer, kernel, bias=True), Relu(name=f"{name}_relu"))


__all__ = ["INCEPTION_3A", "Inception", "alone", "chain", "conv", "paths", "renamed"]
