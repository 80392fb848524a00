"""Ways to train a convolution in bfloat16 on a CPU that are faster there than oneDNN's, each for shapes of its own.

Each is a pair: `forward` gives the output and what `backward` may use again, which gives the gradients of the pictures (where they are
wanted) and of the weights. For square convolutions without groups and bias (docs/performance.md, "Training steps beside their peers").
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

_FEW, _MORE, _MANY = 9, 16, 256  # places of an output up to which (more: without AMX), and input channels from which, products win
_SHORT, _REACH = 12, 16  # places of an output's row, and of the input that it is taken from, up to which pictures are joined
_LONG = 64  # places of the rows they are joined to
_WORTH = 32 * 64  # input times output channels from which that is worth two copies
_TINY, _NEAR = 4, 16  # places of an output and of an input up to which a whole picture is one row of a product
_LARGE = 2**21  # numbers of that product's weights
# Whether oneDNN's gradients of the weights run on a matrix unit, which wants long rows. Without it short ones are as fast, but for strides.
_CAPABILITIES: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every PyTorch that we run on
AMX = _CAPABILITIES.get("amx_bf16", False)


class Geometry(NamedTuple):
    """Of a convolution; `places` are height and width of its output."""

    kernel: int
    stride: int
    padding: int
    places: tuple[int, int]


class Way(Protocol):
    """One way to do it. `kept`, where it is handed back, saves `backward` some work."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, at: Geometry) -> tuple[Tensor, Tensor | None]: ...

    @staticmethod
    def backward(
        gradient: Tensor, x: Tensor, weight: Tensor, at: Geometry, wanted: bool, kept: Tensor | None
    ) -> tuple[Tensor | None, Tensor]: ...


def is_thinned(kernel: int, stride: int, channels: tuple[int, int]) -> bool:
    """Whether a convolution sees only each `stride`-th place and has channels, in or out, that are no multiple of 8. In channels last
    oneDNN 3.12 computes the gradient of its weights wrongly in some calls with AVX2: such a one is given those places alone."""
    return kernel == 1 and stride > 1 and any(count % 8 for count in channels)


def thinned(x: Tensor, stride: int) -> Tensor:
    """Each `stride`-th place of N C H W."""
    return x[:, :, ::stride, ::stride]


