"""A 3x3 convolution for inference by Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 places instead of 144.

The transforms are two products of their own. Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.3.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

_TILE, _STEP = 6, 4  # places of a tile of the input and of the output
_PART = 200  # tiles that are transformed together
_CHANNELS, _TILES = 128, 32  # from which the products are worth the transforms
_WEIGHTS = 2**17  # of a place, up to which they are: four times as much memory is read as for the convolution
_INPUT = torch.tensor([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                       [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], dtype=torch.float64)  # fmt: skip
_WEIGHT = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
_OUTPUT = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64)
_CONSTANT = _TILE + 1  # what is added to this product of a tile is added to all its 16 places: the second column of _OUTPUT is ones


def tiles(height: int, width: int) -> tuple[int, int]:
    """How many tiles cover a picture, from top to bottom and from left to right."""
    return -(-height // _STEP), -(-width // _STEP)


def pays(weight: Tensor, shape: torch.Size) -> bool:
    """Whether this is faster than a convolution: for many channels, but not for very many, enough tiles and little overhang."""
    count, _, height, width = shape
    down, across = tiles(height, width)
    wide = min(weight.shape[:2]) >= _CHANNELS and weight.shape[0] * weight.shape[1] <= _WEIGHTS
    return wide and count * down * across >= _TILES and 8 * down * across <= height * width


class Winograd:
    """conv(x) + bias for stride 1 and padding 1; `weight` is D C 3 3."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.before, by_place, self.after = (torch.kron(side, side).to(weight.dtype) for side in (_INPUT, _WEIGHT, _OUTPUT))
        self.weight = (by_place @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(_TILE**2, *weight.shape[1::-1])  # 36 C D
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:  # N C H W -> N D H W, channels last
        down, across = tiles(*x.shape[2:])
        parts = torch.split(x, max(1, _PART // (down * across)))  # their tiles take nine times the memory of the pictures
        with _exactly():
            return self._of(x) if len(parts) == 1 else torch.cat([self._of(part) for part in parts])

    def _of(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        down, across = tiles(height, width)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, across * _STEP + 1 - width, 1, down * _STEP + 1 - height))
        picture, row, place, _ = x.stride()
        shape = (count, down, across, _TILE, _TILE, channels)
        parts = x.as_strided(shape, (picture, _STEP * row, _STEP * place, row, place, 1)).reshape(count * down * across, _TILE**2, channels)
        y = torch.bmm((self.before @ parts).transpose(0, 1), self.weight)  # 36 tiles D
        if self.bias is not None:
            y[_CONSTANT] += self.bias
        y = (self.after @ y.transpose(0, 1)).view(count, down, across, _STEP, _STEP, self.weight.shape[2]).transpose(2, 3)
        return y.reshape(count, down * _STEP, across * _STEP, self.weight.shape[2])[:, :height, :width].contiguous().permute(0, 3, 1, 2)


@contextmanager
def _exactly() -> Iterator[None]:
    """A scope in which products of float32 are such, whatever the user allows elsewhere: the transforms magnify what is rounded."""
    allowed = torch.get_float32_matmul_precision()
    if allowed != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        if allowed != "highest":
            torch.set_float32_matmul_precision(allowed)
