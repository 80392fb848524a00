"""The network as figure 3 of He et al. 2015 draws it: stem, stages of blocks with their shortcuts as arcs, head; read from the plan alone.

The surprising thing: each stage is a column of small pictures, one for each block, so that the columns stand side by side on a wide page
and below each other, as in the paper, on a telephone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import Markup, escape

from residual.cost import Row, Shape, network_cost, output_shape
from residual.layers import AvgPool, Block, Conv, GlobalAvgPool, Layer, Linear, MaxPool, Network, Norm, PadChannels, Relu, SqueezeExcite

_WIDTH, _NARROW, _CENTER, _LEFT, _RIGHT, _BOX, _PITCH, _TOP = 176, 140, 70, 6, 134, 22, 30, 14
_DRAWN = (Conv, MaxPool, AvgPool, GlobalAvgPool, Linear, SqueezeExcite)
_COLOURS = 4  # of stages; a fifth stage begins anew
_KINDS = {
    "identity": "shortcut: the identity", "projection": "shortcut with a 1×1 convolution: the shape changes",
    "padded": "shortcut padded with zero channels: the shape changes",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Group:
    """Blocks of one kind that follow each other, each as its picture."""

    blocks: tuple[Markup, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """Stem, a stage or head.

    Attributes:
        shape: of what it puts out.
        blocks: how many there are; 0 for stem and head.
        parameters, macs: sums over its layers; `share` of the network's multiply-adds.
        colour: class of its boxes.
    """

    name: str
    shape: str
    blocks: int
    parameters: int
    macs: int
    share: float
    colour: str
    groups: tuple[Group, ...]


def columns(network: Network, image_size: tuple[int, int]) -> list[Column]:
    """The parts of `network` in the order of the forward pass, with their shapes for pictures of `image_size` (height, width)."""
    cost = network_cost(network, image_size)
    start = _Pen(rows={row.name: row for row in cost.rows}, total=cost.macs, shape=(network.in_channels, *image_size))
    picture, pen = start.chain(network.stem)
    found = [_column("stem", network.stem, pen, groups=(Group(blocks=(picture,)),), colour="stem")]
    for number, stage in enumerate(network.stages):
        pictures: list[Markup] = []
        for block in stage.blocks:
            picture, pen = pen.block(block)
            pictures.append(picture)
        kinds = groupby(range(len(pictures)), key=[_kind(block) for block in stage.blocks].__getitem__)
        groups = tuple(Group(blocks=tuple(pictures[place] for place in places)) for _, places in kinds)
        layers = [layer for block in stage.blocks for layer in block.layers()]
        colour = f"stage{number % _COLOURS + 1}"
        found.append(replace(_column(stage.name, layers, pen, groups=groups, colour=colour), blocks=len(pictures)))
    picture, pen = pen.chain(network.head)
    return [*found, _column("head", network.head, pen, groups=(Group(blocks=(picture,)),), colour="stem")]


def legend(network: Network) -> list[tuple[str, str]]:
    """The kinds of shortcut that the drawing shows: (class of the line, words)."""
    there = {shortcut_kind(block) for block in network.blocks()}
    return [(kind, told) for kind, told in _KINDS.items() if kind in there]


def recipe_of_a_block(network: Network) -> str:
    """The order of the layers in a block that keeps its shape, in one sentence."""
    blocks = list(network.blocks())[::-1]
    whole = blocks[:-1] if len(blocks) > 1 else blocks  # the first block of a pre-activation net may lack its first activation
    block = next((block for block in whole if not block.shortcut and not block.before), blocks[0])
    words = ", ".join(_word(layer) for layer in (*block.before, *block.branch))
    end = ", ".join(_word(layer) for layer in block.after)
    if block.shortcut is None:
        return f"In each block: {words}{', ' * bool(end)}{end}. Nothing is added: it is a plain network."
    return f"In each block: {words}. Then the shortcut is added{', then ' * bool(end)}{end}."


def shortcut_kind(block: Block) -> str | None:
    """ "identity", "projection", "padded", or None in a plain network."""
    if block.shortcut is None:
        return None
    if not block.shortcut:
        return "identity"
    return "padded" if any(isinstance(layer, PadChannels) for layer in block.shortcut) else "projection"


def _kind(block: Block) -> Block:
    """The block without what tells it from others of its kind: its names and its own rate of being dropped."""
    parts: dict[str, tuple[Layer, ...]] = {
        part: tuple(replace(layer, name=layer.name.removeprefix(block.name)) for layer in getattr(block, part) or ())
        for part in ("before", "branch", "shortcut", "after")
    }
    shortcut = None if block.shortcut is None else parts["shortcut"]
    return Block(name="", before=parts["before"], branch=parts["branch"], shortcut=shortcut, after=parts["after"], drop_path=0.0)


def _column(name: str, layers: Sequence[Layer], pen: "_Pen", *, groups: tuple[Group, ...], colour: str) -> Column:
    rows = [pen.rows[layer.name] for layer in layers]
    macs = sum(row.macs for row in rows)
    return Column(
        name=name, shape=_told(pen.shape), blocks=0, parameters=sum(row.parameters for row in rows), macs=macs,
        share=macs / max(pen.total, 1), colour=colour, groups=groups,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Pen:
    """Draws, and knows the shape of what has come out of the layers so far."""

    rows: dict[str, Row]
    total: int
    shape: Shape

    def chain(self, layers: Sequence[Layer]) -> tuple[Markup, "_Pen"]:
        """Layers below each other, and the pen behind them."""
        boxes, pen = self._boxes(layers)
        return _svg(list(boxes), len(boxes), arc=""), pen

    def block(self, block: Block) -> tuple[Markup, "_Pen"]:
        """A block with its arc, and the pen behind it."""
        entry = self._boxes(block.before)[1]
        boxes, pen = entry._boxes(block.branch)
        pen = pen._boxes(block.after)[1]
        kind, low = shortcut_kind(block), _TOP + len(boxes) * _PITCH + 4
        if kind is None:
            return _svg(boxes, len(boxes), arc=""), pen
        layers = block.shortcut or ()
        told = [f"{block.name}: {_KINDS[kind]}", f"{_told(entry.shape)} → {_told(pen.shape)}", *(entry._costs(layers) if layers else [])]
        after = "".join(f", then {_word(layer)}" for layer in block.after)
        told.append(f"added to the block's branch{after}")
        path = f"M{_CENTER} 5 H124 C176 5 176 {low} 124 {low} H{_CENTER + 8}"
        head = f"M{_CENTER + 14} {low - 4} L{_CENTER + 8} {low} L{_CENTER + 14} {low + 4}"
        arc = (
            f'<path class="arc {kind}" d="{path}"/><path class="tip {kind}" d="{head}"/><path class="near" d="{path}"/>'
            f'<circle class="plus" cx="{_CENTER}" cy="{low}" r="6.5"/>'
            f'<path class="sign" d="M{_CENTER - 3.5} {low} H{_CENTER + 3.5} M{_CENTER} {low - 3.5} V{low + 3.5}"/>'
        )
        return _svg(boxes, len(boxes), arc=_hoverable("shortcut", told, arc)), pen

    def _boxes(self, layers: Sequence[Layer]) -> tuple[list[Markup], "_Pen"]:
        """A box for each layer that is drawn, and the pen behind all of them."""
        found: list[Markup] = []
        shape, before = self.shape, list[str]()
        for place, layer in enumerate(layers):
            following = layers[place + 1] if place + 1 < len(layers) else None
            out = output_shape(layer, shape)
            if isinstance(layer, _DRAWN):
                top = _TOP + len(found) * _PITCH
                told = self._lines(layer, shape, out, before)
                if isinstance(following, Norm | Relu):
                    told.append(f"then {_word(following)}")
                found.append(_hoverable("layer", told, _box(layer, top)))
                before = []
            else:
                before.append(_word(layer))
            shape = out
        return found, replace(self, shape=shape)

    def _lines(self, layer: Layer, shape: Shape, out: Shape, before: Sequence[str]) -> list[str]:
        row = self.rows[layer.name]
        sees = f"one value sees {row.receptive_field} × {row.receptive_field} pixels" if row.receptive_field else ""
        told = [f"{layer.name}: {_words(layer)}", f"{_told(shape)} → {_told(out)}", *self._costs([layer]), sees]
        first = f"after {', '.join(before)}" if before and isinstance(layer, Conv) else ""
        return [line for line in (*told, first) if line]

    def _costs(self, layers: Sequence[Layer]) -> list[str]:
        parameters, macs = (sum(getattr(self.rows[layer.name], what) for layer in layers) for what in ("parameters", "macs"))
        if not parameters and not macs:
            return ["no parameters"]
        return [f"{parameters:,} parameters, {macs:,} multiply-adds ({macs / max(self.total, 1):.1%})"]


def _box(layer: Layer, top: int) -> str:
    middle, words = top + _BOX / 2, escape(_short(layer))
    kind = "conv" if isinstance(layer, Conv | Linear) else "pool"
    return (
        f'<rect class="block {kind}" x="{_LEFT}" y="{top}" width="{_RIGHT - _LEFT}" height="{_BOX}" rx="4"/>'
        f'<text x="{_CENTER}" y="{middle + 4}">{words}</text>'
    )


def _hoverable(kind: str, lines: Sequence[str], inner: str) -> Markup:
    told = escape("\n".join(lines))
    return Markup(f'<g class="{kind}" tabindex="0" role="img" aria-label="{told}" data-tip="{told}">{inner}</g>')


def _svg(boxes: Sequence[Markup], count: int, arc: str) -> Markup:
    height = _TOP + count * _PITCH + (20 if arc else 0)
    width = _WIDTH if arc else _NARROW
    wire = f'<line class="wire" x1="{_CENTER}" y1="0" x2="{_CENTER}" y2="{height}"/>'
    return Markup(f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">{wire}{"".join(boxes)}{arc}</svg>')


def _short(layer: Layer) -> str:
    """What the paper writes into a box, e.g. "3×3 conv, 128, /2"."""
    match layer:
        case Conv():
            kind = f"g{layer.groups}" if layer.groups > 1 else "conv"
            return f"{layer.kernel}×{layer.kernel} {kind}, {layer.out_channels}" + (f", /{layer.stride}" if layer.stride > 1 else "")
        case MaxPool() | AvgPool():
            return f"{'max' if isinstance(layer, MaxPool) else 'avg'} pool, /{layer.stride}"
        case Linear():
            return f"fc, {layer.out_features:,}"
        case SqueezeExcite():
            return f"squeeze-excite, {layer.reduced}"
    return "avg pool"


def _words(layer: Layer) -> str:
    match layer:
        case Conv():
            more = [f"stride {layer.stride}"] * (layer.stride > 1) + [f"{layer.groups} groups"] * (layer.groups > 1) + ["bias"] * layer.bias
            return ", ".join([f"{layer.kernel}×{layer.kernel} convolution", *more])
        case MaxPool() | AvgPool():
            kind = "max" if isinstance(layer, MaxPool) else "average"
            return f"{layer.kernel}×{layer.kernel} {kind} pooling, stride {layer.stride}"
        case Linear():
            return "linear layer"
    return _word(layer)


def _word(layer: Layer) -> str:
    match layer:
        case Conv():
            return f"{layer.kernel}×{layer.kernel} convolution"
        case Norm():
            return "batch norm"
        case Relu():
            return "ReLU"
        case SqueezeExcite():
            return "squeeze and excitation"
        case GlobalAvgPool():
            return "global average pooling"
    return type(layer).__name__.lower()


def _told(shape: Shape) -> str:
    return "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, shape))


def sizes(columns: Sequence[Column]) -> list[list[str]]:
    """A table row for each column: part, output, blocks, parameters, multiply-adds, share."""
    return [[c.name, c.shape, str(c.blocks or ""), f"{c.parameters:,}", f"{c.macs:,}", f"{c.share:.1%}"] for c in columns]


__all__ = ["Column", "Group", "columns", "legend", "recipe_of_a_block", "shortcut_kind", "sizes"]
