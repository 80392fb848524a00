"""What the pictures of a training are likely to cost a network that has not seen any of them."""

import math
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from residual.training.feed import Feed

_SIDE = 10  # pixels that a picture is thinned to; a linear classifier then tells 73 % of Fashion-MNIST, with 14 and their means 80 %
_FITTED = 10_000  # pictures that it is fitted to, drawn at random
_RIDGE = 5e-4  # added to the variances of values up to 1
_SHARPNESS = 8.0  # makes logits of answers between 0 and 1
_CHUNK = 512  # pictures at a time


def guessed_losses(feed: Feed, classes: int, *, seconds: float = math.inf) -> Tensor:
    """The cross-entropy (N float32, on the feed's device) of a linear classifier of the thinned pictures, fitted to their classes by ridge
    regression; infinite where a picture cannot be read, or was not in `seconds`.

    So easy is what can be told by a few pixels. A trained network's own losses are a worse guide to what to begin with
    (docs/performance.md, "Easy pictures left out from the beginning").
    """
    order, rows, where, began = np.arange(len(feed)), list[Tensor](), list[Tensor](), time.perf_counter()
    for pictures, _, index in feed.read([order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]):
        rows.append(_thinned(pictures))
        where.append(index)
        if time.perf_counter() - began > seconds:
            break
    x, index = torch.cat(rows), torch.cat(where)
    y = torch.from_numpy(feed.labels).to(x.device)[index]
    part = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:_FITTED].to(x.device)  # classes may come in turn
    fitted, answers = x[part], F.one_hot(y[part], classes).float()
    products = fitted.T @ fitted
    products.diagonal().add_(_RIDGE * len(fitted))
    solved = torch.linalg.solve(products.cpu(), (fitted.T @ answers).cpu()).to(x.device)  # on a GPU it would load a library for it
    found = torch.full((len(feed),), torch.inf, device=x.device)
    found[index] = F.cross_entropy(x @ solved * _SHARPNESS, y, reduction="none")
    return found


def _thinned(pictures: Tensor) -> Tensor:
    """uint8 N H W C -> float32 N D: every so many pixels one, from 0 to 1, and a column of ones."""
    step = -(-min(pictures.shape[1:3]) // _SIDE)
    return F.pad(pictures[:, step // 2 :: step, step // 2 :: step].flatten(1) / 255, (0, 1), value=1.0)


__all__ = ["guessed_losses"]
