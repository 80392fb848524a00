"""First values of a network's first convolution from the training pictures: what it puts out then has no correlations to unlearn.

The surprising thing: filters that stay as they are from then on make nets as good as filters that go on learning, and a step shorter by a
tenth to a quarter, since nothing is computed backwards there (docs/performance.md, "A frozen first layer").
Frozen whitening of patches: Jordan 2024, arXiv:2404.00498, section 3.2.
"""

import numpy as np
import torch
from torch.nn import functional as F

from residual.layers import Conv, Network, Norm
from residual.training.feed import Feed, Normaliser
from residual.weights import Weights

_PICTURES, _PART = 2_000, 50
_EPSILON = 5e-4  # added to the variances, as in the source
_SMALLEST = 1e-2  # variance of a filter's answers: what the training pictures hardly have must not drown all else in others


def whitened(weights: Weights, network: Network, feed: Feed, normalise: Normaliser) -> Weights:
    """`weights` with other first filters: the principal components of the training patches, each divided by its standard deviation,
    and their negatives, as many pairs as there are filters or components. The rest keep their values.

    The batch norm right behind, where there is one, gets the mean and the variance of what all of them answer to these patches.
    """
    conv = next(layer for layer in network.stem if isinstance(layer, Conv))
    chosen = np.arange(0, len(feed), max(1, len(feed) // _PICTURES))
    parts = [chosen[start : start + _PART] for start in range(0, len(chosen), _PART)]
    side, count = conv.in_channels // conv.groups * conv.kernel**2, 0
    products, total = torch.zeros(side, side, dtype=torch.float64), torch.zeros(side, dtype=torch.float64)
    for pictures, _, _ in feed.read(parts):
        patches = (
            F.unfold(normalise(pictures), conv.kernel, padding=conv.padding, stride=conv.stride).transpose(1, 2).reshape(-1, side).double()
        )
        products += (patches.T @ patches).cpu()
        total += patches.sum(0).cpu()
        count += len(patches)
    variances, components = torch.linalg.eigh(products / count)
    filters = (components / (variances + _EPSILON).sqrt()).T.flip(0)[: conv.out_channels // 2]
    name = f"{conv.name}.weight"
    values = weights[name].copy()
    pairs = torch.cat([filters, -filters]).reshape(-1, *values.shape[1:])
    values[: len(pairs)] = pairs.float().numpy()
    found = {**weights, name: values}
    norm = next(iter(network.stem[network.stem.index(conv) + 1 :]), None)
    if isinstance(norm, Norm):
        rows = torch.from_numpy(values).double().reshape(len(values), side)
        mean = rows @ total / count
        variance = (((rows @ products / count) * rows).sum(1) - mean**2).clamp(min=_SMALLEST)
        found |= {f"{norm.name}.running_mean": mean.float().numpy(), f"{norm.name}.running_var": variance.float().numpy()}
    return found


__all__ = ["whitened"]
