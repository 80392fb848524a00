"""What goes through the fast form of a model at a time: parts of a batch, so small that what one layer puts out is still in the cache when
the next one reads it, and that they take no more memory than they must."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from residual.backends.allocator import blocks_apart
from residual.backends.torch_fused import Convolution
from residual.cost import network_cost
from residual.layers import Network

Step = Callable[[Tensor], Tensor]
LAST = torch.channels_last
_HEAVY = 8e6  # bytes of weights from which they are laid out by themselves, for which oneDNN must prepare itself for one picture too
_CACHED = 6.5e6  # bytes of a layer of a part's pictures on a CPU, by which parts are sized (docs/performance.md)


class Parts(NamedTuple):
    """Of the steps the first `begin` take `few` pictures at a time, the others `many`."""

    begin: int
    few: int
    many: int


def parts(network: Network, image_size: tuple[int, int], itemsize: int) -> Parts:
    """The parts for pictures of this size (height, width), in numbers of so many bytes, on the CPU.

    Few go through the stem and the blocks up to the last one that takes or makes more than half of what the largest layer puts out.
    """
    sizes = {row.name: prod(row.output) * itemsize for row in network_cost(network, image_size).rows}
    chains = (network.stem, *(tuple(block.layers()) for block in network.blocks()))
    made = [[sizes[layer.name] for layer in chain if layer.name in sizes] for chain in chains]
    taken = [0, *(inside[-1] for inside in made[:-1])]
    largest = max(map(max, made))
    begin = 1 + max(number for number, inside in enumerate(made) if 2 * max(taken[number], *inside) > largest)
    rest = max(made[begin - 1][-1:] + [max(inside) for inside in made[begin:]])
    few = max(torch.get_num_threads(), int(_CACHED / largest))
    return Parts(begin, few, few * max(1, int(2 * _CACHED / rest / few)))


@dataclass(kw_only=True)
class Form:
    """The steps done for the parts of a batch that `sizes` gives for their height and width, or for all at once.

    Attributes:
        steps: the stem's, one for each block, and the head's.
        made: all convolutions, until the weights of a net with many of them are laid out.
    """

    steps: tuple[Step, ...]
    dtype: torch.dtype
    sizes: Callable[[int, int], Parts] | None
    made: list[Convolution]
    lock: Any = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if self.sizes is None or sum(convolution.weight.nbytes for convolution in self.made) < _HEAVY:
            self.made = []

    def __call__(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            if self.sizes is None:
                return through(self.steps, self._given(x))
            begin, few, many = self.sizes(x.shape[2], x.shape[3])
            self._lay_out(x[:1], min(many, len(x)))

            def begun(part: Tensor) -> Tensor:
                return _in_parts(lambda piece: through(self.steps[:begin], self._given(piece)), part, few)

            return _in_parts(lambda part: through(self.steps[begin:], begun(part)), x, many)

    def _given(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).contiguous(memory_format=LAST)

    def _lay_out(self, one: Tensor, count: int) -> None:
        """All weights laid out by way of one picture, once: between the activations of `count` they would leave holes in the memory."""
        with self.lock:
            if self.made and count:
                for convolution in self.made:
                    convolution.expected = count
                with blocks_apart():
                    through(self.steps, self._given(one))
                self.made = []


def _in_parts(step: Step, x: Tensor, count: int) -> Tensor:
    """step(x) for `count` pictures at a time, each part put where it belongs at once."""
    if len(x) <= count:
        return step(x)
    found: Tensor | None = None
    for start in range(0, len(x), count):
        made = step(x[start : start + count])
        if found is None:
            found = torch.empty_like(made[:1].expand(len(x), *made.shape[1:]))  # in the same order of dimensions
        found[start : start + count] = made
    assert found is not None
    return found


def through(steps: tuple[Step, ...], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x


__all__ = ["LAST", "Form", "Parts", "Step", "parts", "through"]
