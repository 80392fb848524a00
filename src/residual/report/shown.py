"""A study on the page: what every study's function gives, and the lines that they all draw alike.

The surprising thing: colour is never alone. Plain nets are dashed with open marks, residual ones solid with filled ones, in every figure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from residual.report.figures import SYMBOLS, Figure, line
from residual.study.claims import Spread

SERIES = 7  # colours of lines


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns whose number is in `words` hold text, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: list[list[str]]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A study on the page."""

    title: str
    sentences: list[str]
    figures: list[Figure]
    tables: list[Table]


def series(number: int, kind: str, name: str, x: Sequence[Any], y: Sequence[float | None], told: Sequence[str]) -> dict[str, Any]:
    """One line of plotly's: of a plain or residual net (`kind`), its colour and mark by `number`; `told` is shown under the pointer."""
    trace = line([], y, escape(name), f"@s{number % SERIES + 1}", mode="lines+markers")
    trace |= {"x": [escape(place) if isinstance(place, str) else place for place in x]}
    trace["line"] |= {"dash": "dash" if kind == "plain" else "solid"}
    symbol = SYMBOLS[number % len(SYMBOLS)]
    trace["marker"] |= {"size": 7, "symbol": f"{symbol}-open" if kind == "plain" else symbol, "maxdisplayed": 40}
    return trace | (
        {"text": [escape(words) for words in told], "hovertemplate": "%{text}<br>%{y:.4g}<extra>%{fullData.name}</extra>"} if told else {}
    )


def bars(values: Sequence[Spread]) -> dict[str, Any]:
    """Error bars from the lowest to the highest value, where there are several."""
    if not any(value.count > 1 for value in values):
        return {}
    up, down = ([_apart(getattr(v, end), v.mean) for v in values] for end in ("high", "low"))
    return {"error_y": {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1, "width": 3}}


def _apart(end: float, mean: float) -> float:
    return abs(end - mean) if math.isfinite(end - mean) else 0.0


def in_percent(value: Spread) -> Spread:
    """A spread of shares as one of percents."""
    return replace(value, mean=100 * value.mean, std=100 * value.std, low=100 * value.low, high=100 * value.high)


__all__ = ["SERIES", "Shown", "Table", "bars", "in_percent", "series"]
