"""PyTorch's optimizers as recipes name them, without what makes them slow to start and to step."""

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from residual.recipe import Recipe


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; batch norm and biases are not decayed unless the recipe says so."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1 or recipe.decay_norm_and_bias]
    vectors = [p for p in trained if p.ndim <= 1 and not recipe.decay_norm_and_bias]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    kind: Any = torch.optim.SGD
    kept: dict[str, Any] = {"momentum": recipe.momentum, "nesterov": recipe.nesterov and recipe.momentum > 0}
    if recipe.optimizer == "adamw":
        kind, kept = torch.optim.AdamW, {"betas": (recipe.momentum, 0.999)}
    found: torch.optim.Optimizer = _eager(kind)(groups, lr=recipe.learning_rate, fused=True, **kept)
    return found


def set_learning_rate(chosen: torch.optim.Optimizer, rate: float) -> None:
    for group in chosen.param_groups:
        group["lr"] = rate


@cache
def _eager(kind: Any) -> Any:
    """`kind` without the wrappers that import PyTorch's compiler, two seconds of every training's start; no step of ours is compiled."""
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")}
    step = _step if kind is torch.optim.SGD else bare["step"]
    return type(kind.__name__, (kind,), bare | {"step": torch.no_grad()(step)})


def _step(self: torch.optim.Optimizer) -> None:
    """`torch.optim.SGD.step`. Its fused kernel is right only where weights, gradients and momenta lie alike in memory, and copies every
    gradient that is not contiguous without a use for it: so all lie as the weights do, and those in channels last are passed as N H W C.
    """
    for group in self.param_groups:
        weights = [p for p in group["params"] if p.grad is not None]
        gradients = [_laid(p.grad, p) for p in weights]
        momenta = list[Tensor]()
        for p in weights if group["momentum"] else ():
            state = self.state[p]
            state["momentum_buffer"] = _laid(state["momentum_buffer"], p) if state else torch.zeros_like(p)
            momenta.append(state["momentum_buffer"])
        if weights:
            torch._fused_sgd_(
                *([_dense(value) for value in values] for values in (weights, gradients, momenta)),
                weight_decay=group["weight_decay"], momentum=group["momentum"], lr=group["lr"], dampening=0.0,
                nesterov=group["nesterov"], maximize=False, is_first_step=False,
            )  # fmt: skip


def _laid(value: Tensor, like: Tensor) -> Tensor:
    return value if value.stride() == like.stride() else torch.empty_like(like).copy_(value)


def _dense(value: Tensor) -> Tensor:
    """The same numbers, contiguous, where they lie in channels last."""
    last = value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
    return value.permute(0, 2, 3, 1) if last else value