def way_of(x: torch.Size, weight: torch.Size, stride: int, padding: int) -> tuple[type[Way] | None, Geometry]:
    """What is faster than oneDNN's convolution for pictures and weights of these shapes, if anything is."""
    (_, _, height, width), (after, before, kernel, _) = x, weight
    places = ((height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1)
    at, count = Geometry(kernel, stride, padding, places), places[0] * places[1]
    if kernel == 1 and padding == 0:
        return Pointwise, at
    if count <= _TINY and height * width <= _NEAR and count * height * width * before * after <= _LARGE:
        return Dense, at
    if count <= (_FEW if AMX else _MORE) and before >= _MANY:
        return Product, at
    short = places[1] <= _SHORT and stride * places[1] <= _REACH and (stride > 1 or AMX)
    return Joined if short and kernel == 2 * padding + 1 and before * after >= _WORTH else None, at


class Pointwise:
    """A convolution of 1x1: the places that it looks at, as rows, times the weights."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, at: Geometry) -> tuple[Tensor, Tensor | None]:
        rows = every(x, at.stride)
        return _pictures(rows @ flat(weight).t(), at.places), rows

    @staticmethod
    def backward(
        gradient: Tensor, x: Tensor, weight: Tensor, at: Geometry, wanted: bool, kept: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        to_rows = every(gradient, 1)
        to_weight = _filters(to_rows.t() @ (every(x, at.stride) if kept is None else kept), weight)
        if not wanted:
            return None, to_weight
        to_x = _pictures(to_rows @ flat(weight), at.places)
        if at.stride == 1:
            return to_x, to_weight
        spread = torch.zeros_like(x, memory_format=torch.channels_last)
        spread[:, :, :: at.stride, :: at.stride] = to_x
        return spread, to_weight


class Product:
    """A convolution as a product of a matrix of patches, whose rows are places and whose columns are kernel x kernel x C. Its gradients are
    products for one tap of the kernel after the other, of the places alone where that lies on the picture: of 3x3 places 49 of 81."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, at: Geometry) -> tuple[Tensor, Tensor | None]:
        return _pictures(patches(x, at) @ flat(weight).t(), at.places), None  # patches are nine times the pictures: too large to keep

    @staticmethod
    def backward(
        gradient: Tensor, x: Tensor, weight: Tensor, at: Geometry, wanted: bool, kept: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        to_weight = torch.zeros_like(weight, memory_format=torch.channels_last)
        to_x = torch.zeros_like(x, memory_format=torch.channels_last) if wanted else None
        for row, column, places, seen in visible_taps(x.shape, at):
            part, shown = gradient[:, :, *places], x[:, :, *seen]
            rows = every(part, 1)
            to_weight[:, :, row, column] = rows.t() @ every(shown, 1)
            if to_x is not None:
                to_x[:, :, *seen] += _pictures(rows @ weight[:, :, row, column], shown.shape[2:])
        return to_x, to_weight


class Joined:
    """A convolution whose gradients are those of pictures that lie side by side, with zeros between them."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, at: Geometry) -> tuple[Tensor, Tensor | None]:
        return F.conv2d(x, weight, None, at.stride, at.padding), None

    @staticmethod
    def backward(
        gradient: Tensor, x: Tensor, weight: Tensor, at: Geometry, wanted: bool, kept: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        period = (x.shape[3] + at.padding + at.stride - 1) // at.stride  # of an output in its row; a picture's is `stride` times that
        count = side_by_side(len(x), period)
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            joined(gradient, count, period), joined(x, count, at.stride * period), weight,
            None, [at.stride] * 2, [at.padding] * 2, [1, 1], False, [0, 0], 1, [wanted, True, False],
        )  # fmt: skip
        return parted(to_x, count, x.shape[3]) if wanted else None, to_weight


class Dense:
    """A convolution of pictures of few places as one product: a picture is a row, and a weight stands wherever its place is."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, at: Geometry) -> tuple[Tensor, Tensor | None]:
        spread = spread_out(weight, at, x.shape)
        return (whole(x) @ spread.t()).view(len(x), *at.places, len(weight)).permute(0, 3, 1, 2), spread

    @staticmethod
    def backward(
        gradient: Tensor, x: Tensor, weight: Tensor, at: Geometry, wanted: bool, kept: Tensor | None
    ) -> tuple[Tensor | None, Tensor]:
        rows = whole(gradient)
        to_weight = summed_up(rows.t() @ whole(x), at, x.shape, weight)
        if not wanted:
            return None, to_weight
        _, channels, height, width = x.shape
        to_x = rows @ (spread_out(weight, at, x.shape) if kept is None else kept)
        return to_x.view(-1, height, width, channels).permute(0, 3, 1, 2), to_weight


def every(x: Tensor, stride: int) -> Tensor:
    """N C H W -> (N H/s W/s) x C, every `stride`-th place: a view for a stride of 1 where it is channels last."""
    return x[:, :, ::stride, ::stride].permute(0, 2, 3, 1).flatten(0, 2)


def flat(weight: Tensor) -> Tensor:
    """D C k k -> D x (k k C): a view where it is channels last."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def whole(x: Tensor) -> Tensor:
    """N C H W -> N x (H W C): a view where it is channels last."""
    return x.permute(0, 2, 3, 1).flatten(1)


def _pictures(rows: Tensor, sides: Sequence[int]) -> Tensor:
    """(N H W) x D -> N D H W."""
    return rows.view(-1, *sides, rows.shape[1]).permute(0, 3, 1, 2)


def _filters(rows: Tensor, weight: Tensor) -> Tensor:
    """D x (k k C) -> D C k k."""
    after, before, height, width = weight.shape
    return rows.view(after, height, width, before).permute(0, 3, 1, 2)


def patches(x: Tensor, at: Geometry) -> Tensor:
    """N C H W -> (N H/s W/s) x (k k C), zeros around the pictures."""
    x = F.pad(x, (at.padding,) * 4).permute(0, 2, 3, 1).contiguous()
    count, height, width, channels = x.shape
    row = width * channels  # of the strides, which the compiler would not let us ask for
    shape = (count, *at.places, at.kernel, at.kernel, channels)
    strides = (height * row, at.stride * row, at.stride * channels, row, channels, 1)
    return x.as_strided(shape, strides).flatten(3).flatten(0, 2)


def visible_taps(shape: torch.Size, at: Geometry) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """Each tap of the kernel (row, column), with the places of the output from which it looks at pictures of this shape, not at zeros
    around, and the places that it then sees, as slices. Without taps that only ever look at zeros."""
    down, across = ([_looks(tap, shape[2 + side], at, side) for tap in range(at.kernel)] for side in (0, 1))
    for row, (rows, seen_rows) in enumerate(down):
        for column, (columns, seen_columns) in enumerate(across):
            if rows.start < rows.stop and columns.start < columns.stop:
                yield row, column, (rows, columns), (seen_rows, seen_columns)


def _looks(tap: int, size: int, at: Geometry, side: int) -> tuple[slice, slice]:
    """Of one side: the places of the output from which a tap looks at one of `size` places, and those that it sees."""
    off = tap - at.padding
    first, end = max(0, -(off // at.stride)), min(at.places[side], (size - 1 - off) // at.stride + 1)
    return slice(first, end), slice(first * at.stride + off, (end - 1) * at.stride + off + 1, at.stride)


def side_by_side(size: int, period: int) -> int:
    """How many pictures of `period` places are joined: a power of two that divides the batch, for rows of about `_LONG` places."""
    count = 1
    while size % (2 * count) == 0 and 2 * count * period < _LONG * 2**0.5:
        count *= 2
    return count


def joined(x: Tensor, count: int, period: int) -> Tensor:
    """N C H W -> N/count C H (count period), zeros between the pictures."""
    size, channels, height, width = x.shape
    y = x.new_zeros((size // count, height, count, period, channels))
    y[:, :, :, :width] = x.permute(0, 2, 3, 1).reshape(size // count, count, height, width, channels).transpose(1, 2)
    return y.view(size // count, height, count * period, channels).permute(0, 3, 1, 2)


def parted(y: Tensor, count: int, width: int) -> Tensor:
    """N/count C H (count period) -> N C H W, what `joined` is in the other direction."""
    rows, channels, height, length = y.shape
    y = y.permute(0, 2, 3, 1).reshape(rows, height, count, length // count, channels)[:, :, :, :width].transpose(1, 2)
    return y.reshape(rows * count, height, width, channels).permute(0, 3, 1, 2)


def spread_out(weight: Tensor, at: Geometry, shape: torch.Size) -> Tensor:
    """D C k k -> (H/s W/s D) x (H W C): the convolution of pictures of this shape as a matrix."""
    after, before, places = len(weight), shape[1], at.places[0] * at.places[1]
    taps = F.pad(weight.permute(2, 3, 0, 1).reshape(-1, after * before), (0, 0, 0, 1))  # the last is what no weight looks at
    found = taps.index_select(0, torch.from_numpy(_taps(shape[2], shape[3], at))).view(places, -1, after, before)
    return found.permute(0, 2, 1, 3).reshape(places * after, -1)


def summed_up(matrix: Tensor, at: Geometry, shape: torch.Size, weight: Tensor) -> Tensor:
    """(H/s W/s D) x (H W C) -> D C k k, the sum over all places of a weight: what `spread_out` is in the other direction."""
    after, before, places = len(weight), shape[1], at.places[0] * at.places[1]
    pairs = matrix.view(places, after, -1, before).permute(0, 2, 1, 3).reshape(-1, after * before)
    sums = torch.from_numpy(_selection(shape[2], shape[3], at)).to(matrix.dtype) @ pairs
    return sums.view(at.kernel, at.kernel, after, before).permute(2, 3, 0, 1)


@cache
def _taps(height: int, width: int, at: Geometry) -> npt.NDArray[np.int64]:
    """For each place of the output and each of the input the weight (y k + x) that looks from one at the other, or k k where none does."""
    rows, columns = (
        np.arange(side)[None] - np.arange(n)[:, None] * at.stride + at.padding for side, n in zip((height, width), at.places, strict=True)
    )
    y, x = rows[:, None, :, None], columns[None, :, None, :]
    seen = (y >= 0) & (y < at.kernel) & (x >= 0) & (x < at.kernel)
    return np.where(seen, y * at.kernel + x, at.kernel**2).ravel()


@cache
def _selection(height: int, width: int, at: Geometry) -> npt.NDArray[np.float32]:
    """(k k) x (places of the output and of the input): 1 where that weight looks from one at the other."""
    seen: npt.NDArray[np.bool_] = np.arange(at.kernel**2)[:, None] == _taps(height, width, at)
    return seen.astype(np.float32)
