"""The network as a drawing: stem, stages with their blocks and shortcuts, head, read from the plan alone.

The surprising thing: it is not one wide picture but a small one for each stage, which the page lets flow, so that a telephone shows it too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from residual.cost import Cost, Row
from residual.layers import Block, Conv, Layer, Linear, MaxPool, Network, PadChannels

_BOX, _GAP, _SHOWN, _SCALE = 46, 22, 4, 1.25


@dataclass(frozen=True, kw_only=True)
class Part:
    """Stem, a stage or head: its name, what it puts out, and its picture."""

    name: str
    shape: str
    told: str
    svg: Markup


def parts(network: Network, cost: Cost) -> list[Part]:
    """The parts of `network` in the order of the forward pass; `cost` is of the pictures it was trained on."""
    rows = {row.name: row for row in cost.rows}
    tall = max(len(_convs(block)) for block in network.blocks())
    stem = [_letters(layer) for layer in network.stem if isinstance(layer, Conv | MaxPool)]
    tall = max(tall, len(stem), 2)
    start = f"from {network.in_channels} channel{'s' if network.in_channels > 1 else ''}"
    found = [Part(name="stem", shape=_shape(rows[network.stem[-1].name]), told=start, svg=_boxes([stem], [None], 0, tall))]
    for stage in network.stages:
        boxes = [_convs(block) for block in stage.blocks]
        arcs = [_shortcut(block) for block in stage.blocks]
        last = stage.blocks[-1].branch + stage.blocks[-1].after
        count = len(boxes)
        told = f"{count} block{'s' if count > 1 else ''}"
        hidden = 0 if count <= _SHOWN else count - _SHOWN + 1
        shown = count - hidden
        svg = _boxes(boxes[:shown], arcs[:shown], hidden, tall)
        found.append(Part(name=stage.name, shape=_shape(rows[last[-1].name]), told=told, svg=svg))
    outputs = f"{network.num_classes:,} class{'es' if network.num_classes > 1 else ''}"
    features = f"from {sum(layer.in_features for layer in network.head if isinstance(layer, Linear)):,} features"
    return [*found, Part(name="head", shape=outputs, told=features, svg=_boxes([["mean", "linear"]], [None], 0, tall))]


def legend(network: Network) -> list[tuple[str, str]]:
    """The kinds of shortcut that the drawing shows: (class of the line, words)."""
    words = {
        "identity": "identity shortcut", "projection": "shortcut with a 1×1 convolution", "padded": "shortcut padded with zero channels",
    }  # fmt: skip
    there = {_shortcut(block) for block in network.blocks()}
    return [(kind, told) for kind, told in words.items() if kind in there]


def _convs(block: Block) -> list[str]:
    return [_letters(layer) for layer in block.branch if isinstance(layer, Conv)]


def _shortcut(block: Block) -> str | None:
    if block.shortcut is None:
        return None
    if not block.shortcut:
        return "identity"
    return "padded" if any(isinstance(layer, PadChannels) for layer in block.shortcut) else "projection"


def _letters(layer: Layer) -> str:
    if isinstance(layer, Conv):
        return f"{layer.kernel}×{layer.kernel}" + (f" /{layer.stride}" if layer.stride > 1 else "")
    return f"max /{layer.stride}" if isinstance(layer, MaxPool) else ""


def _shape(row: Row) -> str:
    channels, height, width = row.output
    return f"{channels} × {height} × {width}"


def _boxes(boxes: Sequence[Sequence[str]], arcs: Sequence[str | None], hidden: int, tall: int) -> Markup:
    """One box for each list of at most `tall` words, its shortcut above it, and "+n" for those not drawn."""
    width = _GAP + len(boxes) * (_BOX + _GAP) + (36 if hidden else 0)
    top, height = 22, 22 + 13 * tall + 14
    middle = top + (height - top - 4) / 2
    lines = [f'<line class="wire" x1="0" y1="{middle}" x2="{width}" y2="{middle}"/>']
    for number, (words, kind) in enumerate(zip(boxes, arcs, strict=True)):
        left = _GAP + number * (_BOX + _GAP)
        right, half = left + _BOX, (13 * len(words) + 8) / 2
        lines.append(f'<rect class="block" x="{left}" y="{middle - half}" width="{_BOX}" height="{2 * half}" rx="4"/>')
        for line, word in enumerate(words):
            lines.append(f'<text x="{left + _BOX / 2}" y="{middle - half + 14.5 + 13 * line}">{escape(word)}</text>')
        if kind:
            path = f"M{left - 8} {middle} V14 Q{left - 8} 8 {left - 2} 8 H{right + 2} Q{right + 8} 8 {right + 8} 14 V{middle - 3}"
            lines.append(f'<path class="arc {kind}" d="{path}"/><circle class="plus {kind}" cx="{right + 8}" cy="{middle}" r="3.5"/>')
    if hidden:
        lines.append(f'<text x="{width - 18}" y="{middle - 6}">+{hidden}</text>')
    shape, size = f'viewBox="0 0 {width} {height}"', f'width="{width * _SCALE}" height="{height * _SCALE}"'
    return Markup(f'<svg {shape} {size} aria-hidden="true">{"".join(lines)}</svg>')
