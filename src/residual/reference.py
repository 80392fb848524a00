"""The forward pass in NumPy float64, written to be read and to be right; every backend is held against it.

It is slow on purpose: a convolution is a sum over the kernel's positions, as in its definition.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from residual.layers import (
    AvgPool,
    Block,
    Conv,
    Dropout,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    Network,
    Norm,
    PadChannels,
    Relu,
    SqueezeExcite,
)
from residual.weights import Weights, check

Array = npt.NDArray[np.float64]


def forward(network: Network, weights: Weights, images: npt.ArrayLike, taps: Collection[str] = ()) -> dict[str, Array]:
    """ "logits" (N x classes) and the output of every layer, block or stage named in `taps`, with batch norm in inference mode.

    `images` is N C H W. Dropout and stochastic depth do nothing, as in inference. ValueError for a tap that does not exist.
    """
    check(network, weights)
    for tap in taps:
        if tap not in network.names():
            raise ValueError(f"The network has no layer {tap!r}; its layers: {', '.join(network.names())}.")
    run = _Pass({name: value.astype(np.float64) for name, value in weights.items()}, frozenset(taps))
    x = run.chain(network.stem, np.asarray(images, np.float64))
    for stage in network.stages:
        for block in stage.blocks:
            x = run.block(block, x)
        run.keep(stage.name, x)
    run.found["logits"] = run.chain(network.head, x)
    return run.found


class _Pass:
    """One forward pass: the weights, and what was tapped on the way."""

    def __init__(self, weights: dict[str, Array], taps: frozenset[str]) -> None:
        self.weights, self.taps = weights, taps
        self.found: dict[str, Array] = {}

    def keep(self, name: str, x: Array) -> Array:
        if name in self.taps:
            self.found[name] = x
        return x

    def chain(self, layers: tuple[Layer, ...], x: Array) -> Array:
        for layer in layers:
            x = self.keep(layer.name, self.layer(layer, x))
        return x

    def block(self, block: Block, x: Array) -> Array:
        """after(branch(before(x)) + shortcut(before(x))); a plain network has no shortcut."""
        x = self.chain(block.before, x)
        y = self.chain(block.branch, x)
        if block.shortcut is not None:
            y = y + self.chain(block.shortcut, x)
        return self.keep(block.name, self.chain(block.after, y))

    def layer(self, layer: Layer, x: Array) -> Array:
        tensor = self.weights
        match layer:
            case Conv(name=name):
                y = convolve(x, tensor[f"{name}.weight"], stride=layer.stride, padding=layer.padding, groups=layer.groups)
                return y + tensor[f"{name}.bias"][:, None, None] if layer.bias else y
            case Norm(name=name):
                mean, var = tensor[f"{name}.running_mean"], tensor[f"{name}.running_var"]
                scale = tensor[f"{name}.weight"] / np.sqrt(var + layer.epsilon)
                return (x - mean[:, None, None]) * scale[:, None, None] + tensor[f"{name}.bias"][:, None, None]
            case Relu():
                return np.maximum(x, 0)
            case MaxPool():
                return max_pool(x, layer.kernel, layer.stride, layer.padding, 0.0 if layer.zero_padding else -np.inf)
            case AvgPool():
                return _average_pool(x, layer.stride)
            case PadChannels():
                kept = x[:, :, :: layer.stride, :: layer.stride]
                return np.pad(kept, ((0, 0), (layer.before, layer.after), (0, 0), (0, 0)))
            case SqueezeExcite(name=name):
                squeezed = x.mean((2, 3)) @ tensor[f"{name}.fc1.weight"][:, :, 0, 0].T + tensor[f"{name}.fc1.bias"]
                gate = np.maximum(squeezed, 0) @ tensor[f"{name}.fc2.weight"][:, :, 0, 0].T + tensor[f"{name}.fc2.bias"]
                excited: Array = x / (1 + np.exp(-gate))[:, :, None, None]
                return excited
            case GlobalAvgPool():
                result: Array = x.mean((2, 3), keepdims=True)
                return result
            case Linear(name=name):
                y = x.reshape(len(x), -1) @ tensor[f"{name}.weight"].T
                return y + tensor[f"{name}.bias"] if layer.bias else y
            case Dropout():
                return x


def convolve(x: Array, weight: Array, *, stride: int, padding: int, groups: int) -> Array:
    """N C H W (*) O C/groups K K -> N O H' W', zero padding on all sides."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out, per_group, kernel, _ = weight.shape
    height, width = ((side - kernel) // stride + 1 for side in x.shape[2:])
    x = x.reshape(len(x), groups, per_group, *x.shape[2:])
    weight = weight.reshape(groups, out // groups, per_group, kernel, kernel)
    y = np.zeros((len(x), groups, out // groups, height, width))
    for i in range(kernel):
        for j in range(kernel):
            seen = x[:, :, :, i : i + stride * height : stride, j : j + stride * width : stride][:, :, :, :height, :width]
            y += np.einsum("ngchw,goc->ngohw", seen, weight[..., i, j], optimize=True)
    return y.reshape(len(x), out, height, width)


def max_pool(x: Array, kernel: int, stride: int, padding: int, fill: float = -np.inf) -> Array:
    """The largest value under each window; `fill` is what the padding holds."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    height, width = ((side - kernel) // stride + 1 for side in x.shape[2:])
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (2, 3))
    result: Array = windows[:, :, ::stride, ::stride][:, :, :height, :width].max((-1, -2))
    return result


def _average_pool(x: Array, side: int) -> Array:
    """Windows of side x side without overlap; the last ones of an uneven side are smaller."""
    y = np.empty((*x.shape[:2], -(-x.shape[2] // side), -(-x.shape[3] // side)))
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            y[:, :, i, j] = x[:, :, side * i : side * (i + 1), side * j : side * (j + 1)].mean((2, 3))
    return y
