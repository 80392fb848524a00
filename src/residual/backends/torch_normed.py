"""Batch norm, ReLU and pooling in training: steps of `torch_steps`, one call forwards and one backwards each."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from residual.backends.torch_steps import Pass

_aten = torch.ops.aten


@dataclass(kw_only=True)
class Normed:
    """[relu](batch norm) with the statistics of the batch; the running ones of `norm` are brought up to date."""

    name: str
    norm: nn.BatchNorm2d
    inner: bool
    relu: bool = False

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
        to_x, run.gradients[f"{self.name}.weight"], run.gradients[f"{self.name}.bias"] = _aten.native_batch_norm_backward(
            g, x, weight, self.norm.running_mean, self.norm.running_var, mean, scale, True, self.norm.eps, [self.inner, True, True]
        )
        return to_x


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
class Averaged:
    """The mean over all places: N C H W -> N C, in float32 as all that comes after it."""

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        run.stack.append(x)
        return x.mean((2, 3), dtype=torch.float32)

    def backward(self, g: Any, run: Pass) -> Any:
        x = run.stack.pop()
        return torch.empty_like(x).copy_((g / (x.shape[2] * x.shape[3]))[:, :, None, None])
