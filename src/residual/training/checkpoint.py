"""A training's state as one safetensors file: numbers in its metadata, tensors beside them, nothing pickled.

It is renamed into place, so a process killed while it writes leaves the one before.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from residual.training.loop import State
from residual.training.pruning import Pruning
from residual.weights import write_whole

CHECKPOINT = "checkpoint/last.safetensors"
_NUMBERS = ("epoch", "batch", "step", "seen", "seconds", "warm", "running_error", "best_accuracy", "best_epoch", "done")


def save(folder: Path, state: State) -> None:
    """Writes `state` into `folder`/checkpoint."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in (state.average or {}).items()}
    if state.pruning is not None:
        tensors |= {"pruning.losses": state.pruning.losses, "pruning.weights": state.pruning.weights}
    numbers: dict[str, Any] = {name: getattr(state, name) for name in _NUMBERS}
    steps: dict[str, float] = {}
    for index, values in state.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                steps[f"{index}.{name}"] = value
    tensors["right"] = state.right
    tensors["losses"] = torch.stack(state.losses) if state.losses else torch.zeros(0)
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path = folder / CHECKPOINT
    path.parent.mkdir(exist_ok=True)
    write_whole(path, serialise(content, {"state": json.dumps(numbers), "optimizer": json.dumps(steps)}))


def restore(folder: Path, state: State) -> None:
    """Puts the checkpoint of `folder` into `state`, whose model and optimizer must be those of the run. ValueError names a damaged file."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise ValueError(f"{folder} has no checkpoint to resume from; train again without --resume.")
    device = next(state.model.parameters()).device
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        numbers, steps = json.loads(metadata["state"]), json.loads(metadata["optimizer"])
        state.model.load_state_dict(_under("model.", tensors))
        if state.average is not None:
            for name, value in _under("average.", tensors).items():
                state.average[name].copy_(value)
        if state.pruning is not None:
            state.pruning = Pruning(**_under("pruning.", tensors))
        _restore_optimizer(state, tensors, steps)
        for name in _NUMBERS:
            setattr(state, name, numbers[name])
        state.right, state.losses = tensors["right"].float(), list(tensors["losses"].unbind())
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"The checkpoint {path} is damaged or of another run: {reason.rstrip('.')}.") from error


def _restore_optimizer(state: State, tensors: dict[str, Tensor], steps: dict[str, float]) -> None:
    held: dict[int, dict[str, Any]] = {}
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    for name, value in [*_under("optimizer.", tensors).items(), *steps.items()]:
        index, _, field = name.partition(".")
        like = parameters[int(index)]
        if isinstance(value, Tensor):  # in its parameter's memory layout: other layouts take other instructions, and other roundings
            value = torch.empty_like(like, requires_grad=False).copy_(value) if value.shape == like.shape else value.cpu()
        held.setdefault(int(index), {})[field] = value
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": held, "param_groups": groups})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
