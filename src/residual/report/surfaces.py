"""Loss surfaces: contours of every plane, and for the first plane of each model the surface that turns.

The surprising thing: heights and colours are the logarithm of the loss, with one range for all surfaces, or a plain net's walls would leave
nothing else to see.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.report.figures import Figure
from residual.report.shown import series
from residual.study.landscape import Result, Surface

_TICKS = (1e-3, 1e-2, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1e3, 1e4, 1e6)
_MOST_3D = 4  # a browser holds a few WebGL drawings at a time
_LOWEST = 1e-4  # of a loss, so that it has a logarithm


def landscape(result: Result) -> tuple[list[Figure], list[list[str]]]:
    """The figures of all surfaces, and a table row for each."""
    low, high = _range(result.surfaces)
    figures, turned = list[Figure](), dict[str, int]()
    for number, surface in enumerate(result.surfaces):
        name = _name(surface)
        if surface.plane == "random" and surface.label not in turned and len(turned) < _MOST_3D:
            turned[surface.label] = number
            figures.append(_turning(f"surface{number}", name, surface, low, high))
        figures.append(_contour(f"contour{number}", name, surface, low, high))
    random = [surface for surface in result.surfaces if surface.plane == "random"]
    if random:
        figures.append(_lines(random))
    return figures, [_row(surface) for surface in result.surfaces]


def _range(surfaces: Sequence[Surface]) -> tuple[float, float]:
    """The lowest and highest logarithm of all losses that are finite."""
    values = np.concatenate([_log(surface.loss).ravel() for surface in surfaces])
    values = values[np.isfinite(values)]
    return float(values.min()), float(values.max())


def _log(loss: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.isfinite(loss), np.log10(np.maximum(loss, _LOWEST)), np.nan)


def _turning(name: str, told: str, surface: Surface, low: float, high: float) -> Figure:
    grid = _log(surface.loss)
    ticks = _ticks(low, high)
    axis = {"showbackground": False, "showspikes": False}
    return Figure(
        name=name, title=told, label=f"Loss surface of {told}, which can be turned", height=420,
        caption="Drag it, or move the slider, to turn it. Height and colour: loss, on a logarithmic scale that all surfaces share.",
        data=[{
            "type": "surface", "x": _numbers(surface.alphas), "y": _numbers(surface.betas), "z": _rows(grid), "cmin": low, "cmax": high,
            "colorscale": "Viridis", "showscale": False, "text": _hover(surface), "hovertemplate": "%{text}<extra></extra>",
            "contours": {"z": {"show": True, "usecolormap": False, "color": "@muted", "project": {"z": True}, "start": low, "end": high,
                               "size": max((high - low) / 15, 1e-3)}},
            "opacity": 1,
        }],
        layout={"scene": {
            "xaxis": {**axis, "title": {"text": "alpha"}}, "yaxis": {**axis, "title": {"text": "beta"}},
            "zaxis": {**axis, **ticks, "title": {"text": "loss"}, "range": [low - 0.25 * (high - low or 1), high]},
            "aspectmode": "cube", "dragmode": "turntable",
            "camera": {"eye": {"x": 1.6, "y": 1.4, "z": 0.95}, "center": {"x": 0, "y": 0, "z": -0.16}},
        }, "margin": {"l": 0, "r": 0, "t": 0, "b": 0}},
        turns=True,
    )  # fmt: skip


def _contour(name: str, told: str, surface: Surface, low: float, high: float) -> Figure:
    data: list[dict[str, Any]] = [{
        "type": "contour", "x": _numbers(surface.alphas), "y": _numbers(surface.betas), "z": _rows(_log(surface.loss)),
        "zmin": low, "zmax": high, "zauto": False, "colorscale": "Viridis", "ncontours": 20,
        "line": {"width": 0.6, "color": "rgba(255,255,255,0.55)"},
        "text": _hover(surface), "hovertemplate": "%{text}<extra></extra>",
        "colorbar": {**_ticks(low, high), "thickness": 10, "outlinewidth": 0, "title": {"text": "loss"}},
    }]  # fmt: skip
    caption = "The weights lie at the cross."
    if len(surface.path):
        x, y = surface.path[:, 0], surface.path[:, 1]
        shares = " and ".join(f"{share:.0%}" for share in surface.explained)
        within = f"; {surface.within:.0%} of its squared distances lie in this plane" if surface.within is not None else ""
        caption += f" The line is the way of the training: the axes explain {shares} of its variance{within}."
        data.append({
            "type": "scatter", "mode": "lines+markers", "x": _numbers(x), "y": _numbers(y), "name": "training", "hoverinfo": "skip",
            "line": {"color": "#ffffff", "width": 2}, "marker": {"color": "#d55e00", "size": 6, "line": {"color": "#ffffff", "width": 1}},
        })  # fmt: skip
    data.append({
        "type": "scatter", "mode": "markers", "x": [0], "y": [0], "hoverinfo": "skip", "name": "weights",
        "marker": {"symbol": "cross-thin", "size": 11, "line": {"color": "#ffffff", "width": 2}},
    })  # fmt: skip
    return Figure(
        name=name, title=f"{told}, contours", label=f"Contours of the loss of {told}", caption=caption, data=data, height=400,
        layout={"xaxis": {"title": {"text": "alpha"}, "showgrid": False}, "yaxis": {"title": {"text": "beta"}, "showgrid": False},
                "showlegend": False},
    )  # fmt: skip


def _lines(surfaces: Sequence[Surface]) -> Figure:
    """The loss along both directions of every plane: the middle column and row of its grid."""
    labels, data = list(dict.fromkeys(surface.label for surface in surfaces)), list[dict[str, Any]]()
    for surface in surfaces:
        middle, number = len(surface.betas) // 2, labels.index(surface.label)
        known = any(trace["legendgroup"] == surface.label for trace in data)
        for steps, across, cut in (
            (surface.alphas, "alpha", (middle, slice(None))), (surface.betas, "beta", (slice(None), len(surface.alphas) // 2)),
        ):  # fmt: skip
            trace = series(number, surface.kind, surface.label, _numbers(steps), _rows(surface.loss[cut][None])[0], [])
            bar = surface.loss_bar[cut]
            if np.nan_to_num(bar).any():
                trace["error_y"] = {"type": "data", "array": _rows(bar[None])[0], "thickness": 1, "width": 2}
            hover = f"{across} %{{x}}, loss %{{y:.4g}}<extra>{escape(surface.label)}, seed {surface.seed}</extra>"
            data.append(trace | {"legendgroup": surface.label, "showlegend": not known and across == "alpha", "hovertemplate": hover})
    return Figure(
        name="lines", title="Along each direction", label="Loss along each of the random directions", data=data, wide=True,
        caption="One line for each direction of the random planes, through the weights in the middle: the loss in one dimension. "
        "Bars, where a subset was measured: its standard error.",
        layout={"xaxis": {"title": {"text": "distance, in norms of each filter"}}, "yaxis": {"title": {"text": "loss"}, "type": "log"}},
    )  # fmt: skip


def _row(surface: Surface) -> list[str]:
    shape = surface.shape
    plane = "path" if surface.plane == "path" else f"random, seed {surface.seed}"
    curvature = f"{sum(shape.curvature) / 2:.3g}" if shape.curvature else ""
    center = f"{surface.center_loss:.3f}"
    return [surface.label, plane, center, f"{shape.highest:.3g}", f"{shape.within[2]:.0%}", curvature, f"{shape.nonconvex:.0%}"]


def _name(surface: Surface) -> str:
    plane = "the plane of its training" if surface.plane == "path" else f"random plane {surface.seed}"
    return f"{surface.label} ({surface.kind}), {plane}"


def _hover(surface: Surface) -> list[list[str]]:
    return [
        [
            f"alpha {a:.2f}, beta {b:.2f}<br>loss {loss:.4g}<br>error {error:.1%}"
            for a, loss, error in zip(surface.alphas, *row, strict=True)
        ]
        for b, row in zip(surface.betas, zip(surface.loss, surface.error, strict=True), strict=True)
    ]


def _ticks(low: float, high: float) -> dict[str, Any]:
    shown = [value for value in _TICKS if low <= np.log10(value) <= high]
    if len(shown) > 7:
        shown = [value for value in shown if np.log10(value) % 1 == 0] or shown[::2]
    return {"tickmode": "array", "tickvals": [float(np.log10(value)) for value in shown], "ticktext": [f"{value:g}" for value in shown]}


def _numbers(values: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in values]


def _rows(grid: npt.NDArray[np.float64]) -> list[list[float | None]]:
    return [[float(f"{value:.5g}") if np.isfinite(value) else None for value in row] for row in grid]
