"""Batch norm, ReLU and pooling in training: steps of `torch_steps`, one call forwards and one backwards each."""

from dataclasses import dataclass
from typing import Any, cast

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
        weights, norm = self.weights(run), self.norm
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

    def weights(self, run: Pass) -> tuple[Tensor, Tensor]:
        """The factor and the shift of each channel."""
        return run.weights[f"{self.name}.weight"], run.weights[f"{self.name}.bias"]


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
        x = F.pad(x, (self.border,) * 4) if self.border else x
        y, taken = self.largest(x)
        if self.relu:
            y.relu_()
        if self.inner:  # of what the pooling saw only the shape is looked at
            run.stack.append((torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta"), taken, y if self.relu else None))
        return y

    def backward(self, g: Any, run: Pass) -> Any:
        if not self.inner:
            return None
        x, taken, y = run.stack.pop()
        if y is not None:
            g = _aten.threshold_backward(g, y, 0)
        to_x, at = self.spread(g, x, taken), self.border
        return to_x[:, :, at:-at, at:-at].clone() if at else to_x

    def largest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of x, and where it lies."""
        y, taken = _aten.max_pool2d_with_indices(x, *self._window)
        return y, taken.to(torch.int16 if x.shape[2] * x.shape[3] <= 2**15 else torch.int32)  # PyTorch's 64 bits are four layers' bfloat16

    def spread(self, g: Tensor, x: Tensor, taken: Tensor) -> Tensor:
        """`g` at the places that were taken of x, zero elsewhere."""
        to_x = torch.empty_strided(x.shape, x.stride(), dtype=g.dtype)
        return cast(Tensor, _aten.max_pool2d_with_indices_backward.grad_input(
            g, to_x, *self._window, [1, 1], False, taken.long(), grad_input=to_x
        ))  # fmt: skip

    @property
    def border(self) -> int:
        """Zeros around; before a ReLU minus infinity gives the same."""
        return self.layer.padding if self.layer.zero_padding and not self.relu else 0

    @property
    def _window(self) -> tuple[list[int], ...]:
        return [self.layer.kernel] * 2, [self.layer.stride] * 2, [self.layer.padding - self.border] * 2


@dataclass(frozen=True, kw_only=True)
class NormedPooled:
    """Batch norm, then max pooling, and ReLU (`pool.relu`). Where the norm's weights are all above zero it keeps the order of a channel's
    numbers, and the pooling goes first, a few pictures at a time: what the norm gives is a quarter as large, and what comes back is
    written over what came."""

    norm: Normed
    pool: Pooled

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        norm, weights = self.norm.norm, self.norm.weights(run)
        if x.numel() == x.shape[1] or not bool((weights[0] > 0).all()):
            found = self.pool.forward(self.norm.forward(x, run), run)
            run.stack.append(None)
            return found
        mean, var = _aten.batch_norm_update_stats(x, norm.running_mean, norm.running_var, norm.momentum or 0.0)
        parts = [self.pool.largest(part) for part in torch.split(x, _together(x))]
        highest, taken = (torch.cat(part) for part in zip(*parts, strict=True))
        y: Tensor = torch.native_batch_norm(highest, *weights, mean, var, False, 0.0, norm.eps)[0]
        run.stack.append((x, highest, taken, mean, var, y.relu_()))
        return y

    def backward(self, g: Any, run: Pass) -> Any:
        found = run.stack.pop()
        if found is None:
            return self.norm.backward(self.pool.backward(g, run), run)
        x, highest, taken, mean, var, y = found
        g = _aten.threshold_backward(g, y, 0)
        weight, eps = self.norm.weights(run)[0], self.norm.norm.eps
        g, to_weight, to_bias = _aten.native_batch_norm_backward(
            g, highest, weight, mean, var, None, None, False, eps, [self.norm.inner, True, True]
        )
        run.gradients[f"{self.norm.name}.weight"], run.gradients[f"{self.norm.name}.bias"] = to_weight, to_bias
        if not self.norm.inner:
            return None
        slope = weight * (var + eps).rsqrt() * (-x.shape[1] / x.numel())
        for part, to_part, places in zip(*(torch.split(whole, _together(x)) for whole in (x, g, taken)), strict=True):
            through_moments = torch.native_batch_norm(part, slope * to_weight, slope * to_bias, mean, var, False, 0.0, eps)[0]
            torch.add(through_moments, self.pool.spread(to_part, part, places), out=part)
        return x


def _together(x: Tensor) -> int:
    """Pictures that are worked on at a time, to stay in the processor's cache."""
    return max(1, 8 * _PART * len(x) // x.numel())


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """The mean over all places: N C H W -> N C, in float32 as all that comes after it."""

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        run.stack.append(x)
        return x.mean((2, 3), dtype=torch.float32)

    def backward(self, g: Any, run: Pass) -> Any:
        x = run.stack.pop()
        return torch.empty_like(x).copy_((g / (x.shape[2] * x.shape[3]))[:, :, None, None])
