"""The page's plots, as plain data that plotly.js draws in the reader's browser.

The surprising thing: colours are names such as "@s1"; the page's script replaces them by those of the light or the dark theme. Every text
that came from a user is escaped here, since plotly reads a little HTML in its labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from residual.recipe import EpochEnd, Recipe, learning_rate
from residual.training.metrics import Evaluation

MOST_CLASSES = 40  # rows that a confusion matrix is readable with
_MOST_POINTS = 1500  # of the step losses
_SERIES = 7
_DASHES = ("solid", "dash", "dashdot", "longdash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plot: `label` says what it shows, `caption` what to know when reading it, `height` is in pixels.

    Attributes:
        wide: over both columns.
        turns: three-dimensional, with a slider that turns it.
    """

    name: str
    title: str
    label: str
    caption: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 300
    wide: bool = False
    turns: bool = False

    def spec(self) -> dict[str, Any]:
        return {"data": self.data, "layout": self.layout}


def curves(runs: Sequence[tuple[str, Sequence[EpochEnd]]], smoothing: float = 0.0) -> list[Figure]:
    """Loss and accuracy by epoch, of one run or of several laid over each other; runs without an epoch are left out."""
    runs = [(name, events) for name, events in runs if events]
    if not runs:
        return []
    caption = "" if len(runs) > 1 else _loss_caption(smoothing)
    short = max(event.epoch for _, events in runs for event in events) <= 10
    axis = {"xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero", **({"dtick": 1} if short else {})}}
    loss = Figure(
        name="loss", title="Loss", label="Loss of training and validation by epoch", caption=caption,
        data=_pair(runs, "loss", 1), layout={**axis, "yaxis": {"title": {"text": "loss"}, "rangemode": "tozero"}},
    )  # fmt: skip
    accuracy = Figure(
        name="accuracy", title="Accuracy", label="Accuracy on training and validation pictures by epoch",
        caption="Training accuracy is counted while the weights move and on augmented pictures.",
        data=_pair(runs, "accuracy", 100), layout={**axis, "yaxis": {"ticksuffix": " %"}},
    )  # fmt: skip
    return [loss, accuracy]


