"""The fast form of a PyTorch model in training: its forward and backward pass written out from the plan, one operation of autograd.

A small net's step on a CPU is mostly calls: of modules, of autograd's nodes, of autocast's casts (docs/performance.md, "A step written
out"). Here each layer is one call of what PyTorch computes it with, forwards and backwards.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from residual.backends.torch import ResidualNet
from residual.backends.torch_inference import as_planned, folded_layers
from residual.backends.torch_normed import Averaged, Normed, NormedPooled, Pooled, Rectified
from residual.backends.torch_steps import (
    Added,
    Convolved,
    Differentiated,
    Multiplied,
    Padded,
    Pass,
    Step,
    Thinned,
    back_through,
    through,
)
from residual.backends.torch_ways import is_thinned
from residual.layers import Block, Conv, GlobalAvgPool, Layer, Linear, MaxPool, Norm, PadChannels, Relu


def training_form(model: ResidualNet, *, half: bool = False, compiled: bool = False) -> Callable[[Tensor], Tensor]:
    """Logits (N x classes) of pictures N C H W in training mode, whose gradients `model`'s parameters get; to rounding the model's own.
    With `half` in bfloat16; with `compiled` by PyTorch's compiler instead.

    A call's gradients are asked for once, and pictures get none. A frozen first layer is taken as it is at the first call. A model that is
    on another device than a CPU, is no longer what its plan says, or keeps other parameters than its first layer's as they are, is run as
    it is, under autocast.
    """
    fixed = {name.rpartition(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    known = fixed <= {layer.name for layer in _untrained(model)}
    known &= not any(module._backward_hooks or module._backward_pre_hooks for module in model.modules())
    if compiled or not known or next(model.parameters()).device.type != "cpu" or not as_planned(model):
        return partial(_autocast, torch.compile(model) if compiled else model, half)
    written = _Written(model, half)
    return lambda x: _Whole.apply(written, x, *written.parameters.values())  # type: ignore[no-untyped-call]


def _autocast(call: Callable[[Tensor], Tensor], half: bool, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        return call(x)


def _untrained(model: ResidualNet) -> tuple[Layer, ...]:
    """The stem's first layers where they are frozen, and what follows them without parameters."""
    stem = model.plan.stem
    trained = (layer.name not in model._frozen and not isinstance(layer, Relu | MaxPool) for layer in stem)
    return stem[: next((at for at, found in enumerate(trained) if found), len(stem))] if model._frozen else ()


class _Written:
    """A model's steps, and its trained parameters by name; what is not trained is computed as in inference."""

    def __init__(self, model: ResidualNet, half: bool) -> None:
        self.model, self.half, self.dtype = model, half, torch.bfloat16 if half else torch.float32
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
        self.counters = [norm.get_buffer("num_batches_tracked") for name, norm in norms.items() if name not in model._frozen]
        self.untrained, maker = _untrained(model), _Maker(model)
        self.first: Callable[[Tensor], Tensor] | None = None
        self.steps = maker.chain(model.plan.stem[len(self.untrained) :])
        for block in model.plan.blocks():
            self.steps += maker.block(block)
        self.steps += maker.chain(model.plan.head)

    def forward(self, x: Tensor) -> tuple[Tensor, Pass]:
        if self.untrained:
            self.first = self.first or folded_layers(self.model, self.untrained, half=self.half)
            layout = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
            x = self.first(x).contiguous(memory_format=layout)
        x = x.to(self.dtype)
        run = Pass(weights={name: p.to(self.dtype) if p.ndim == 4 else p for name, p in self.parameters.items()}, half=self.half)
        x = through(self.steps, x, run)
        if self.counters:
            torch._foreach_add_(self.counters, 1)
        return x, run


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, written: _Written, x: Tensor, *_: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            found, ctx.run = written.forward(x)
        ctx.written = written
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        run, ctx.run = ctx.run, None
        if run is None:
            raise RuntimeError("The gradients of this training step were asked for already; call the form anew for others.")
        back_through(ctx.written.steps, g, run)
        found = run.gradients
        return None, None, *(found.pop(name).to(p.dtype) for name, p in ctx.written.parameters.items())


class _Maker:
    """Makes the steps of layers; `inner` says whether something before them is trained, so that gradients must go through them."""

    def __init__(self, model: ResidualNet) -> None:
        self.model, self.inner = model, False
        self.trained = [name for name, p in model.named_parameters() if p.requires_grad]

    def chain(self, layers: Sequence[Layer]) -> list[Step]:
        steps: list[Step] = []
        for layer in layers:
            last = steps[-1] if steps else None
            if isinstance(layer, Relu) and isinstance(last, Normed) and not last.relu:
                last.relu = True
                continue
            if isinstance(layer, MaxPool):
                if isinstance(last, Normed) and last.relu:
                    last.relu, last.alone = False, True  # ReLU comes after the pooling
                    steps[-1] = NormedPooled(norm=last, pool=Pooled(layer=layer, inner=self.inner, relu=True))
                else:
                    steps.append(Pooled(layer=layer, inner=self.inner, relu=False))
                continue
            steps.append(self.step(layer))
            self.inner |= any(name.startswith(f"{layer.name}.") for name in self.trained)
        return steps

    def block(self, block: Block) -> list[Step]:
        before = self.chain(block.before)
        inner = self.inner
        branch = self.chain(block.branch)
        if block.shortcut is None:
            return [*before, *branch, *self.chain(block.after)]
        self.inner = inner
        shortcut = self.chain(block.shortcut)
        self.inner = True
        relu = bool(block.after) and isinstance(block.after[0], Relu)
        after = self.chain(block.after[relu:])
        return [Added(before=before, branch=branch, shortcut=shortcut, relu=relu, after=after, drop_path=block.drop_path)]

    def step(self, layer: Layer) -> Step:
        match layer:
            case Conv() if is_thinned(layer.kernel, layer.stride, (layer.in_channels, layer.out_channels)) and not layer.padding:
                return Thinned(conv=Convolved(layer=replace(layer, stride=1), inner=self.inner), stride=layer.stride)
            case Conv():
                return Convolved(layer=layer, inner=self.inner)
            case Norm(name=name):
                norm = self.model.get_submodule(name)
                assert isinstance(norm, nn.BatchNorm2d)
                return Normed(name=name, norm=norm, inner=self.inner)
            case Relu():
                return Rectified(inner=self.inner)
            case GlobalAvgPool():
                return Averaged()
            case Linear(name=name):
                return Multiplied(name=name)
            case PadChannels():
                return Padded(layer=layer, inner=self.inner)
            case _:
                return Differentiated(name=layer.name, module=self.model.get_submodule(layer.name), inner=self.inner)
