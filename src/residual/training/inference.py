"""Running a trained model over many pictures: one function, which validation, the final test and prediction share."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from residual.backends import backend_of
from residual.backends.torch import ResidualNet
from residual.training.feed import Feed, Normaliser, centre_cut


def logits(model: Any, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], batch: int = 256, half: bool = False) -> Tensor:
    """N x classes float32 on the CPU, in the feed's order, in evaluation mode; `half` runs under bfloat16 autocast.

    The model may be of any backend. A picture that turned out unreadable while streaming has logits of NaN.
    """
    found = torch.full((len(feed), model.plan.num_classes), float("nan"))
    for pictures, _, index in feed.read(chunked(np.arange(len(feed)), batch)):
        values = scores(model, centre_cut(normalise(pictures), size), half=half)
        found[index.cpu()] = values.float().cpu()
    return found


def scores(model: Any, x: Tensor, *, half: bool = False) -> Tensor:
    """Logits of one batch (N C H W, on the model's device) by a model of any backend, in evaluation mode."""
    if not isinstance(model, ResidualNet):
        return torch.from_numpy(backend_of(model).forward(model, x.contiguous().numpy())["logits"])
    was = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(x.device, half):
            return model(x)  # type: ignore[no-any-return]
    finally:
        model.train(was)


def device_of(model: Any) -> torch.device:
    """Where a model of any backend takes its pictures from; all but PyTorch's take them from the CPU."""
    return next(model.parameters()).device if isinstance(model, ResidualNet) else torch.device("cpu")


def seconds_of(model: ResidualNet, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], batch: int, half: bool) -> float:
    """About how long `logits` takes: one batch, after one that is not counted, times the number of batches."""
    chunks = chunked(np.arange(len(feed)), batch)
    for turn in range(2):
        began = time.perf_counter()
        for pictures, _, _ in feed.read(chunks[:1]):
            with torch.inference_mode(), autocast(next(model.parameters()).device, half):
                model(centre_cut(normalise(pictures), size)).float().cpu()
        if turn == 0 and len(chunks) == 1:
            break
    return (time.perf_counter() - began) * len(chunks)


def autocast(device: torch.device, half: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()


def chunked(indices: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """`indices` cut into arrays of `size`; the last may be shorter."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]