def results(runs: Sequence[tuple[str, Evaluation | None]]) -> list[Figure]:
    """Right answers of each run with the 95 % interval; none where fewer than two were measured."""
    measured = [(name, found) for name, found in runs if found is not None]
    if len(measured) < 2:
        return []
    shares = [100 * found.top1 for _, found in measured]
    up, down = ([100 * abs(found.interval[end] - found.top1) for _, found in measured] for end in (1, 0))
    told = [f"{found.split}, {found.count:,} pictures" for _, found in measured]
    trace = line(shares, range(len(measured)), "right", "@s2", mode="markers") | {
        "error_x": {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": "@text", "thickness": 1.5},
        "text": told, "hovertemplate": "%{x:.2f} %<br>%{text}<extra></extra>",
    }  # fmt: skip
    places = {"tickvals": list(range(len(measured))), "ticktext": [escape(_short(name)) for name, _ in measured], "tickmode": "array"}
    return [Figure(
        name="results", title="Right answers", label="Share of right answers of each run with its 95 % interval", data=[trace],
        caption="Bars: 95 % interval of each. Where they overlap widely, the difference may be chance.",
        layout={"xaxis": {"ticksuffix": " %"}, "yaxis": {**places, "autorange": "reversed"}, "showlegend": False},
        height=110 + 34 * len(measured), wide=True,
    )]  # fmt: skip


def rate(recipe: Recipe, events: Sequence[EpochEnd]) -> Figure:
    """The learning rate over the progress of the run."""
    progress = np.linspace(0, 1, 201)
    unit = "time" if recipe.time else "steps"
    planned = line(progress * 100, [learning_rate(float(p), recipe) for p in progress], "recipe", "@s2", mode="lines")
    used = line([e.progress * 100 for e in events], [e.learning_rate for e in events], "at the end of an epoch", "@s1", mode="markers")
    return Figure(
        name="rate", title="Learning rate", label=f"Learning rate over the share of the {unit} done",
        caption="Points: the rate of the last step of each epoch.",
        data=[planned, used],
        layout={
            "xaxis": {"title": {"text": f"share of the {unit}"}, "ticksuffix": " %"},
            "yaxis": {"rangemode": "tozero", "exponentformat": "power"},
        },
    )  # fmt: skip


def steps(events: Sequence[EpochEnd]) -> Figure | None:
    """The loss of every step, or of the mean of several where there are very many; None where no step was recorded."""
    places = [np.arange(e.steps - len(e.losses) + 1, e.steps + 1) for e in events]
    x, y = np.concatenate([*places, np.zeros(0)]), np.concatenate([*(np.asarray(e.losses, float) for e in events), np.zeros(0)])
    if not len(x):
        return None
    group = -(-len(x) // _MOST_POINTS)
    if group > 1:
        starts = np.arange(0, len(x), group)
        sizes = np.diff([*starts, len(x)])
        x, y = np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes
    return Figure(
        name="steps", title="Loss of each step", label="Training loss of each step",
        caption=f"Each point is the mean of {group} steps." if group > 1 else "One point for each optimizer step.",
        data=[line(x, y, "training", "@s1", mode="lines" if len(x) > 1 else "markers") | {"line": {"color": "@s1", "width": 1}}],
        layout={"xaxis": {"title": {"text": "step"}}, "yaxis": {"rangemode": "tozero"}, "showlegend": False},
    )  # fmt: skip


def confusion(found: Evaluation) -> Figure:
    """Share of each true class by predicted class; of many classes only those with the most mistakes."""
    matrix, names = np.array(found.confusion), [score.name for score in found.classes]
    caption = "Rows: true class. Columns: predicted class. Colour: share of the row. A perfect model has only the diagonal."
    if len(names) > MOST_CLASSES:
        wrong = matrix.sum(1) + matrix.sum(0) - 2 * matrix.diagonal()
        chosen = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
        caption += f" Shown are the {MOST_CLASSES} of {len(names)} classes with the most mistakes."
        matrix, names = matrix[np.ix_(chosen, chosen)], [names[index] for index in chosen]
        totals = np.array(found.confusion).sum(1)[chosen]
    else:
        totals = matrix.sum(1)
    share = matrix / np.maximum(totals, 1)[:, None]
    hover = [
        [
            f"true: {escape(t)}<br>predicted: {escape(p)}<br>{n} of {total} ({n / max(total, 1):.1%})"
            for p, n in zip(names, row, strict=True)
        ]
        for t, row, total in zip(names, matrix.tolist(), totals.tolist(), strict=True)
    ]
    most = max(map(len, names))
    few, places = len(names) <= 12, list(range(len(names)))
    ticks = {"tickmode": "array", "tickvals": places, "ticktext": [escape(_short(name)) for name in names], "showgrid": False}
    cell = [[str(n) if n else "" for n in row] for row in matrix.tolist()]
    return Figure(
        name="confusion", title="Confusion matrix", label="Confusion matrix: true classes by predicted classes", caption=caption,
        data=[{
            "type": "heatmap", "z": share.round(4).tolist(), "x": places, "y": places, "zmin": 0, "zmax": 1, "hovertext": hover,
            "hoverinfo": "text", "colorscale": [[0, "@surface"], [0.02, "@heat0"], [1, "@heat1"]], "showscale": False, "xgap": 1, "ygap": 1,
            **({"text": cell, "texttemplate": "%{text}"} if few else {}),
        }],
        layout={
            "xaxis": {**ticks, "title": {"text": "predicted"}, "tickangle": 0 if most <= 2 else -45 if few else -90},
            "yaxis": {**ticks, "title": {"text": "true"}, "autorange": "reversed"},
        },
        height=min(320 + 14 * len(names), 760),
        wide=not few,
    )  # fmt: skip


def calibration(found: Evaluation) -> Figure:
    """How often the model is right when it is so sure. Guo et al. 2017, figure 1."""
    filled = [b for b in found.bins if b.count]
    middle = [(b.low + b.high) * 50 for b in filled]
    width = [(b.high - b.low) * 100 for b in filled]
    told = [f"sure {b.low:.0%} to {b.high:.0%}: {b.count} pictures<br>right {b.accuracy:.1%}, said {b.confidence:.1%}" for b in filled]
    bar: dict[str, Any] = {"type": "bar", "x": middle, "width": width, "hovertext": told, "hoverinfo": "text"}
    line = {"type": "scatter", "mode": "lines", "x": [0, 100], "y": [0, 100], "hoverinfo": "skip", "name": "as sure as right"}
    return Figure(
        name="calibration", title="Calibration", label="Calibration: share of right answers by the probability of the answer",
        caption=f"Bars under the line: surer than right; over it: less sure. Expected calibration error {found.calibration_error:.3f}; "
        "the lower bars count the pictures.",
        data=[
            {**bar, "y": [b.accuracy * 100 for b in filled], "marker": {"color": "@s2"}, "name": "right answers"},
            {**line, "line": {"color": "@text", "dash": "dash", "width": 1.5}},
            {**bar, "y": [b.count for b in filled], "marker": {"color": "@s1"}, "yaxis": "y2", "name": "pictures"},
        ],
        layout={
            "xaxis": {"title": {"text": "probability of the answer"}, "range": [0, 100], "ticksuffix": " %", "anchor": "y2"},
            "yaxis": {"domain": [0.3, 1], "range": [0, 100], "ticksuffix": " %", "title": {"text": "right"}},
            "yaxis2": {"domain": [0, 0.2], "nticks": 3, "title": {"text": "pictures"}},
            "barmode": "overlay",
        },
        height=360,
    )  # fmt: skip


def _loss_caption(smoothing: float) -> str:
    if not smoothing:
        return "Training loss is the mean over the epoch's steps, while the weights move."
    return f"Training loss is the mean over the epoch's steps and includes label smoothing of {smoothing:g}; validation loss does not."


def _pair(runs: Sequence[tuple[str, Sequence[EpochEnd]]], what: str, scale: float) -> list[dict[str, Any]]:
    """Traces of training and validation; colours tell the two apart, or the runs where there are several (training is dotted then)."""
    traces = []
    for number, (name, events) in enumerate(runs):
        for part in ("train", "validation"):
            points = [(e.epoch, value * scale) for e in events if (value := getattr(e, f"{part}_{what}")) is not None]
            if not points:
                continue
            x, y = zip(*points, strict=True)
            several = len(runs) > 1
            colour = f"@s{number % _SERIES + 1}" if several else "@s1" if part == "train" else "@s2"
            told = "training" if part == "train" else "validation"
            trace = line(x, y, f"{escape(name)}, {told}" if several else told, colour, mode="lines+markers")
            dash = "dot" if part == "train" else _DASHES[number // _SERIES % len(_DASHES)] if several else "solid"
            trace["line"] |= {"dash": dash}
            if several:
                held = any(getattr(e, f"validation_{what}") is not None for e in events)
                trace |= {"legendgroup": str(number), "showlegend": part == "validation" or not held}
            symbol = SYMBOLS[number % len(SYMBOLS)] if several else "circle" if part == "train" else "square"
            trace["marker"] |= {"symbol": symbol, "size": 6, "maxdisplayed": 30}
            traces.append(trace)
    return traces


def line(x: Any, y: Any, name: str, colour: str, *, mode: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": mode, "x": _plain(x), "y": _plain(y), "name": name, "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 7},
    }  # fmt: skip


def _plain(values: Any) -> list[float | None]:
    """Numbers with seven digits; JSON knows no NaN and no infinity."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values]


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
