"""Running a trained model over many pictures: one function, which validation, the final test and prediction share."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from residual.backends import backend_of
from residual.backends.torch import ResidualNet
from residual.backends.torch_inference import inference_form
from residual.preprocessing import Views
from residual.training.feed import Feed, Normaliser, centre_cut
from residual.training.views import looked


def logits(
    model: Any, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], batch: int = 256, half: bool = False, views: Views = "one"
) -> Tensor:
    """N x classes float32 on the CPU, in the feed's order, in evaluation mode; `half` computes in bfloat16.

    The model may be of any backend. A picture that turned out unreadable while streaming has logits of NaN.
    """
    found, scores = torch.full((len(feed), model.plan.num_classes), float("nan")), scorer(model, half=half, views=views)
    for pictures, _, index in feed.read(chunked(np.arange(len(feed)), batch)):
        found[index.cpu()] = scores(centre_cut(normalise(pictures), size)).cpu()
    return found


def scorer(model: Any, *, half: bool = False, views: Views = "one") -> Callable[[Tensor], Tensor]:
    """Logits (float32) of one batch (N C H W, on the model's device) by a model of any backend, as it is now, in evaluation mode.

    Make it once for many batches: of a PyTorch model it holds a second, faster form. With more than one view as `looked` says.
    """
    if isinstance(model, ResidualNet):
        answer: Callable[[Tensor], Tensor] = inference_form(model, half=half)
    else:
        framework = backend_of(model)
        answer = lambda x: torch.from_numpy(framework.forward(model, x.contiguous().numpy())["logits"])  # noqa: E731
    return answer if views == "one" else lambda x: looked(answer, x, views)


def device_of(model: Any) -> torch.device:
    """Where a model of any backend takes its pictures from; all but PyTorch's take them from the CPU."""
    return next(model.parameters()).device if isinstance(model, ResidualNet) else torch.device("cpu")


def seconds_of(model: ResidualNet, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], batch: int, half: bool) -> float:
    """About how long `logits` takes: the median of up to three batches, after one that is not counted, times the number of batches."""
    chunks, scores, seconds = chunked(np.arange(len(feed)), batch), scorer(model, half=half), list[float]()
    for _turn in range(4 if len(chunks) > 1 else 1):
        began = time.perf_counter()
        for pictures, _, _ in feed.read(chunks[:1]):
            scores(centre_cut(normalise(pictures), size)).cpu()
        seconds.append(time.perf_counter() - began)
        if sum(seconds[1:]) > 0.3:
            break
    return statistics.median(seconds[1:] or seconds) * len(chunks)


def chunked(indices: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """`indices` cut into arrays of `size`; the last may be shorter."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]
