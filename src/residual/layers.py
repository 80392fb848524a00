"""What a network is made of: layers, blocks and stages as plain records, every number written out.

A block is data too: `after(branch(before(x)) + shortcut(before(x)))`. `shortcut=()` is the identity, `shortcut=None` is what a
plain network has.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from residual.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Conv:
    """2-D convolution; weight out x in/groups x kernel x kernel, zero padding on all four sides."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    groups: int
    bias: bool


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Batch norm. `momentum` is PyTorch's: new = (1 - momentum) * old + momentum * batch. `gamma` is the scale's first value."""

    name: str
    channels: int
    epsilon: float
    momentum: float
    gamma: float


@dataclass(frozen=True, kw_only=True)
class Relu:
    name: str


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Max pooling; the padding is minus infinity, or with `zero_padding` zeros."""

    name: str
    kernel: int
    stride: int
    padding: int
    zero_padding: bool


@dataclass(frozen=True, kw_only=True)
class AvgPool:
    """Average pooling without padding; an odd side keeps its last, smaller window (ceil mode), averaged over what is there."""

    name: str
    kernel: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool:
    """Mean over height and width: N C H W -> N C 1 1; the linear layer after it flattens."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Linear:
    name: str
    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True, kw_only=True)
class PadChannels:
    """Option A: every `stride`-th pixel, then `before` and `after` (0: none) channels of zeros around those that are there."""

    name: str
    stride: int
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite:
    """x * sigmoid(fc2(relu(fc1(mean(x))))); `fc1`, `fc2` are 1x1 convolutions with biases."""

    name: str
    channels: int
    reduced: int


@dataclass(frozen=True, kw_only=True)
class Dropout:
    name: str
    rate: float


Layer = Conv | Norm | Relu | MaxPool | AvgPool | GlobalAvgPool | Linear | PadChannels | SqueezeExcite | Dropout


@dataclass(frozen=True, kw_only=True)
class Block:
    """after(branch(before(x)) + shortcut(before(x))). He et al. 2015, equations 1 and 2; 2016, figure 4.

    Attributes:
        before: what branch and shortcut share (pre-activation where the shape changes).
        shortcut: None in a plain network, () for the identity.
        drop_path: probability of dropping the branch of a sample in training.
    """

    name: str
    before: tuple[Layer, ...]
    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] | None
    after: tuple[Layer, ...]
    drop_path: float

    def layers(self) -> Iterator[Layer]:
        yield from (*self.before, *self.branch, *(self.shortcut or ()), *self.after)


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class Network:
    """stem, stages, head, in the order of the forward pass; `architecture` is what they were planned from."""

    architecture: Architecture
    stem: tuple[Layer, ...]
    stages: tuple[Stage, ...]
    head: tuple[Layer, ...]
    in_channels: int
    num_classes: int
    initialisation: str

    def blocks(self) -> Iterator[Block]:
        for stage in self.stages:
            yield from stage.blocks

    def layers(self) -> Iterator[Layer]:
        yield from self.stem
        for block in self.blocks():
            yield from block.layers()
        yield from self.head

    def names(self) -> list[str]:
        """What can be tapped: every layer, block and stage, by name."""
        outer = [name for stage in self.stages for name in (*(block.name for block in stage.blocks), stage.name)]
        return [layer.name for layer in self.layers()] + outer
