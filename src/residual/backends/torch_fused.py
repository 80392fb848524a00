"""A convolution for inference, with batch norm folded into it, and ReLU and an addition done before its result leaves the registers.

On a CPU that is oneDNN's. PyTorch keeps it private, so it is tried once on a small case, and a plain convolution stands in where it fails.
"""

from functools import cache
from threading import Lock

import torch
from torch import Tensor
from torch.nn import functional as F

from residual.backends import torch_onednn as onednn
from residual.backends import torch_winograd as winograd
from residual.backends.torch_onednn import Window
from residual.layers import Conv

_ROWS = 2**18  # weights that are folded together: their float64 copies are all that folding takes besides the result

_PACKING = Lock()  # threads may share a form


class Convolution:
    """relu(conv(x) + other), the last two if wanted. Scales are multiplied in float64, in `ready`, so that folding rounds once."""

    def __init__(self, layer: Conv, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias, self.scale = weight, None if bias is None else bias.double(), weight.new_ones(len(weight)).double()
        self.window = Window(padding=(layer.padding,) * 2, stride=(layer.stride,) * 2, groups=layer.groups)
        self.relu, self.fused, self.packed = False, False, False
        self.expected = 0  # pictures at a time; 0: as many as come first
        self.tiled: winograd.Winograd | None = None

    def fold(self, scale: Tensor, shift: Tensor) -> None:
        """Makes it scale * conv(x) + shift."""
        self.scale = self.scale * scale
        self.bias = shift if self.bias is None else self.bias * scale + shift

    def ready(self, dtype: torch.dtype, *, fused: bool) -> None:
        """The weights become the form's own, of `dtype`."""
        weight, self.fused = torch.empty_like(self.weight, dtype=dtype, memory_format=torch.channels_last), fused
        rows = max(1, _ROWS * len(weight) // weight.numel())
        for part, given, scale in zip(*(torch.split(whole, rows) for whole in (weight, self.weight, self.scale)), strict=True):
            part.copy_(given.double() * scale[:, None, None, None])
        self.weight, self.bias = weight, None if self.bias is None else self.bias.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.fused:
            y = F.conv2d(x, self.weight, self.bias, self.window.stride, self.window.padding, 1, self.window.groups)
            return y.relu_() if self.relu else y
        self._pack(x)
        if self.tiled is not None:
            return self.tiled(x, relu=self.relu)
        return onednn.convolved(x, self.weight, self.bias, self.window, relu=self.relu)

    def added(self, x: Tensor, other: Tensor, *, relu: bool) -> Tensor:
        """conv(x) + other, which is overwritten, and its ReLU."""
        if not self.fused:
            y = self(x).add_(other)
            return y.relu_() if relu else y
        self._pack(x)
        if self.tiled is not None:
            return self.tiled.added(x, other, relu=relu)
        return onednn.convolved_onto(other, x, self.weight, self.bias, self.window, relu=relu)

    def _pack(self, x: Tensor) -> None:
        """Lays the weight out, once, as is fastest for the first shape it sees; others are right too."""
        if self.packed:
            return
        with _PACKING:
            if not self.packed:
                self._packed_for(torch.Size((self.expected or len(x), *x.shape[1:])))
                self.packed = True

    def _packed_for(self, shape: torch.Size) -> None:
        plain = self.weight.shape[2:] == (3, 3) and self.window == Window(padding=(1, 1))
        if plain and self.weight.dtype == torch.float32 and winograd.pays(self.weight, shape):
            self.tiled, self.weight = winograd.Winograd(self.weight, self.bias, shape), torch.empty(0)
        else:
            self.weight = onednn.laid_out(self.weight, self.window, shape)


@cache
def fused_works(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolutions are here, take `dtype` and give what the plain ones give."""
    layer = Conv(name="tried", in_channels=8, out_channels=16, kernel=3, stride=2, padding=1, groups=2, bias=True)
    stream, shapes = torch.Generator().manual_seed(0), ((16, 4, 3, 3), (16,), (2, 8, 9, 7), (2, 16, 5, 4))
    weight, bias, x, other = (torch.randn(shape, generator=stream).to(dtype) for shape in shapes)
    x, other = (value.contiguous(memory_format=torch.channels_last) for value in (x, other))
    answers = []
    try:
        with torch.inference_mode():
            for fused in (True, False):
                conv, kind = Convolution(layer, weight, bias), dtype if fused else torch.float32
                conv.ready(kind, fused=fused)
                added = conv.added(x.to(kind), other.to(kind, copy=True), relu=True)
                conv.relu = True
                answers.append([conv(x.to(kind)).float(), added.float()])
            if dtype == torch.float32:
                weight, x = (torch.randn(shape, generator=stream) for shape in ((16, 16, 3, 3), (2, 16, 5, 7)))
                weight /= 100  # sums below 1, that rounding is below the tolerance
                answers[0].append(winograd.Winograd(weight, bias, x.shape)(x))
                answers[1].append(F.conv2d(x, weight, bias, padding=1))
    except (AttributeError, RuntimeError):
        return False
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    return all(bool((found - wanted).abs().max() <= tolerance) for found, wanted in zip(*answers, strict=True))


__all__ = ["Convolution", "fused_works"]
