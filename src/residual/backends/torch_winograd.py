"""A 3x3 convolution for inference by Winograd's minimal filtering F(4x4, 3x3): 36 products for 16 places instead of 144.

The transforms are two products of their own. Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.3.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from residual.backends import torch_onednn as onednn

_TILE, _STEP = 6, 4  # places of a tile of the input and of the output
_PART = 128  # tiles that are transformed together
_CHANNELS, _TILES = 128, 32  # from which the products are worth the transforms
_WEIGHTS = 2**17  # of a place, up to which they are: four times as much memory is read as for the convolution
_INPUT = torch.tensor([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                       [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], dtype=torch.float64)  # fmt: skip
_WEIGHT = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
_OUTPUT = torch.tensor([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64)
_GROUPED = onednn.Window(groups=_TILE**2)
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
    """conv(x) + bias for stride 1 and padding 1; `weight` is D C 3 3, `shape` N C H W as it will mostly be.

    The products of the 36 places are one 1x1 convolution in 36 groups, whose pixels are the tiles: oneDNN's, with its weights laid out
    before, in float32, PyTorch's otherwise.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, shape: torch.Size) -> None:
        dtype, (self.width, channels) = weight.dtype, weight.shape[:2]
        self.before, by_place, self.after = (torch.kron(side, side).to(dtype) for side in (_INPUT, _WEIGHT, _OUTPUT))
        with _exactly():
            self.weight = (by_place @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(-1, channels, 1, 1)  # 36*D C 1 1
        self.bias = None
        if bias is not None:
            self.bias = bias.new_zeros(_TILE**2, self.width)
            self.bias[_CONSTANT] = bias
            self.bias = self.bias.flatten()
        self.rows = min(_PART, min(shape[0], _together(shape)) * prod(tiles(*shape[2:])))  # tiles of one product
        self.fused = dtype == torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if self.fused:
            self.weight = onednn.laid_out(self.weight, _GROUPED, torch.Size((1, _TILE**2 * channels, 1, self.rows)))

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:  # N C H W -> N D H W, channels last
        found = x.new_empty(len(x), *x.shape[2:], self.width)
        with _exactly():
            for part, into in _parts(x, found):
                if relu:
                    torch.clamp_min(self._of(part), 0, out=into)
                else:
                    into.copy_(self._of(part))
        return found.permute(0, 3, 1, 2)

    def added(self, x: Tensor, other: Tensor, *, relu: bool) -> Tensor:
        """What it makes of x, plus `other`, which is overwritten, and its ReLU."""
        with _exactly():
            for part, onto in _parts(x, other):
                onto.permute(0, 2, 3, 1).add_(self._of(part))
                if relu:
                    onto.relu_()
        return other

    def _of(self, x: Tensor) -> Tensor:  # N C H W -> N H W D
        count, channels, height, width = x.shape
        down, across = tiles(height, width)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, across * _STEP + 1 - width, 1, down * _STEP + 1 - height))
        picture, row, place, _ = x.stride()
        overlapping = x.as_strided((count, down, across, _TILE, _TILE, channels), (picture, _STEP * row, _STEP * place, row, place, 1))
        parts = [*map(self._of_tiles, torch.split(overlapping.reshape(count * down * across, _TILE**2, channels), self.rows))]
        y = (parts[0] if len(parts) == 1 else torch.cat(parts)).view(count, down, across, _STEP, _STEP, self.width).transpose(2, 3)
        return y.reshape(count, down * _STEP, across * _STEP, self.width)[:, :height, :width]

    def _of_tiles(self, x: Tensor) -> Tensor:  # tiles 36 C -> tiles 16 D
        """By products of `rows` tiles, some of them empty: for other numbers oneDNN may want other weights, and lay them out each time."""
        missing = self.rows - len(x)
        y = self.before @ (F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x)
        y = self._grouped(y.view(1, 1, self.rows, -1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.after @ y.reshape(self.rows, _TILE**2, self.width)[: len(x)]

    def _grouped(self, x: Tensor) -> Tensor:  # 1 36*C 1 tiles -> 1 36*D 1 tiles
        if self.fused:
            return onednn.convolved(x, self.weight, self.bias, _GROUPED)
        return F.conv2d(x, self.weight, self.bias, groups=_TILE**2)


def _together(shape: torch.Size) -> int:
    """Pictures whose tiles, which take nine times their memory, are done together."""
    return max(1, _PART // prod(tiles(*shape[2:])))


def _parts(x: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in so many pictures at a time."""
    for start in range(0, len(x), step := _together(x.shape)):
        yield x[start : start + step], other[start : start + step]


@contextmanager
def _exactly() -> Iterator[None]:
    """A scope in which products of float32 are such, whatever the user allows elsewhere: the transforms magnify what is rounded.

    What is allowed is the process's: the first of several threads takes it away, the last one gives it back.
    """
    with _ALLOWED.lock:
        if not _ALLOWED.inside:
            _ALLOWED.take()
        _ALLOWED.inside += 1
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        with _ALLOWED.lock:
            _ALLOWED.inside -= 1
            if not _ALLOWED.inside:
                _ALLOWED.give_back()


@dataclass
class _Allowed:
    """The precision that PyTorch may do float32 convolutions and products in, while it is taken away."""

    lock: Any = field(default_factory=Lock)
    inside: int = 0
    taken: list[tuple[Any, str]] = field(default_factory=list)

    def take(self) -> None:
        settings = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
        self.taken = [(setting, setting.fp32_precision) for setting in settings if setting.fp32_precision not in ("none", "ieee")]
        for setting, _ in self.taken:
            setting.fp32_precision = "ieee"

    def give_back(self) -> None:
        for setting, precision in self.taken:
            setting.fp32_precision = "none"  # as its parent says, if that is the same
            if setting.fp32_precision != precision:
                setting.fp32_precision = precision


_ALLOWED = _Allowed()
