"""What a network costs: shapes, parameters, multiply-adds, activations and receptive field, layer by layer, without building it.

Multiply-adds are counted as the papers and torchvision count them: convolutions and linear layers only.
"""

from dataclasses import dataclass

from residual.architecture import Architecture
from residual.layers import AvgPool, Block, Conv, GlobalAvgPool, Layer, Linear, MaxPool, Network, PadChannels, SqueezeExcite
from residual.plan import plan
from residual.tensors import shapes

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer for one image.

    Attributes:
        output: channels, height, width.
        receptive_field: side, in pixels of the input, that one output value can see; 0 after global pooling: all of it.
    """

    name: str
    kind: str
    output: Shape
    kernel: int
    stride: int
    groups: int
    parameters: int
    macs: int
    receptive_field: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Totals for one image, and the rows they come from.

    Attributes:
        parameters: trainable numbers (running statistics are not counted).
        macs: multiply-adds of one forward pass.
        activations: values put out by the convolutions, the memory that training keeps (Radosavovic et al. 2020, section 2).
        receptive_field: side in pixels that one value of the last stage sees.
    """

    rows: tuple[Row, ...]
    parameters: int
    macs: int
    activations: int
    receptive_field: int


def cost(arch: Architecture, image_size: tuple[int, int] = (224, 224)) -> Cost:
    """The cost of `arch` on one image of `image_size` (height, width)."""
    return network_cost(plan(arch), image_size)


def network_cost(network: Network, image_size: tuple[int, int] = (224, 224)) -> Cost:
    """The cost of a planned network on one image of `image_size` (height, width).

    Raises:
        ValueError: the image is smaller than the strides allow.
    """
    if len(image_size) != 2 or min(image_size) < 1:
        raise ValueError(f"image_size is {image_size!r}, but must be (height, width), both at least 1.")
    walk = _Walk(shape=(network.in_channels, *image_size), field=1, jump=1)
    rows: list[Row] = []
    walk = _run(network.stem, walk, rows)
    for block in network.blocks():
        walk = _block(block, walk, rows)
    _run(network.head, walk, rows)
    return Cost(
        rows=tuple(rows),
        parameters=sum(row.parameters for row in rows),
        macs=sum(row.macs for row in rows),
        activations=sum(_size(row.output) for row in rows if row.kind == "Conv"),
        receptive_field=walk.field,
    )


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """Channels, height, width after `layer`. ValueError where nothing is left of the image."""
    channels, height, width = shape
    match layer:
        case Conv() | MaxPool():
            height, width = (_out(side, layer.kernel, layer.stride, layer.padding) for side in (height, width))
            channels = layer.out_channels if isinstance(layer, Conv) else channels
        case AvgPool() | PadChannels():
            height, width = -(-height // layer.stride), -(-width // layer.stride)
            channels += layer.before + layer.after if isinstance(layer, PadChannels) else 0
        case GlobalAvgPool():
            height, width = 1, 1
        case Linear():
            channels = layer.out_features
    result = (channels, height, width)
    if min(result) < 1:
        raise ValueError(f"An image this small does not reach {layer.name}: it gets {shape[1]}x{shape[2]}. Use larger images.")
    return result


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """Where a forward pass stands: shape, receptive field, and input pixels between two neighbouring values."""

    shape: Shape
    field: int
    jump: int


def _run(layers: tuple[Layer, ...], walk: _Walk, rows: list[Row]) -> _Walk:
    for layer in layers:
        walk = _step(layer, walk)
        rows.append(_row(layer, walk))
    return walk


def _block(block: Block, walk: _Walk, rows: list[Row]) -> _Walk:
    walk = _run(block.before, walk, rows)
    branch = _run(block.branch, walk, rows)
    if block.shortcut:
        _run(block.shortcut, walk, rows)
    return _run(block.after, branch, rows)


def _step(layer: Layer, walk: _Walk) -> _Walk:
    shape = output_shape(layer, walk.shape)
    kernel, stride = _kernel_stride(layer)
    if isinstance(layer, GlobalAvgPool):
        return _Walk(shape=shape, field=0, jump=walk.jump)
    field = walk.field + (kernel - 1) * walk.jump if walk.field else 0
    return _Walk(shape=shape, field=field, jump=walk.jump * stride)


def _row(layer: Layer, walk: _Walk) -> Row:
    kernel, stride = _kernel_stride(layer)
    return Row(
        name=layer.name,
        kind=type(layer).__name__,
        output=walk.shape,
        kernel=kernel,
        stride=stride,
        groups=layer.groups if isinstance(layer, Conv) else 1,
        parameters=sum(_size(shape) for name, shape in shapes(layer).items() if not name.rpartition(".")[2].startswith("running")),
        macs=_macs(layer, walk.shape),
        receptive_field=walk.field,
    )


def _macs(layer: Layer, output: Shape) -> int:
    match layer:
        case Conv():
            return _size(output) * layer.in_channels // layer.groups * layer.kernel**2
        case Linear():
            return layer.in_features * layer.out_features
        case SqueezeExcite():
            return 2 * layer.channels * layer.reduced
    return 0


def _kernel_stride(layer: Layer) -> tuple[int, int]:
    match layer:
        case Conv() | MaxPool() | AvgPool():
            return layer.kernel, layer.stride
        case PadChannels():
            return 1, layer.stride
    return 1, 1


def _out(side: int, kernel: int, stride: int, padding: int) -> int:
    return (side + 2 * padding - kernel) // stride + 1


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


__all__ = ["Cost", "Row", "Shape", "cost", "network_cost", "output_shape"]
