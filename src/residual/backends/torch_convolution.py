"""A convolution that trains faster in bfloat16 on a CPU, where oneDNN is slow.

Its gradients take one row of the output at a time, which leaves a matrix unit idle where rows are short: there pictures are laid side by
side, zeros between them. Convolutions of 1x1, and of few places with many channels, are faster as the matrix products that they are
(docs/performance.md, "Convolutions of few places"). Everywhere else this is `nn.Conv2d`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW, _MANY = 9, 256  # places of an output up to which, and input channels from which, a product is faster
_SHORT, _REACH = 12, 16  # places of an output's row, and of the input that it is taken from, up to which pictures are joined
_LONG = 64  # places of the rows they are joined to
_WORTH = 32 * 64  # input times output channels from which that is worth two copies


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the same parameters and, to rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:  # N C H W -> N D H/s W/s
        trained = self.training and self.weight.requires_grad and input.device.type == "cpu"
        if not trained or not _in_bfloat16(input) or not self._plain():
            return super().forward(input)
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        places = [(side + 2 * padding - kernel) // stride + 1 for side in input.shape[2:]]
        way = self._way(kernel, stride, padding, places)
        if way is None:
            return super().forward(input)
        found: Tensor = way.apply(input.bfloat16(), self.weight.bfloat16(), stride, padding, places)  # type: ignore[no-untyped-call]
        return found

    def _way(self, kernel: int, stride: int, padding: int, places: list[int]) -> type[torch.autograd.Function] | None:
        """What is faster than oneDNN's convolution, if anything is."""
        if kernel == 1 and padding == 0:
            return _Pointwise
        if places[0] * places[1] <= _FEW and self.in_channels >= _MANY:
            return _Product
        short = places[1] <= _SHORT and stride * places[1] <= _REACH
        return _Joined if short and kernel == 2 * padding + 1 and self.in_channels * self.out_channels >= _WORTH else None

    def _plain(self) -> bool:
        """Whether it is square, with zeros around, without groups and bias: what plans have."""
        square = all(len(set(pair)) == 1 for pair in (self.kernel_size, self.stride, self.padding) if not isinstance(pair, str))
        whole = self.groups == 1 and self.bias is None and self.dilation == (1, 1) and self.padding_mode == "zeros"
        return square and whole and not isinstance(self.padding, str)


class _Pointwise(torch.autograd.Function):
    """A convolution of 1x1: the places that it looks at, as rows, times the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, _: int, places: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, places
        return (every(x, stride) @ flat(weight).t()).view(len(x), *places, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (x, weight), (stride, places) = ctx.saved_tensors, ctx.geometry
        to_rows = every(gradient, 1)
        to_weight = (to_rows.t() @ every(x, stride)).view(len(weight), 1, 1, -1).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[0]:
            return None, to_weight, None, None, None
        to_x = (to_rows @ flat(weight)).view(len(x), *places, 1, 1, x.shape[1])
        return folded(to_x, x.shape, stride, 0), to_weight, None, None, None


class _Product(torch.autograd.Function):
    """A convolution as products of a matrix of patches: rows are places, columns are kernel x kernel x C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, places: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, places
        y = patches(x, weight.shape[2], stride, padding, places) @ flat(weight).t()
        return y.view(len(x), *places, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (x, weight), (stride, padding, places) = ctx.saved_tensors, ctx.geometry
        kernel = weight.shape[2]
        rows = every(gradient, 1)
        to_weight = rows.t() @ patches(x, kernel, stride, padding, places)
        to_weight = to_weight.view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[0]:
            return None, to_weight, None, None, None
        to_x = folded((rows @ flat(weight)).view(len(x), *places, kernel, kernel, x.shape[1]), x.shape, stride, padding)
        return to_x, to_weight, None, None, None


class _Joined(torch.autograd.Function):
    """A convolution whose gradients are those of pictures that lie side by side, with zeros between them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, places: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, places
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (x, weight), (stride, padding, _) = ctx.saved_tensors, ctx.geometry
        period = (x.shape[3] + padding + stride - 1) // stride  # of an output in its row; a picture's is `stride` times that
        count = side_by_side(len(x), period)
        wanted = [ctx.needs_input_grad[0], True, False]
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            joined(gradient, count, period), joined(x, count, stride * period), weight,
            None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted,
        )  # fmt: skip
        return parted(to_x, count, x.shape[3]) if wanted[0] else None, to_weight, None, None, None


def in_layout(x: Tensor, *, channels_last: bool) -> Tensor:
    """Pictures N C H W in that layout of memory. One channel lies in both alike, and its strides tell a convolution which to answer in."""
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    if x.shape[1] > 1:
        return x
    height, width = x.shape[2:]
    return x.as_strided(x.shape, (height * width, 1 if channels_last else height * width, width, 1))


def _in_bfloat16(x: Tensor) -> bool:
    if x.dtype == torch.float32:
        return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


def every(x: Tensor, stride: int) -> Tensor:
    """N C H W -> (N H/s W/s) x C, every `stride`-th place: a view for a stride of 1 where it is channels last."""
    return x[:, :, ::stride, ::stride].permute(0, 2, 3, 1).flatten(0, 2)


def flat(weight: Tensor) -> Tensor:
    """D C k k -> D x (k k C): a view where it is channels last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def patches(x: Tensor, kernel: int, stride: int, padding: int, places: list[int]) -> Tensor:
    """N C H W -> (N H/s W/s) x (k k C), zeros around the pictures."""
    x = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1).contiguous()
    count, height, width, channels = x.shape
    row = width * channels  # of the strides, which the compiler would not let us ask for
    shape, strides = (count, *places, kernel, kernel, channels), (height * row, stride * row, stride * channels, row, channels, 1)
    return x.as_strided(shape, strides).flatten(3).flatten(0, 2)


def folded(d: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """The sum of patches (N H/s W/s k k C) where they lie in N C H W: what `patches` is in the other direction."""
    (count, channels, height, width), (_, rows, columns, kernel, *_) = shape, d.shape
    if kernel == stride == 1 and padding == 0:
        return d.view(count, height, width, channels).permute(0, 3, 1, 2)
    x = d.new_zeros((count, height + 2 * padding, width + 2 * padding, channels))
    for i in range(kernel):
        for j in range(kernel):
            x[:, i : i + stride * rows : stride, j : j + stride * columns : stride].add_(d[:, :, :, i, j])
    return x[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)


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
