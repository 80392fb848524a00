"""Draws the figures of the documentation from the results in docs/results/studies, into docs/assets or the folder that is named.

python scripts/docs_figures.py [FOLDER]

Vector pictures with few numbers in them, on a clear ground: they are read on light and dark pages. Colours are those of Okabe and Ito
and of viridis; what colour tells is told by a dash or a label too.
"""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from residual.study import store

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "docs" / "results" / "studies"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
VIRIDIS = ("#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
PANEL, HIGH, LEFT, TOP, GAP = 320, 200, 58, 36, 92
Points = Sequence[tuple[float, float]]


class Panel:
    """One pair of axes; x and y are given in the data's units."""

    def __init__(self, column: int, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.left, self.x, self.y = LEFT + column * (PANEL + GAP), x, y
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.left + across * PANEL, 1), round(TOP + (1 - up) * HIGH, 1)

    def text(self, x: float, y: float, words: str, more: str = "") -> None:
        self.parts.append(f'<text x="{x:g}" y="{y:g}"{more}>{words}</text>')

    def axes(self, title: str, across: Sequence[float], up: Sequence[float], names: tuple[str, str], show: Callable[[float], str]) -> None:
        bottom, right = TOP + HIGH, self.left + PANEL
        self.text(self.left, TOP - 14, title, ' font-size="13" font-weight="600"')
        self.parts.append(f'<path d="M{self.left} {TOP}V{bottom}H{right}" fill="none" stroke="#999"/>')
        for value in up:
            y = self.at(self.x[0], value)[1]
            self.parts.append(f'<path d="M{self.left} {y}h{PANEL}" stroke="#999" stroke-opacity=".3"/>')
            self.text(self.left - 6, y + 4, show(value), ' text-anchor="end"')
        for value in across:
            self.text(self.at(value, self.y[0])[0], bottom + 16, f"{value:g}", ' text-anchor="middle"')
        self.text(self.left + PANEL / 2, bottom + 34, names[0], ' text-anchor="middle"')
        turned = self.left - 44
        self.text(turned, TOP + HIGH / 2, names[1], f' text-anchor="middle" transform="rotate(-90 {turned} {TOP + HIGH / 2:g})"')

    def line(self, points: Points, color: str, dash: str = "", width: float = 2) -> None:
        told = " ".join("{:g},{:g}".format(*self.at(x, y)) for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{told}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashed}/>')

    def band(self, low: Points, high: Points, color: str) -> None:
        told = " ".join("{:g},{:g}".format(*self.at(x, y)) for x, y in [*low, *reversed(high)])
        self.parts.append(f'<polygon points="{told}" fill="{color}" fill-opacity=".2"/>')


def degradation(result: Any) -> str:
    """Training error (lines, range over the seeds) and validation error (dots) by epoch, plain and residual nets."""
    panels = []
    for column, kind in enumerate(("plain", "residual")):
        panel = Panel(column, (1, result.epochs), (0, 1))
        across = [epoch for epoch in range(1, result.epochs + 1) if epoch % 2 == 0]
        panel.axes(f"{kind} nets", across, (0, 0.25, 0.5, 0.75, 1), ("epoch", "error"), lambda value: f"{value:.0%}")
        own = [net for net in result.nets if net.kind == kind]
        ends = _apart([panel.at(0, net.final_train.mean)[1] for net in own])
        for net, color, down in zip(own, COLORS, ends, strict=False):
            epochs = range(1, result.epochs + 1)
            panel.band(
                [(e, s.low) for e, s in zip(epochs, net.train_error, strict=True)],
                [(e, s.high) for e, s in zip(epochs, net.train_error, strict=True)], color,
            )  # fmt: skip
            panel.line([(e, s.mean) for e, s in zip(epochs, net.train_error, strict=True)], color)
            panel.line([(e, s.mean) for e, s in zip(epochs, net.validation_error, strict=True)], color, "2 4", 1.4)
            panel.text(panel.left + PANEL + 5, down + 4, f"{net.depth} layers", f' fill="{color}"')
        panels.append(panel)
    return _svg("Training error (lines, bands over seeds) and validation error (dots) by epoch, plain and residual nets", panels)


def responses(result: Any) -> str:
    """Standard deviation of the responses, in layer order and sorted; plain nets dashed."""
    most = max(layer.std for model in result.models for layer in model.layers)
    deep = max(len(model.layers) for model in result.models)
    top = math.ceil(most * 2) / 2
    steps = [top * k / 4 for k in range(5)]
    panels = []
    for column, title in enumerate(("in layer order", "sorted, largest first")):
        panel = Panel(column, (1, deep), (0, top))
        panel.axes(title, _ticks(deep), steps, ("layer", "standard deviation"), lambda value: f"{value:g}")
        values = [[layer.std for layer in model.layers] if column == 0 else list(model.sorted) for model in result.models]
        for model, own, color in zip(result.models, values, COLORS, strict=False):
            panel.line(list(enumerate(own, 1)), color, "6 4" if model.kind == "plain" else "")
        panels.append(panel)
    for index, (model, color) in enumerate(zip(result.models, COLORS, strict=False)):
        dash = ' stroke-dasharray="6 4"' if model.kind == "plain" else ""
        x, y = panels[1].left + 150, TOP + 10 + 17 * index
        panels[1].parts.append(f'<path d="M{x} {y}h26" stroke="{color}" stroke-width="2"{dash}/>')
        panels[1].text(x + 32, y + 4, model.label)
    return _svg("Standard deviation of layer responses, in layer order and sorted, of plain and residual nets", panels)


def landscape(result: Any) -> str:
    """The first plane of each model, coloured by the logarithm of the loss on one scale."""
    first = {surface.label: surface for surface in reversed(result.surfaces)}
    surfaces = [first[label] for label in dict.fromkeys(surface.label for surface in result.surfaces)][:2]
    values = [[[math.log10(max(loss, 1e-6)) for loss in row] for row in surface.loss] for surface in surfaces]
    low, high = min(min(map(min, grid)) for grid in values), max(max(map(max, grid)) for grid in values)
    panels = []
    for column, (surface, grid) in enumerate(zip(surfaces, values, strict=True)):
        panel = Panel(column, (surface.alphas[0], surface.alphas[-1]), (surface.betas[0], surface.betas[-1]))
        ends = sorted({surface.alphas[0], 0.0, surface.alphas[-1]})
        panel.parts += _cells(panel, grid, low, high)
        panel.axes(surface.label, ends, ends, ("first direction", "second direction"), lambda value: f"{value:g}")
        x, y = panel.at(0, 0)
        panel.parts.append(f'<path d="M{x - 4:g} {y:g}h8M{x:g} {y - 4:g}v8" stroke="#fff" stroke-width="1.5"/>')
        panels.append(panel)
    right = panels[-1].left + PANEL + 14
    for index, color in enumerate(VIRIDIS):
        y = TOP + HIGH - (index + 1) * HIGH / len(VIRIDIS)
        panels[-1].parts.append(f'<rect x="{right}" y="{y:g}" width="12" height="{HIGH / len(VIRIDIS):g}" fill="{color}"/>')
    for share, value in ((0, low), (0.5, (low + high) / 2), (1, high)):
        panels[-1].text(right + 17, TOP + HIGH * (1 - share) + 4, f"{10**value:.2g}")
    panels[-1].text(right, TOP - 14, "loss")
    return _svg("Loss of a residual net and its plain twin on a plane of two random directions through the trained weights", panels)


def _cells(panel: Panel, grid: Sequence[Sequence[float]], low: float, high: float) -> list[str]:
    """One rectangle for each run of one colour in a row."""
    rows, columns = len(grid), len(grid[0])
    wide, tall = PANEL / columns, HIGH / rows
    parts = []
    for row, values in enumerate(grid):
        levels = [min(int((value - low) / (high - low) * len(VIRIDIS)), len(VIRIDIS) - 1) for value in values]
        start = 0
        for column in range(1, columns + 1):
            if column == columns or levels[column] != levels[start]:
                x, y = panel.left + start * wide, TOP + HIGH - (row + 1) * tall
                size = f'width="{(column - start) * wide + 0.4:.1f}" height="{tall + 0.4:.1f}"'
                parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{VIRIDIS[levels[start]]}"/>')
                start = column
    return parts


def _ticks(most: int) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 50) if most / step <= 8)
    return [1, *range(step, most + 1, step)] if step > 1 else list(range(1, most + 1))


def _apart(places: Sequence[float], least: float = 14) -> list[float]:
    """The same places, moved down where two labels would touch."""
    moved = dict[int, float]()
    for index in sorted(range(len(places)), key=places.__getitem__):
        moved[index] = max([places[index], *(place + least for place in moved.values())])
    return [moved[index] for index in range(len(places))]


def _svg(title: str, panels: Sequence[Panel]) -> str:
    width, height = LEFT + len(panels) * (PANEL + GAP) - 6, TOP + HIGH + 46
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#7a7a7a">'
    return "\n".join([head, f"<title>{title}</title>", *(part for panel in panels for part in panel.parts), "</svg>", ""])


FIGURES: dict[str, Callable[[Any], str]] = {"degradation": degradation, "responses": responses, "landscape": landscape}


def draw(place: Path) -> list[Path]:
    """Every figure whose result there is."""
    made = []
    for name, figure in FIGURES.items():
        if (STUDIES / name).is_dir():
            made.append(place / f"{name}.svg")
            made[-1].write_text(figure(store.load(STUDIES / name).result), encoding="utf-8")
    return made


if __name__ == "__main__":
    for path in draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "assets"):
        print(path)
