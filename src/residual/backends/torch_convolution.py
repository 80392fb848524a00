"""A convolution that trains faster in bfloat16 on a CPU, where oneDNN is slow. Everywhere else it is `nn.Conv2d`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends.torch_ways import Dense, Geometry, Way, is_thinned, thinned, way_of


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the same parameters and, to rounding, the same results."""

    def forward(self, input: Tensor) -> Tensor:  # N C H W -> N D H/s W/s
        trained = self.training and self.weight.requires_grad and input.device.type == "cpu"
        if not trained or not _in_bfloat16(input) or not self._plain():
            if trained and self._pointwise(input) and is_thinned(1, self.stride[0], (self.in_channels, self.out_channels)):
                return F.conv2d(thinned(input, self.stride[0]), self.weight, self.bias)
            return super().forward(input)
        way, at = way_of(input.shape, self.weight.shape, self.stride[0], int(self.padding[0]))
        if way is None or (way is Dense and torch.compiler.is_compiling()):  # its table is NumPy's, which the compiler cannot take in
            return super().forward(input)
        found: Tensor = _By.apply(input.bfloat16(), self.weight.bfloat16(), way, at)  # type: ignore[no-untyped-call]
        return found

    def _pointwise(self, input: Tensor) -> bool:
        """Whether it is 1x1, square and without groups, and computed in channels last, as pictures or weights lie."""
        last = input.stride(1) == 1 or not input.is_contiguous() or self.weight.stride(2) != 1
        return last and self.kernel_size == (1, 1) and self.padding == (0, 0) and self.stride[0] == self.stride[1] and self.groups == 1

    def _plain(self) -> bool:
        """Whether it is square, with zeros around, without groups and bias: what plans have."""
        square = all(len(set(pair)) == 1 for pair in (self.kernel_size, self.stride, self.padding) if not isinstance(pair, str))
        whole = self.groups == 1 and self.bias is None and self.dilation == (1, 1) and self.padding_mode == "zeros"
        return square and whole and not isinstance(self.padding, str)


class _By(torch.autograd.Function):
    """A way as an operation of autograd. What its forward pass kept is not used again, so that gradients of gradients are right too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, way: type[Way], at: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.way, ctx.at = way, at
        return way.forward(x, weight, at)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        return *ctx.way.backward(gradient, x, weight, ctx.at, ctx.needs_input_grad[0], None), None, None


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
