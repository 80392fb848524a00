"""A convolution that trains faster in bfloat16 on a CPU where its output has few places.

There oneDNN is two to seven times slower at the gradient of the weights than the matrix product that it is, and with many channels
slower at the other two as well (docs/performance.md, "Convolutions of few places"). Everywhere else this is `nn.Conv2d`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW = 36  # places of an output up to which a product is faster for the gradient of the weights
_FEWEST, _MANY = 9, 256  # places up to which, and input channels from which, it is so for all three


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the same parameters and, to rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:  # N C H W -> N D H/s W/s
        if not self.training or input.device.type != "cpu" or not self._plain():
            return super().forward(input)
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        places = [(side + 2 * padding - kernel) // stride + 1 for side in input.shape[2:]]
        if places[0] * places[1] > _FEW or not _in_bfloat16(input) or not self.weight.requires_grad:
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            found: Tensor = _Product.apply(  # type: ignore[no-untyped-call]
                input.bfloat16(), self.weight.bfloat16(), stride, padding, places
            )
        return found

    def _plain(self) -> bool:
        """Whether it is square, with zeros around, without groups and bias: what plans have."""
        square = all(len(set(pair)) == 1 for pair in (self.kernel_size, self.stride, self.padding) if not isinstance(pair, str))
        whole = self.groups == 1 and self.bias is None and self.dilation == (1, 1) and self.padding_mode == "zeros"
        return square and whole and not isinstance(self.padding, str)


class _Product(torch.autograd.Function):
    """A convolution of which some or all is done as products of a matrix of patches: rows are places, columns are kernel x kernel x C."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, places: list[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, places
        if not _wide(weight, places):
            return F.conv2d(x, weight, None, stride, padding)
        y = patches(x, weight.shape[2], stride, padding, places) @ flat(weight).t()
        return y.view(len(x), *places, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        (x, weight), (stride, padding, places) = ctx.saved_tensors, ctx.geometry
        kernel = weight.shape[2]
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        to_weight = rows.t() @ patches(x, kernel, stride, padding, places)
        to_weight = to_weight.view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[0]:
            return None, to_weight, None, None, None
        if _wide(weight, places):
            to_x = folded((rows @ flat(weight)).view(len(x), *places, kernel, kernel, -1), x.shape, stride, padding)
        else:
            to_x = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        return to_x, to_weight, None, None, None


def _in_bfloat16(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 or (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16)


def _wide(weight: Tensor, places: list[int]) -> bool:
    return places[0] * places[1] <= _FEWEST and weight.shape[1] >= _MANY


def flat(weight: Tensor) -> Tensor:
    """D C k k -> D x (k k C): a view where it is channels last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def patches(x: Tensor, kernel: int, stride: int, padding: int, places: list[int]) -> Tensor:
    """N C H W -> (N H/s W/s) x (k k C), zeros around the pictures."""
    x = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1).contiguous()
    count, height, width, channels = x.shape
    row = width * channels  # of the strides, which the compiler would not let us ask for
    shape, strides = (count, *places, kernel, kernel, channels), (height * row, stride * row, stride * channels, row, channels, 1)
    return x.as_strided(shape, strides).reshape(-1, kernel * kernel * channels)


def folded(d: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """The sum of patches (N H/s W/s k k C) where they lie in N C H W: what `patches` is in the other direction."""
    (count, channels, height, width), (_, rows, columns, kernel, *_) = shape, d.shape
    x = d.new_zeros((count, height + 2 * padding, width + 2 * padding, channels))
    for i in range(kernel):
        for j in range(kernel):
            x[:, i : i + stride * rows : stride, j : j + stride * columns : stride].add_(d[:, :, :, i, j])
    return x[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)
