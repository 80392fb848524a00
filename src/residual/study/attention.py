"""Where a network looks when it names a class: Grad-CAM. Selvaraju et al. 2017, arXiv:1610.02391, section 3.

The surprising thing: no gradient is computed. What goes into the global average pooling reaches a score through that mean and one linear
layer alone, so the gradient of the score is that layer's weight over the number of places (section 3.1): exact, and in any framework.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from residual.backends import open_backend
from residual.layers import GlobalAvgPool, Linear, Network
from residual.weights import Weights

Array = npt.NDArray[np.float32]
_BATCH = 16


def pooled(network: Network) -> str:
    """The name of what goes into the global average pooling: the last stage, or in pre-activation nets the ReLU behind it."""
    found = network.stages[-1].name
    for layer in network.head:
        if isinstance(layer, GlobalAvgPool):
            break
        found = layer.name
    return found


def grad_cam(maps: Array, weight: Array, classes: Sequence[int]) -> Array:
    """N x h x w, at least 0: what each place of `maps` (N x K x h x w) adds to the score of its picture's class; equations 1 and 2.

    `weight` (outputs x K) is the linear layer's. Where nothing is negative, the sum over the places is the score without its bias.
    """
    shares = weight[np.asarray(classes, np.int64)] / (maps.shape[2] * maps.shape[3])
    found: Array = np.maximum(np.einsum("nk,nkhw->nhw", shares, maps), 0).astype(np.float32)
    return found


def attention(network: Network, weights: Weights, images: Array, classes: Sequence[int], *, backend: str = "torch") -> Array:
    """N x h x w: Grad-CAM of `classes[i]` on the i-th of the prepared `images` (N C H W), at the size of the last feature maps."""
    framework, place = open_backend(backend), pooled(network)
    model = framework.build(network, weights=weights)
    head = next(layer.name for layer in network.head if isinstance(layer, Linear))
    found = []
    for start in range(0, len(images), _BATCH):
        maps = framework.forward(model, images[start : start + _BATCH], (place,))[place]
        found.append(grad_cam(maps, weights[f"{head}.weight"], classes[start : start + _BATCH]))
    return np.concatenate(found) if found else np.zeros((0, 1, 1), np.float32)


__all__ = ["attention", "grad_cam", "pooled"]
