"""Nested against non-nested function classes on a toy problem: the best loss that each size can reach.

The surprising thing: the classes' best loss is exact (least squares), so that no optimiser is to blame where a larger class is worse.
Source: Zhang et al., Dive into Deep Learning, chapter "Residual Networks", section "Function Classes".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from residual.study.claims import Claim, Spread, Verdict, spread
from residual.study.outcome import outcome
from residual.study.plain import from_plain
from residual.study.store import Finding, open_parts
from residual.study.toy import deepening, target

Array = npt.NDArray[np.float64]
Kind = Literal["nested", "not nested"]
_EPSILON = 1e-9  # a loss counts as larger only beyond what rounding can do
_SPANS: dict[Kind, str] = {"nested": "the same functions and one more", "not nested": "as many functions, all drawn anew"}
_NETS: dict[Kind, tuple[str, str]] = {
    "nested": ("residual nets that grow", "the trained net and one more block, which starts as the identity"),
    "not nested": ("plain nets", "a deeper net, trained from its first values"),
}


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Best losses of one sequence of function classes over the seeds.

    Attributes:
        label: what the classes are; `told` says how one class grows into the next.
        exact: whether the best loss is computed; else it is the lowest that a training reached.
        sizes: of the classes, in the units of `unit`.
        loss: mean squared error of the best function, by size; `runs` has it for each seed.
        worse: share of the steps from one size to the next, over all seeds, in which the larger class was worse.
    """

    label: str
    kind: Kind
    told: str
    exact: bool
    unit: str
    sizes: tuple[int, ...]
    loss: tuple[Spread, ...]
    runs: tuple[tuple[float, ...], ...]
    worse: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes: target_x, target_y: the function to be found, at the points it is known at."""

    target_told: str
    target_x: tuple[float, ...]
    target_y: tuple[float, ...]
    classes: tuple[Classes, ...]
    claims: tuple[Claim, ...]


def study(*, seeds: int = 10, sizes: int = 16, depths: int = 6, out: str | Path | None = None, small: bool = False) -> Finding:
    """Spans of `sizes` random functions, exact, and networks of up to `depths` blocks, trained. `small`: 3 seeds and 4 blocks at most."""
    seeds, depths = (min(seeds, 3), min(depths, 4)) if small else (seeds, depths)
    if min(seeds, sizes, depths) < 1:
        raise ValueError(f"seeds is {seeds}, sizes {sizes} and depths {depths}, but each must be at least 1.")
    settings = {"seeds": seeds, "sizes": sizes, "depths": depths}
    parts, (x, y) = open_parts(out, "nesting", settings), target()
    found = []
    for kind, told in _SPANS.items():
        rows = [parts.get(f"span {kind} {seed}", partial(spans, x, y, sizes, kind=kind, seed=seed)) for seed in range(seeds)]
        found.append(measured(rows, label=f"spans of random ReLU functions, {kind}", kind=kind, told=told, exact=True, unit="functions"))
    for kind, (label, told) in _NETS.items():
        make = partial(deepening, x, y, depths, residual=kind == "nested")
        rows = [parts.get(f"net {kind} {seed}", partial(make, seed=seed)) for seed in range(seeds)]
        found.append(measured(rows, label=label, kind=kind, told=told, exact=False, unit="blocks"))
    result = Result(
        target_told="sin(2 pi x) + x sin(7 pi x) / 2 at 64 points of [-1, 1]", target_x=tuple(map(float, x)), target_y=tuple(map(float, y)),
        classes=tuple(found), claims=claims(found),
    )  # fmt: skip
    scaled = (f"{seeds} seeds, nets of at most {depths} blocks.",) if small else ()
    return outcome("nesting", result, parts, settings=settings, data={}, scaled_down=scaled, out=out)


def spans(x: Array, y: Array, sizes: int, *, kind: str, seed: int) -> list[float]:
    """The least mean squared error over the span of 1, ..., `sizes` random ReLU functions and a constant.

    Nested: each class has the functions of the one before and one more. Otherwise each draws all its functions anew.
    """
    kept, found = features(x, sizes, seed=(seed, 0)), []
    for size in range(1, sizes + 1):
        columns = kept[:, :size] if kind == "nested" else features(x, size, seed=(seed, size))
        found.append(least_squares(columns, y))
    return found


def features(x: Array, count: int, *, seed: tuple[int, int]) -> Array:
    """points x count: relu(a (x - b)) with a = -1 or 1 and the kink b uniform in [-1, 1], function after function."""
    draws = np.random.Generator(np.random.Philox(key=list(seed))).random((count, 2))
    columns: Array = np.maximum(np.where(draws[:, 0] < 0.5, -1.0, 1.0) * (x[:, None] - (2 * draws[:, 1] - 1)), 0.0)
    return columns


def least_squares(columns: Array, y: Array) -> float:
    """The mean squared error of the best combination of the columns and a constant."""
    matrix = np.column_stack([np.ones(len(y)), columns])
    best = np.linalg.lstsq(matrix, y, rcond=None)[0]
    return float(((matrix @ best - y) ** 2).mean())


def measured(rows: Sequence[Sequence[float]], *, label: str, kind: Kind, told: str, exact: bool, unit: str) -> Classes:
    """The classes whose best losses are `rows`: one row for each seed, one column for each size."""
    runs = from_plain(tuple[tuple[float, ...], ...], [list(row) for row in rows], label)
    steps = [after > before + _EPSILON for row in runs for before, after in pairwise(row)]
    return Classes(
        label=label, kind=kind, told=told, exact=exact, unit=unit, sizes=tuple(range(1, len(runs[0]) + 1)),
        loss=tuple(spread(column) for column in zip(*runs, strict=True)), runs=runs, worse=sum(steps) / len(steps) if steps else 0.0,
    )  # fmt: skip


def claims(classes: Sequence[Classes]) -> tuple[Claim, ...]:
    """Larger is never worse where classes are nested; where they are not, it can be."""
    source = "Zhang et al., Dive into Deep Learning, section Function Classes"
    return (
        _claim("Where classes are nested, a larger one is never worse", source, classes, "nested", lambda share: share == 0),
        _claim("Where they are not, a larger one can be worse", source, classes, "not nested", lambda share: share > 0),
    )


def _claim(claim: str, source: str, classes: Sequence[Classes], kind: Kind, good: Callable[[float], bool]) -> Claim:
    chosen = [found for found in classes if found.kind == kind]
    verdict: Verdict = "agrees" if all(good(found.worse) for found in chosen) else "differs"
    if any(len(found.sizes) < 2 for found in chosen) or not chosen:
        verdict = "too few to tell"
    told = [f"{f.label}: worse in {f.worse:.0%} of {len(f.runs) * (len(f.sizes) - 1)} steps to the next size" for f in chosen]
    return Claim(claim=claim, source=source, verdict=verdict, reason="; ".join(told) + ".")


__all__ = ["Classes", "Result", "claims", "features", "least_squares", "measured", "spans", "study"]
