"""Running a trained model over many pictures: one function, which validation, the final test and prediction share.

A network that does nothing else but answer leaves its weights to the form that answers.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from residual.backends import backend_of
from residual.backends.allocator import blocks_apart
from residual.backends.torch import ResidualNet
from residual.backends.torch_inference import form_of, inference_form
from residual.layers import Network
from residual.preprocessing import Preprocessing, Views
from residual.recipe import Recipe
from residual.training.feed import Feed, Normaliser, centre_cut
from residual.training.views import looked
from residual.weights import Weights, check

Scores = Callable[[Tensor], Tensor]  # logits (N x classes, float32) of prepared pictures (N C H W)
_SIDE = 224  # pixels


def logits(
    model: Any, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], batch: int = 256, half: bool = False, views: Views = "one"
) -> Tensor:
    """N x classes float32 on the CPU, in the feed's order, by a model of any backend as it is now; `half` computes in bfloat16."""
    scores, classes = scorer(model, half=half, views=views), model.plan.num_classes
    return answers(scores, feed, normalise, size=size, classes=classes, batch=batch)


def answers(scores: Scores, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], classes: int, batch: int) -> Tensor:
    """N x classes float32 on the CPU, in the feed's order; of a picture that turned out unreadable while streaming NaN."""
    found = torch.full((len(feed), classes), float("nan"))
    for index, answer in answered(scores, feed, normalise, size=size, batch=batch):
        found[index] = answer
    return found


def answered(scores: Scores, feed: Feed, normalise: Normaliser, *, size: tuple[int, int], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices and logits, on the CPU, of one batch of readable pictures after the other."""
    for pictures, _, index in feed.read(chunked(np.arange(len(feed)), batch)):
        found = scores(centre_cut(normalise(pictures), size)).cpu()
        del pictures  # their memory may be that of the next but one, which are begun when the next are asked for
        yield index.cpu(), found


def batch_of(preprocessing: Preprocessing, *, parted: bool, half: bool = False) -> int:
    """How many pictures go to a model together: up to 256, and 64 of 224 x 224.

    A PyTorch model on a CPU does them in parts anyway (`parted`), so that more than 16 (32 in bfloat16) would only take memory; it gets
    one for each thread at least.
    """
    alike = _SIDE**2 * 3 / (preprocessing.size[0] * preprocessing.size[1] * preprocessing.channels)
    if not parted:
        return min(256, max(1, int(64 * alike)))
    return min(256, max(torch.get_num_threads(), int((32 if half else 16) * alike)))


def validation_batch(recipe: Recipe) -> int:
    """How many pictures validation sees at a time: as many as a part of a training batch, and 64 at least."""
    return max(recipe.batch_size // recipe.accumulate, 64)


def scorer(model: Any, *, half: bool = False, views: Views = "one") -> Scores:
    """Logits (float32) of one batch (N C H W, on the model's device) by a model of any backend, as it is now, in evaluation mode.

    Make it once for many batches: of a PyTorch model it holds a second, faster form. With more than one view as `looked` says.
    """
    if isinstance(model, ResidualNet):
        return viewed(inference_form(model, half=half), views)
    framework = backend_of(model)
    return viewed(lambda x: torch.from_numpy(framework.forward(model, x.contiguous().numpy())["logits"]), views)


def scorer_of(network: Network, weights: Weights, device: torch.device, *, half: bool = False, views: Views = "one") -> Scores:
    """The same by PyTorch, of a network that only answers: its weights are taken out of `weights`, and are in memory once.

    ValueError where they are not the network's, or not finite.
    """
    check(network, weights)
    with blocks_apart():
        tensors = {name: torch.from_numpy(np.require(weights.pop(name), np.float32, ["C", "W"])).to(device) for name in [*weights]}
    return viewed(form_of(network, tensors, half=half), views)


def viewed(answer: Scores, views: Views) -> Scores:
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
