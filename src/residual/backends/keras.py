"""The Keras 3 backend, `tensorflow` and `jax` alike: a plan becomes a plain functional `keras.Model`.

Keras' own layers only, N H W C, named as the plan names them; so a saved `.keras` file loads where this package is not installed.
Padding is always by number: Keras' "same" at stride 2 pads an even side on one end only.
"""

import sys
from collections.abc import Collection
from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from keras import layers as kl

from residual import weights as core
from residual.backends.keras_training import check, fit
from residual.backends.keras_weights import get_weights, replicas, set_weights
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

_DEEP = 2000  # layers from which XLA compiles for over ten minutes: such a net is run layer by layer
Model = keras.Model
Tensor = Any  # a keras.KerasTensor; Keras has no types


def build(network: Network, seed: int = 0, *, weights: core.Weights | None = None) -> keras.Model:
    """A native model with `weights`, or the core's first values for `seed`; pictures N H W C of any size in, logits N x classes out."""
    # Keras walks a network by recursion, here and when it is saved or cloned: nets of 1,000 layers are deeper than Python allows at first
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + 4 * sum(1 for _ in network.layers())))
    inputs = keras.Input((None, None, network.in_channels), name="images")
    x = _chain(network, network.stem, inputs)
    for block in network.blocks():
        x = _block(network, block, x)
    model = keras.Model(inputs, _chain(network, network.head, x), name="residual_net")
    model.plan = network
    set_weights(model, core.initialise(network, seed) if weights is None else weights)
    return model


def forward(model: keras.Model, images: npt.NDArray[np.float32], taps: Collection[str] = ()) -> dict[str, npt.NDArray[np.float32]]:
    """ "logits" and every layer, block or stage named in `taps`, in inference mode; `images` and what has height and width is N C H W.

    A model without a plan (reloaded, cloned) can be tapped at its layers only. ValueError for a tap that does not exist.
    """
    x = np.ascontiguousarray(np.asarray(images, np.float32).transpose(0, 2, 3, 1))
    found = {"logits": model.output, **{tap: _tapped(model, tap) for tap in taps}}
    if taps:
        found = keras.Model(model.inputs, found)([x], training=False)
    else:  # `predict_on_batch` is compiled, but with several replicas gives every picture's logits once for each
        compiled = replicas(model) == 1 and len(model.layers) < _DEEP
        found = {"logits": model.predict_on_batch(x) if compiled else model(x, training=False)}
    arrays = {name: np.array(keras.ops.convert_to_numpy(value), np.float32) for name, value in found.items()}
    return {name: np.ascontiguousarray(a.transpose(0, 3, 1, 2)) if a.ndim == 4 else a for name, a in arrays.items()}


def _tapped(model: keras.Model, tap: str) -> Tensor:
    """The output of the layer, block or stage `tap`; that of a block is its last layer's."""
    network, names, last = getattr(model, "plan", None), [layer.name for layer in model.layers], dict[str, str]()
    if isinstance(network, Network):
        names = network.names()
        last = {block.name: _last(block) for block in network.blocks()}
        last |= {stage.name: _last(stage.blocks[-1]) for stage in network.stages}
    if tap not in names:
        raise ValueError(f"The network has no layer {tap!r}; its layers: {', '.join(names)}.")
    return model.get_layer(last.get(tap, tap)).output


def _last(block: Block) -> str:
    if block.after:
        return block.after[-1].name
    return block.branch[-1].name if block.shortcut is None else f"{block.name}.add"


def _block(network: Network, block: Block, x: Tensor) -> Tensor:  # N H W C -> N H/s W/s D
    """after(branch(before(x)) + shortcut(before(x))); a plain network has no shortcut. He et al. 2015, equations 1 and 2."""
    x = _chain(network, block.before, x)
    y = _chain(network, block.branch, x)
    if block.shortcut is not None:
        if block.drop_path:
            y = kl.Dropout(block.drop_path, noise_shape=(None, 1, 1, 1), name=f"{block.name}.drop_path")(y)
        y = kl.Add(name=f"{block.name}.add")([y, _chain(network, block.shortcut, x)])
    return _chain(network, block.after, y)


def _chain(network: Network, layers: tuple[Layer, ...], x: Tensor) -> Tensor:
    for layer in layers:
        x = _apply(layer, x, network.initialisation)
    return x


