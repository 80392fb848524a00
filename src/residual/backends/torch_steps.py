"""The layers of a net in training, each as one call forwards and one backwards: what `torch_training` writes a plan out with.

`forward` leaves on the stack what `backward` takes off it again, in the opposite order. A step that nothing trained comes before
(`inner` false) has no gradient to hand on: it answers None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends.torch_ways import thinned, way_of
from residual.layers import Conv, PadChannels

_aten = torch.ops.aten


@dataclass(kw_only=True)
class Pass:
    """One forward pass: the weights as it computes with them, what its layers left for the backward one, and the gradients found there."""

    weights: dict[str, Tensor]
    half: bool
    stack: list[Any] = field(default_factory=list)
    gradients: dict[str, Tensor] = field(default_factory=dict)


class Step(Protocol):
    def forward(self, x: Tensor, run: Pass) -> Tensor: ...

    def backward(self, g: Any, run: Pass) -> Any: ...  # the gradient of `forward`'s answer -> that of x, or None


def through(steps: Sequence[Step], x: Tensor, run: Pass) -> Tensor:
    for step in steps:
        x = step.forward(x, run)
    return x


def back_through(steps: Sequence[Step], g: Any, run: Pass) -> Any:
    for step in reversed(steps):
        g = step.backward(g, run)
    return g


@dataclass(frozen=True, kw_only=True)
class Convolved:
    layer: Conv
    inner: bool

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        layer, weight = self.layer, run.weights[f"{self.layer.name}.weight"]
        way = at = kept = None
        if run.half and layer.groups == 1 and not layer.bias:
            way, at = way_of(x.shape, weight.shape, layer.stride, layer.padding)
        if way is None or at is None:
            bias = run.weights[f"{layer.name}.bias"].to(x.dtype) if layer.bias else None
            y = torch.conv2d(x, weight, bias, layer.stride, layer.padding, 1, layer.groups)
        else:
            y, kept = way.forward(x, weight, at)
        run.stack.append((x, weight, way, at, kept))
        return y

    def backward(self, g: Any, run: Pass) -> Any:
        layer, (x, weight, way, at, kept) = self.layer, run.stack.pop()
        if way is None:
            to_x, to_weight, to_bias = _aten.convolution_backward(
                g, x, weight, [len(weight)] if layer.bias else None, [layer.stride] * 2, [layer.padding] * 2, [1, 1], False, [0, 0],
                layer.groups, [self.inner, True, layer.bias],
            )  # fmt: skip
            if layer.bias:
                run.gradients[f"{layer.name}.bias"] = to_bias
        else:
            to_x, to_weight = way.backward(g, x, weight, at, self.inner, kept)
        run.gradients[f"{layer.name}.weight"] = to_weight
        return to_x


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """A convolution of each `stride`-th place."""

    conv: Convolved
    stride: int

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        run.stack.append(x)
        return self.conv.forward(thinned(x, self.stride), run)

    def backward(self, g: Any, run: Pass) -> Any:
        to_places, x = self.conv.backward(g, run), run.stack.pop()
        if to_places is None:
            return None
        to_x = torch.zeros_like(x, dtype=to_places.dtype)
        thinned(to_x, self.stride).copy_(to_places)
        return to_x


@dataclass(frozen=True, kw_only=True)
class Multiplied:
    """The linear layer, in float32."""

    name: str

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        rows = x.flatten(1).float()
        run.stack.append((x, rows))
        return F.linear(rows, run.weights[f"{self.name}.weight"], run.weights.get(f"{self.name}.bias"))

    def backward(self, g: Any, run: Pass) -> Any:
        x, rows = run.stack.pop()
        run.gradients[f"{self.name}.weight"] = g.t() @ rows
        if f"{self.name}.bias" in run.weights:
            run.gradients[f"{self.name}.bias"] = g.sum(0)
        return (g @ run.weights[f"{self.name}.weight"]).view(x.shape).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class Padded:
    """Every `stride`-th place, and zeros for the channels that are new."""

    layer: PadChannels
    inner: bool

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        if self.inner:
            run.stack.append(x)
        return F.pad(x[:, :, :: self.layer.stride, :: self.layer.stride], (0, 0, 0, 0, self.layer.before, self.layer.after))

    def backward(self, g: Any, run: Pass) -> Any:
        if not self.inner:
            return None
        x = run.stack.pop()
        spread = torch.zeros_like(x)
        spread[:, :, :: self.layer.stride, :: self.layer.stride] = g[:, self.layer.before : self.layer.before + x.shape[1]]
        return spread


@dataclass(frozen=True, kw_only=True)
class Differentiated:
    """Any other layer: the module itself, by autograd."""

    name: str
    module: nn.Module
    inner: bool

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=run.half):
            shown = x.detach().requires_grad_(self.inner)
            y: Tensor = self.module(shown).to(x.dtype)
        if y.requires_grad:
            run.stack.append((shown, y))
        return y.detach()

    def backward(self, g: Any, run: Pass) -> Any:
        parameters = {f"{self.name}.{name}": p for name, p in self.module.named_parameters()}
        if not parameters and not self.inner:
            return None
        shown, y = run.stack.pop()
        with torch.enable_grad():
            product = (y * g).sum()  # for a gradient of its own autograd would import PyTorch's compiler
        to_shown = list(torch.autograd.grad(product, [*([shown] if self.inner else []), *parameters.values()]))
        to_x = to_shown.pop(0) if self.inner else None
        run.gradients.update(zip(parameters, to_shown, strict=True))
        return to_x


@dataclass(frozen=True, kw_only=True)
class Added:
    """A block with a shortcut: after(branch(before(x)) + shortcut(before(x))), with `relu` first of what comes after."""

    before: Sequence[Step]
    branch: Sequence[Step]
    shortcut: Sequence[Step]
    relu: bool
    after: Sequence[Step]
    drop_path: float

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        x = through(self.before, x, run)
        y = through(self.branch, x, run)
        if self.drop_path:
            kept = (torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop_path).to(y.dtype) / (1 - self.drop_path)
            run.stack.append(kept)
            y = y * kept
        y = y + through(self.shortcut, x, run)
        if self.relu:
            run.stack.append(y.relu_())
        return through(self.after, y, run)

    def backward(self, g: Any, run: Pass) -> Any:
        g = back_through(self.after, g, run)
        if self.relu:
            g = _aten.threshold_backward(g, run.stack.pop(), 0)
        along = back_through(self.shortcut, g, run)
        if self.drop_path:
            g = g * run.stack.pop()
        g = back_through(self.branch, g, run)
        g = along if g is None else g if along is None else g + along
        return back_through(self.before, g, run)
