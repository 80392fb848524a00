"""The loss around trained weights, on a plane of directions, with and without shortcuts. Li et al. 2018, arXiv:1712.09913.

The surprising thing: batch norm decides what is seen. With its running statistics kept ("inference", the authors' choice) a random step
throws the statistics off too; taken anew from the pictures ("batch"), a step that only scales a filter changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from residual.study.bench import Ask, Bench, open_bench
from residual.study.claims import Claim
from residual.study.directions import Path, filter_normalised, principal
from residual.study.landscape_path import digest, snapshots, walker
from residual.study.landscape_shape import Array, Shape, shape_of
from residual.study.landscape_verdict import claims
from residual.study.plain import from_plain
from residual.study.store import Finding, Parts, save
from residual.study.subjects import Kind, Subject
from residual.weights import Weights

Statistics = Literal["inference", "batch"]
_MARGIN = 0.2  # of a path's extent, shown around it
_PAPER_POINTS = 51
_SMALL_POINTS, _SMALL_COUNT = 11, 250


def surface(
    loss: Callable[[Weights], float], center: Weights, x: Weights, y: Weights, radius: float = 1.0, points: int = 25
) -> npt.NDArray[np.float64]:
    """Loss at `center + a * x + b * y`, rows over b and columns over a, both in [-radius, radius]. Li et al. 2018, section 4."""
    steps = _steps(radius, points)
    return np.array([[loss(_moved(center, (a, b), (x, y))) for a in steps] for b in steps], np.float64)


def line(loss: Callable[[Weights], float], center: Weights, x: Weights, radius: float = 1.0, points: int = 51) -> npt.NDArray[np.float64]:
    """Loss at `center + a * x`, a in [-radius, radius]. Li et al. 2018, section 4."""
    return np.array([loss(_moved(center, (a,), (x,))) for a in _steps(radius, points)], np.float64)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured.

    Attributes:
        points: along each side of the grid: an odd number, so that the center is one of them.
        radius: of the random planes; 1 moves each filter by its own norm.
        seeds: planes of random directions for each model.
        statistics: of batch norm: the running ones, or those of batches of about 250 of the pictures.
        path: a run with snapshots, or a folder of model files, one for each stop of a training, in the order of their names; it ends in
            one of the models.
    """

    points: int = 25
    radius: float = 1.0
    seeds: int = 1
    statistics: Statistics = "inference"
    path: str = ""

    def __post_init__(self) -> None:
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(f"points is {self.points}, but must be an odd number from 3 on, so that the center is a point of the grid.")
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius is {self.radius}, but must be a number above 0.")
        if self.seeds < 0 or (self.seeds == 0 and not self.path):
            raise ValueError(f"seeds is {self.seeds}, but at least one plane of directions is needed (0 is for --path alone).")
        if self.statistics not in ("inference", "batch"):
            raise ValueError(f"The statistics of batch norm are 'inference' or 'batch', and not {self.statistics!r}.")


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The loss of one model on one plane; grids have rows over betas and columns over alphas.

    Attributes:
        plane: of "random" filter-normalised directions (of `seed`), or of the "path" of its training.
        loss: mean cross-entropy over the pictures; `error`: share classified wrongly.
        loss_bar: standard error of the loss as an estimate of that over the whole split; 0 where all its pictures were taken.
        rise_bar: the same of the loss minus that at the center, of which the pictures' own difficulty drops out.
        path: T x 2, where the training passed, last at (0, 0); 0 x 2 on a random plane.
        explained: share of the path's variance along alpha and along beta; `within`: of its squared distances in the plane.
    """

    label: str
    kind: Kind
    plane: Literal["random", "path"]
    seed: int
    alphas: Array
    betas: Array
    loss: Array
    error: Array
    loss_bar: Array
    rise_bar: Array
    center_loss: float
    center_error: float
    shape: Shape
    path: Array
    explained: tuple[float, ...]
    within: float | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """Every surface, and what the pairs with and without shortcuts say to the paper's claims.

    Attributes:
        statistics: where batch norm's statistics came from, see Options.
        pictures: how many the loss is over, of `population` in the split.
    """

    statistics: Statistics
    pictures: int
    population: int
    surfaces: tuple[Surface, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Two directions and the steps along them; `path` where they are those of a training."""

    x: Weights
    y: Weights
    alphas: Array
    betas: Array
    seed: int = 0
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is measured at the points of one beta."""

    loss: Array
    error: Array
    loss_bar: Array
    rise_bar: Array


class Net(Protocol):
    """A network on its pictures that can be moved, as `residual.backends.torch_moving.MovingNet`."""

    def direction(self, weights: Weights) -> Any: ...

    def losses(self, steps: Sequence[float], directions: Sequence[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]: ...


def study(ask: Ask, options: Options) -> Finding:
    """The surfaces of the models that are asked for, written to `ask.out`; each row is kept there as soon as it is finished.

    With `ask.small` the grid has at most 11 x 11 points, and the loss is over at most 250 pictures. ValueError for what Ask or Options
    say that cannot be.
    """
    ask = replace(ask, count=min(ask.count or _SMALL_COUNT, _SMALL_COUNT)) if ask.small else ask
    points = min(options.points, _SMALL_POINTS) if ask.small else options.points
    path = snapshots(options.path) if options.path else ()
    bench = open_bench(ask, "landscape")
    told = {"points": points, "radius": options.radius, "seeds": options.seeds, "statistics": options.statistics, "path": digest(path)}
    walked = walker(bench.subjects, path) if path else None
    parts, found = bench.parts("landscape", told), list[Surface]()
    for subject in bench.subjects:
        planes = [random_plane(subject.weights, ask.seed + n, options.radius, points) for n in range(options.seeds)]
        planes += [path_plane(path, points)] if subject is walked else []
        if planes:
            net = _net(bench, subject, options.statistics)
            found += [measure(net, plane, bench.told["of"], subject, parts) for plane in planes]
    judged = claims([(subject, [s.shape for s in found if s.label == subject.label and s.plane == "random"]) for subject in bench.subjects])
    result = Result(
        statistics=options.statistics, pictures=bench.told["count"], population=bench.told["of"], surfaces=tuple(found), claims=judged,
    )  # fmt: skip
    finding = bench.finding("landscape", told, parts, result, _scaled_down(points, bench))
    if ask.out is not None:
        save(finding, ask.out)
    return finding


def random_plane(weights: Weights, seed: int, radius: float, points: int) -> Plane:
    """The plane of two filter-normalised random directions."""
    x, y = (filter_normalised(weights, seed, axis) for axis in ("x", "y"))
    return Plane(x=x, y=y, alphas=_steps(radius, points), betas=_steps(radius, points), seed=seed)


def path_plane(path: Sequence[Weights], points: int) -> Plane:
    """The plane of the two leading principal components of a training, as far as it went and a fifth more on each side."""
    found = principal(path)
    low, high = found.coordinates.min(0), found.coordinates.max(0)
    margin = _MARGIN * (high - low)
    alphas, betas = (np.linspace(low[i] - margin[i], high[i] + margin[i], points) for i in range(2))
    return Plane(x=found.directions[0], y=found.directions[1], alphas=alphas, betas=betas, path=found)


def measure(net: Net, plane: Plane, population: int, subject: Subject, parts: Parts) -> Surface:
    """The surface of `subject`, which `net` moves; its pictures were drawn from `population`."""
    directions = [net.direction(plane.x), net.direction(plane.y)]
    losses, wrong = net.losses((), ())
    kind, rows = "random" if plane.path is None else "path", list[Row]()
    for number, beta in enumerate(plane.betas):

        def made(beta: float = float(beta)) -> Row:
            return _row([net.losses((float(alpha), beta), directions) for alpha in plane.alphas], losses, population)

        rows.append(from_plain(Row, parts.get(f"{subject.label} {kind} {plane.seed} row {number}", made), "a row"))
    grids = {name: np.stack([getattr(row, name) for row in rows]) for name in ("loss", "error", "loss_bar", "rise_bar")}
    return Surface(
        label=subject.label, kind=subject.kind, plane="random" if plane.path is None else "path", seed=plane.seed,
        alphas=plane.alphas, betas=plane.betas, **grids, center_loss=float(losses.mean()), center_error=float(wrong.mean()),
        shape=shape_of(grids["loss"], plane.alphas, plane.betas),
        path=np.zeros((0, 2)) if plane.path is None else plane.path.coordinates,
        explained=() if plane.path is None else plane.path.explained, within=None if plane.path is None else plane.path.within,
    )  # fmt: skip


def standard_error(values: npt.NDArray[np.float64], population: int) -> float:
    """Of the mean of `values`, drawn from `population` without replacement: s / sqrt(n) * sqrt(1 - n / N)."""
    if len(values) < 2:
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(len(values)) * np.sqrt(max(0.0, 1 - len(values) / population)))


def _row(points: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]], center: npt.NDArray[np.float64], population: int) -> Row:
    with np.errstate(invalid="ignore", over="ignore"):
        return Row(
            loss=np.array([losses.mean() for losses, _ in points]),
            error=np.array([wrong.mean() for _, wrong in points]),
            loss_bar=np.array([standard_error(losses, population) for losses, _ in points]),
            rise_bar=np.array([standard_error(losses - center, population) for losses, _ in points]),
        )


def _net(bench: Bench, subject: Subject, statistics: Statistics) -> Net:
    from residual.backends.torch_moving import MovingNet

    return MovingNet(subject.network, subject.weights, bench.pictures(subject), bench.targets(subject), statistics=statistics)


def _moved(center: Weights, steps: Sequence[float], directions: Sequence[Weights]) -> Weights:
    """center + the sum of steps times directions, added in float64."""
    found: Weights = {}
    for name, value in center.items():
        moved = value.astype(np.float64)
        for step, direction in zip(steps, directions, strict=True):
            moved += step * direction[name]
        found[name] = moved.astype(np.float32)
    return found


def _steps(radius: float, points: int) -> Array:
    if points < 2:
        raise ValueError(f"points is {points}, but a line has at least 2.")
    return np.linspace(-radius, radius, points)


def _scaled_down(points: int, bench: Bench) -> tuple[str, ...]:
    """What is smaller than in the paper."""
    found = [f"{points} x {points} points instead of {_PAPER_POINTS} x {_PAPER_POINTS}."] if points < _PAPER_POINTS else []
    if bench.told["count"] < bench.told["of"]:
        found.append(f"{bench.told['count']} of the {bench.told['of']} pictures of the {bench.told['split']} split, with error bars.")
    if bench.told["split"] != "train":
        found.append(f"loss on the {bench.told['split']} split instead of the training pictures.")
    return tuple(found)
