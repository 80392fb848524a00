"""The layers of a plan as Gluon blocks: Gluon's own wherever it has one that computes the same on every picture.

MXNet takes every batch norm epsilon as it is; `momentum` is one minus PyTorch's.
"""

from typing import Any

from mxnet.gluon import nn

from residual.layers import (
    AvgPool,
    Conv,
    Dropout,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    Norm,
    PadChannels,
    Relu,
    SqueezeExcite,
)


class PaddedShortcut(nn.HybridBlock):
    """Option A: every `stride`-th pixel, zeros for the channels that are new. He et al. 2015, section 3.3."""

    def __init__(self, layer: PadChannels, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self.stride, self.added = layer.stride, (layer.before, layer.after)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:  # N C H W -> N before+C+after H/s W/s
        if self.stride > 1:
            x = ops.slice(x, begin=(None,) * 4, end=(None,) * 4, step=(None, None, self.stride, self.stride))
        # ops.pad cannot pad channels, but depth; oneDNN's backward pass of ops.concat crashes
        added = (0, 0, 0, 0, *self.added, 0, 0, 0, 0)
        return ops.squeeze(ops.pad(ops.expand_dims(x, axis=1), mode="constant", pad_width=added, constant_value=0), axis=1)


class ZeroPaddedMaxPool(nn.HybridBlock):
    """Max pooling whose padding is zeros; `nn.MaxPool2D` pads with minus infinity."""

    def __init__(self, layer: MaxPool, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self.layer = layer

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        kernel, stride, padding = self.layer.kernel, self.layer.stride, self.layer.padding
        x = ops.pad(x, mode="constant", pad_width=(0, 0, 0, 0, *((padding,) * 4)), constant_value=0)
        return ops.Pooling(x, kernel=(kernel, kernel), stride=(stride, stride), pool_type="max")


class AveragePool(nn.HybridBlock):
    """Windows side by side, each averaged over the pixels that are there; `nn.AvgPool2D` refuses a picture smaller than a window."""

    def __init__(self, layer: AvgPool, prefix: str) -> None:
        super().__init__(prefix=prefix)
        self.kernel, self.stride = layer.kernel, layer.stride

    def hybrid_forward(self, ops: Any, x: Any) -> Any:  # N C H W -> N C ceil(H/s) ceil(W/s)
        one = ops.slice_axis(ops.slice_axis(x, axis=0, begin=0, end=1), axis=1, begin=0, end=1)  # oneDNN's slice of channels crashes
        return ops.broadcast_div(self.total(ops, x), self.total(ops, ops.ones_like(one)))

    def total(self, ops: Any, x: Any) -> Any:
        x = ops.pad(x, mode="constant", pad_width=(0, 0, 0, 0, 0, self.kernel - 1, 0, self.kernel - 1), constant_value=0)
        return ops.Pooling(x, kernel=(self.kernel,) * 2, stride=(self.stride,) * 2, pool_type="sum")


class SqueezeExcitation(nn.HybridBlock):
    """x * sigmoid(fc2(relu(fc1(mean(x))))). Hu et al. 2018, equations 2 to 4."""

    def __init__(self, layer: SqueezeExcite, prefix: str) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.fc1 = nn.Conv2D(layer.reduced, 1, in_channels=layer.channels, prefix="fc1_")
            self.fc2 = nn.Conv2D(layer.channels, 1, in_channels=layer.reduced, prefix="fc2_")

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        squeezed = ops.relu(self.fc1(ops.mean(x, axis=(2, 3), keepdims=True)))
        return ops.broadcast_mul(x, ops.sigmoid(self.fc2(squeezed)))


def gluon_layer(layer: Layer, prefix: str) -> nn.HybridBlock:
    """The block of `layer`, every shape given, so that nothing waits for a first picture; `prefix` starts its parameters' own names."""
    match layer:
        case Conv():
            return nn.Conv2D(
                layer.out_channels, layer.kernel, layer.stride, layer.padding, groups=layer.groups, use_bias=layer.bias,
                in_channels=layer.in_channels, prefix=prefix,
            )  # fmt: skip
        case Norm():
            return nn.BatchNorm(momentum=1 - layer.momentum, epsilon=layer.epsilon, in_channels=layer.channels, prefix=prefix)
        case Relu():
            return nn.Activation("relu", prefix=prefix)
        case MaxPool():
            return (
                ZeroPaddedMaxPool(layer, prefix)
                if layer.zero_padding
                else nn.MaxPool2D(layer.kernel, layer.stride, layer.padding, prefix=prefix)
            )
        case AvgPool():
            return AveragePool(layer, prefix)
        case GlobalAvgPool():
            return nn.GlobalAvgPool2D(prefix=prefix)
        case Linear():
            return nn.Dense(layer.out_features, use_bias=layer.bias, in_units=layer.in_features, prefix=prefix)
        case PadChannels():
            return PaddedShortcut(layer, prefix)
        case SqueezeExcite():
            return SqueezeExcitation(layer, prefix)
        case Dropout():
            return nn.Dropout(layer.rate, prefix=prefix)
