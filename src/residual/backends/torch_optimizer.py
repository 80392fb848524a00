"""PyTorch's optimizers as recipes name them, without what makes them slow to start and to step."""

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from residual.recipe import Recipe

_SHARE = 0.35  # of the learning rate that orthogonalised filters step by
_STEPS = 3  # Newton-Schulz
_FIRST, _THIRD, _FIFTH = 3.4445, -4.7750, 2.0315  # of Jordan's Newton-Schulz step a X + b X X' X + c (X X')^2 X


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; batch norm and biases are not decayed unless the recipe says so."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1 or recipe.decay_norm_and_bias]
    vectors = [p for p in trained if p.ndim <= 1 and not recipe.decay_norm_and_bias]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if recipe.optimizer == "muon":
        filters = {"params": [p for p in matrices if p.ndim == 4], "weight_decay": recipe.weight_decay, "orthogonal": True}
        groups = [filters, {**groups[0], "params": [p for p in matrices if p.ndim != 4]}, groups[1]]
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
        if group.get("orthogonal"):
            _orthogonal_step(weights, gradients, momenta, group)
        elif weights:
            torch._fused_sgd_(
                *([_dense(value) for value in values] for values in (weights, gradients, momenta)),
                weight_decay=group["weight_decay"], momentum=group["momentum"], lr=group["lr"], dampening=0.0,
                nesterov=group["nesterov"], maximize=False, is_first_step=False,
            )  # fmt: skip


def _orthogonal_step(weights: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], group: dict[str, Any]) -> None:
    """w <- (1 - rate decay) w - share rate U V', where U S V' is the momentum as a matrix of D x C k k.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    if not weights:
        return
    if group["momentum"]:
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        gradients = list(torch._foreach_add(gradients, momenta, alpha=group["momentum"])) if group["nesterov"] else momenta
    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
    torch._foreach_add_(weights, orthogonal(gradients), alpha=-_SHARE * group["lr"])


def orthogonal(gradients: Sequence[Tensor]) -> list[Tensor]:
    """About the nearest matrix to each whose rows (or columns, where they are fewer) are orthonormal; D C k k is taken as D x C k k.

    Three of Jordan's Newton-Schulz steps bring singular values from a thirtieth of the matrix's norm on to between 0.5 and 1.3. They are
    done on the small matrices X X', whose powers are all they need, of one size together, so that the large ones are multiplied twice only.
    """
    flat = [_flat(gradient) for gradient in gradients]
    wide = [x if x.shape[0] <= x.shape[1] else x.t() for x in flat]
    found = dict[int, Tensor]()
    for size in {len(x) for x in wide}:
        chosen = [at for at, x in enumerate(wide) if len(x) == size]
        powers = _powers(torch.stack([torch.mm(wide[at], wide[at].t()) for at in chosen]))
        found |= {at: torch.mm(whole, wide[at]) for at, whole in zip(chosen, powers.unbind(), strict=True)}
    return [_filters(found[at] if flat[at] is wide[at] else found[at].t(), gradient) for at, gradient in enumerate(gradients)]


def _powers(square: Tensor) -> Tensor:
    """K N N, each X X' -> K N N: what brings X about as near to an orthogonal matrix as the steps can. Small matrices, so that calls cost
    more than products: as few as there can be."""
    scale = 1 / (square.diagonal(dim1=1, dim2=2).sum(1).sqrt() + 1e-7)[:, None, None]
    square = square * (scale * scale)
    first, whole = _FIRST * torch.eye(square.shape[1], device=square.device, dtype=square.dtype), scale
    for left in reversed(range(_STEPS)):
        step = torch.baddbmm(torch.add(first, square, alpha=_THIRD), square, square, alpha=_FIFTH)
        whole = step * whole if whole is scale else torch.bmm(step, whole)
        if left:
            square = torch.bmm(torch.bmm(step, square), step)
    return whole


def _flat(x: Tensor) -> Tensor:
    """D C k k -> D x (C k k), or D x (k k C) where it is channels last: a view."""
    return x.flatten(1) if x.is_contiguous() else x.permute(0, 2, 3, 1).flatten(1)


def _filters(x: Tensor, like: Tensor) -> Tensor:
    """The other way."""
    if like.is_contiguous():
        return x.reshape(like.shape)
    depth, channels, height, width = like.shape
    return x.reshape(depth, height, width, channels).permute(0, 3, 1, 2)


def _laid(value: Tensor, like: Tensor) -> Tensor:
    return value if value.stride() == like.stride() else torch.empty_like(like).copy_(value)


def _dense(value: Tensor) -> Tensor:
    """The same numbers, contiguous, where they lie in channels last."""
    last = value.ndim == 4 and not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
    return value.permute(0, 2, 3, 1) if last else value
