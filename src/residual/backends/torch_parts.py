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
_HEAVY = 8e6  # bytes of all weights from which they are laid out before the first batch, which costs a pass with one picture
_CACHED = 6.5e6  # bytes of the largest layer for few pictures on a CPU; twice as many for many (docs/performance.md)


class Parts(NamedTuple):
    """Of the steps the first `early` take `few` pictures at a time, the others `many`."""

    early: int
    few: int
    many: int


def parts(network: Network, image_size: tuple[int, int], itemsize: int, threads: int) -> Parts:
    """The parts for pictures of this size (height, width), in numbers of so many bytes, on the CPU.

    Few go through the stem and the blocks up to the last one that takes or makes more than half of what the largest layer puts out; of
    the others' smaller layers there is room for twice as much. Every thread has a picture.
    """
    sizes = {row.name: prod(row.output) * itemsize for row in network_cost(network, image_size).rows}
    chains = (network.stem, *(tuple(block.layers()) for block in network.blocks()))
    made = [[sizes[layer.name] for layer in chain if layer.name in sizes] for chain in chains]
    taken = [0, *(inside[-1] for inside in made[:-1])]
    largest = max(map(max, made))
    early = 1 + max(number for number, inside in enumerate(made) if 2 * max(taken[number], *inside) > largest)
    rest = max(made[early - 1][-1:] + [max(inside) for inside in made[early:]])
    few = max(threads, int(_CACHED / largest))
    return Parts(early, few, few * max(1, int(2 * _CACHED / rest / few)))  # so that parts of many are whole parts of few


@dataclass(kw_only=True)
class Form:
    """The steps done for the parts of a batch that `sizes` gives for their height and width and the threads, or for all at once.

    Attributes:
        steps: the stem's, one for each block, and the head's.
        made: all convolutions, until the weights of a net with many of them are laid out.
    """

    steps: tuple[Step, ...]
    dtype: torch.dtype
    sizes: Callable[[int, int, int], Parts] | None
    made: list[Convolution]
    lock: Any = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if self.sizes is None or sum(convolution.weight.nbytes for convolution in self.made) < _HEAVY:
            self.made = []

    def __call__(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            if self.sizes is None:
                return through(self.steps, self._given(x))
            early, few, many = sizes = self.sizes(x.shape[2], x.shape[3], torch.get_num_threads())
            self._lay_out(x, sizes)

            def begun(part: Tensor) -> Tensor:
                return _in_parts(lambda piece: through(self.steps[:early], self._given(piece)), part, few)

            return _in_parts(lambda part: through(self.steps[early:], begun(part)), x, many)

    def _given(self, x: Tensor) -> Tensor:
        return x.to(self.dtype).contiguous(memory_format=LAST)

    def _lay_out(self, x: Tensor, sizes: Parts) -> None:
        """All weights laid out by way of one picture, once: between the activations of many they would leave holes in the memory."""
        with self.lock:
            if self.made and len(x):
                y = self._given(x[:1])
                for steps, count in ((self.steps[: sizes.early], sizes.few), (self.steps[sizes.early :], sizes.many)):
                    for convolution in self.made:  # those that are laid out already stay so
                        convolution.expected = min(count, len(x))
                    with blocks_apart():
                        y = through(steps, y)
                self.made = []


def _in_parts(step: Step, x: Tensor, most: int) -> Tensor:
    """step(x) for at most so many pictures at a time, in parts as equal as they can be, each put where it belongs at once."""
    if len(x) <= most:
        return step(x)
    found: Tensor | None = None
    count = -(-len(x) // -(-len(x) // most))
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
