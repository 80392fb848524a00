"""Batch norm, ReLU and pooling in training: steps of `torch_steps`, one call forwards and one backwards each."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends.torch_steps import Pass
from residual.layers import MaxPool

_aten = torch.ops.aten
_LARGE = 2**23  # bytes of a layer from which its gradient is worth two copies fewer
_PART = 2**18  # numbers that are worked on at a time, to stay in the processor's cache


@dataclass(kw_only=True)
class Normed:
    """[relu](batch norm) with the statistics of the batch; the running ones of `norm` are brought up to date. With `alone` no other layer
    sees the gradient that comes back, so that it may be overwritten."""

    name: str
    norm: nn.BatchNorm2d
    inner: bool
    relu: bool = False
    alone: bool = False

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        if x.numel() == x.shape[1]:
            raise ValueError(f"Batch norm needs more than one value a channel in training, and {self.name} got {tuple(x.shape)}.")
        weights, norm = (run.weights[f"{self.name}.weight"], run.weights[f"{self.name}.bias"]), self.norm
        y, mean, scale = torch.native_batch_norm(x, *weights, norm.running_mean, norm.running_var, True, norm.momentum or 0.0, norm.eps)
        if self.relu:
            y.relu_()
        run.stack.append((x, weights[0], mean, scale, y if self.relu else None))
        return y

    def backward(self, g: Any, run: Pass) -> Any:
        x, weight, mean, scale, y = run.stack.pop()
        if y is not None:
            g = _aten.threshold_backward(g, y, 0)
        over = self.inner and (self.alone or self.relu) and x.dtype == torch.float32 and x.nbytes >= _LARGE and g.stride() == x.stride()
        to_x, to_weight, to_bias = _aten.native_batch_norm_backward(
            g, x, weight, self.norm.running_mean, self.norm.running_var, mean, scale, True, self.norm.eps,
            [self.inner and not over, True, True],
        )  # fmt: skip
        run.gradients[f"{self.name}.weight"], run.gradients[f"{self.name}.bias"] = to_weight, to_bias
        return _to_input(g, x, mean, weight * scale, scale * to_weight, to_bias) if over else to_x


def _to_input(g: Tensor, x: Tensor, mean: Tensor, slope: Tensor, along: Tensor, to_bias: Tensor) -> Tensor:
    """`g`, overwritten with the gradient of batch norm's input, slope (g - (to_bias + (x - mean) along) / count): PyTorch's own takes the
    memory of two layers beside it."""
    share = x.shape[1] / x.numel()
    mean, slope, along, shift = (value[:, None, None] for value in (mean, slope, along * -share, to_bias * share))
    count = max(1, _PART * len(x) // x.numel())
    for part, seen in zip(torch.split(g, count), torch.split(x, count), strict=True):
        part.sub_(shift).addcmul_(seen - mean, along).mul_(slope)
    return g


@dataclass(frozen=True, kw_only=True)
class Rectified:
    inner: bool

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        y = torch.relu(x)
        if self.inner:
            run.stack.append(y)
        return y

    def backward(self, g: Any, run: Pass) -> Any:
        return _aten.threshold_backward(g, run.stack.pop(), 0) if self.inner else None


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Max pooling, [and then the ReLU that stands before it in the plan: they may change places, and it has less to see and to keep]."""

    layer: MaxPool
    inner: bool
    relu: bool

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        x = F.pad(x, (self._border,) * 4) if self._border else x
        y: Tensor
        y, taken = _aten.max_pool2d_with_indices(x, *self._window)
        if self.relu:
            y.relu_()
        if self.inner:
            run.stack.append((x.shape, x.stride(), taken, y if self.relu else None))
        return y

    def backward(self, g: Any, run: Pass) -> Any:
        if not self.inner:
            return None
        shape, strides, taken, y = run.stack.pop()
        if y is not None:
            g = _aten.threshold_backward(g, y, 0)
        to_x = torch.empty_strided(shape, strides, dtype=g.dtype)  # also what the pooling saw, of which only the shape is looked at
        _aten.max_pool2d_with_indices_backward.grad_input(g, to_x, *self._window, [1, 1], False, taken, grad_input=to_x)
        at = self._border
        return to_x[:, :, at:-at, at:-at].clone() if at else to_x

    @property
    def _border(self) -> int:
        """Zeros around; before a ReLU minus infinity gives the same."""
        return self.layer.padding if self.layer.zero_padding and not self.relu else 0

    @property
    def _window(self) -> tuple[list[int], ...]:
        return [self.layer.kernel] * 2, [self.layer.stride] * 2, [self.layer.padding - self._border] * 2


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """The mean over all places: N C H W -> N C, in float32 as all that comes after it."""

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        run.stack.append(x)
        return x.mean((2, 3), dtype=torch.float32)

    def backward(self, g: Any, run: Pass) -> Any:
        x = run.stack.pop()
        return torch.empty_like(x).copy_((g / (x.shape[2] * x.shape[3]))[:, :, None, None])