def _apply(layer: Layer, x: Tensor, scheme: str) -> Tensor:
    match layer:
        case Conv():
            return _convolved(layer, x, scheme)
        case Norm():
            gamma = keras.initializers.Constant(layer.gamma)
            return kl.BatchNormalization(
                momentum=1 - layer.momentum, epsilon=layer.epsilon, gamma_initializer=gamma, name=layer.name
            )(x)  # fmt: skip
        case Relu(name=name):
            return kl.ReLU(name=name)(x)
        case MaxPool(name=name, padding=padding):
            if padding and layer.zero_padding:
                x = kl.ZeroPadding2D(padding, name=f"{name}.pad")(x)
            elif padding:
                sides = (padding, padding)
                x = keras.ops.pad(x, ((0, 0), sides, sides, (0, 0)), constant_values=-np.inf)
            return kl.MaxPooling2D(layer.kernel, layer.stride, name=name)(x)
        case AvgPool():
            return _average(layer, x)
        case GlobalAvgPool(name=name):
            return kl.GlobalAveragePooling2D(keepdims=True, name=name)(x)
        case Linear(name=name):
            x = kl.Flatten(name=f"{name}.flatten")(x)
            dense = kl.Dense(layer.out_features, use_bias=layer.bias, kernel_initializer="zeros", name=name)
            return _drawn(dense, x, fan_in=layer.in_features, scheme=scheme)
        case PadChannels(name=name):
            if layer.stride > 1:
                x = kl.MaxPooling2D(1, layer.stride, name=f"{name}.subsample")(x)
            # "channels_first" says that the last two axes are padded: here width, by nothing, and channels
            added = ((0, 0), (layer.before, layer.after))
            return kl.ZeroPadding2D(added, data_format="channels_first", name=name)(x)
        case SqueezeExcite(name=name):
            return _excited(layer, x, scheme)
        case Dropout(name=name):
            return kl.Dropout(layer.rate, name=name)(x)


def _convolved(layer: Conv, x: Tensor, scheme: str) -> Tensor:
    same = layer.stride == 1 and 2 * layer.padding == layer.kernel - 1
    if layer.padding and not same:
        x = kl.ZeroPadding2D(layer.padding, name=f"{layer.name}.pad")(x)
    conv = kl.Conv2D(
        layer.out_channels, layer.kernel, layer.stride, padding="same" if same else "valid", groups=layer.groups,
        use_bias=layer.bias, kernel_initializer="zeros", name=layer.name,
    )  # fmt: skip
    return _drawn(conv, x, fan_in=layer.in_channels // layer.groups * layer.kernel**2, scheme=scheme)


def _average(layer: AvgPool, x: Tensor) -> Tensor:
    """Means over whole windows and what is left of the last ones; "same" would do so for a side of 2 only.

    Both the pictures and ones are pooled over zeros at the far ends: their quotient is the mean of what is there.
    """
    if layer.kernel == 2:
        return kl.AveragePooling2D(2, padding="same", name=layer.name)(x)
    more = (0, layer.kernel - 1)
    pad, pool = kl.ZeroPadding2D((more, more), name=f"{layer.name}.pad"), kl.AveragePooling2D(layer.kernel, name=f"{layer.name}.pool")
    share = pool(pad(keras.ops.ones_like(x)))
    return kl.Multiply(name=layer.name)([pool(pad(x)), keras.ops.reciprocal(share)])


def _excited(layer: SqueezeExcite, x: Tensor, scheme: str) -> Tensor:
    """x * sigmoid(fc2(relu(fc1(mean(x))))). Hu et al. 2018, equations 2 to 4."""
    gate = kl.GlobalAveragePooling2D(keepdims=True, name=f"{layer.name}.mean")(x)
    for part, width, inside, activation in (
        ("fc1", layer.reduced, layer.channels, "relu"),
        ("fc2", layer.channels, layer.reduced, "sigmoid"),
    ):
        conv = kl.Conv2D(width, 1, activation=activation, kernel_initializer="zeros", name=f"{layer.name}.{part}")
        gate = _drawn(conv, gate, fan_in=inside, scheme=scheme)
    return kl.Multiply(name=layer.name)([x, gate])


def _drawn(layer: kl.Layer, x: Tensor, *, fan_in: int, scheme: str) -> Tensor:
    """The layer's output; its initialisers are those that `weights.initialise` writes out, but only a clone will draw from them."""
    y, starts = layer(x), keras.initializers
    layer.bias_initializer = starts.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
    if scheme == "xavier":
        layer.kernel_initializer = starts.GlorotUniform()
    elif isinstance(layer, kl.Dense):
        layer.kernel_initializer = starts.VarianceScaling(1 / 3, "fan_in", "uniform")
    else:
        layer.kernel_initializer = starts.VarianceScaling(2, "fan_out", "untruncated_normal")
    return y


__all__ = ["Model", "build", "check", "fit", "forward", "get_weights", "set_weights"]
