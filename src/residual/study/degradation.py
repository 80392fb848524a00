"""Plain against residual nets as depth grows: training and validation error by epoch, and gradient norms beside them.

The surprising thing: the degradation is in the TRAINING error, so it is not overfitting; the study trains nothing itself, it is given
a function that does. Source: He et al. 2015, arXiv:1512.03385, section 1, section 4.2, figures 1 and 6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from residual.architecture import Architecture
from residual.layers import Network
from residual.plan import plan
from residual.recipe import EpochEnd
from residual.study.claims import Claim, Spread, Verdict, all_of, compare, spread
from residual.study.outcome import outcome
from residual.study.plain import from_plain
from residual.study.store import Finding, open_parts
from residual.study.subjects import Kind
from residual.weights import Weights, initialise

ENOUGH = 3  # seeds: when two groups of 3 do not overlap, chance alone would have done it 1 time in 20
_VANISHED = 0.01  # share of the median layer's gradient below which one counts as vanished, as in the study of gradients
_SOURCE = "He et al. 2015, arXiv:1512.03385, section 4.2, figure 6"

Train = Callable[[Architecture, int], tuple[Sequence[EpochEnd], Weights]]
Norms = Callable[[Network, Weights], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is trained: nets of `depths` layers (6n + 2), plain and residual, each with seeds 0, 1, ...

    Attributes:
        widths: channels of the three stages; the paper: 16, 32, 64.
    """

    depths: tuple[int, ...]
    widths: tuple[int, int, int]
    seeds: int
    in_channels: int
    num_classes: int

    def __post_init__(self) -> None:
        if len(set(self.depths)) < 2 or list(self.depths) != sorted(set(self.depths)):
            raise ValueError(f"depths is {_joined(self.depths)}, but must be at least two different numbers that rise, such as 8,20,44.")
        for depth in self.depths:
            if depth < 8 or depth % 6 != 2:
                near = max(6 * round((depth - 2) / 6) + 2, 8)
                raise ValueError(f"depths has {depth}, but a CIFAR net has 6n + 2 layers (8, 14, 20, ...). Did you mean {near}?")
        if len(self.widths) != 3:
            raise ValueError(f"widths is {_joined(self.widths)}, but must be three numbers, one for each stage, such as 8,16,32.")
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}, but must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One training.

    Attributes:
        train_error: of each epoch, as its steps went by, on pictures as augmented.
        validation_error: after each epoch; NaN where none was held out.
        gradients_first, gradients_last: norm of the loss gradient of each layer's weight, at first values and at the end, as `layers`.
    """

    kind: Kind
    depth: int
    seed: int
    train_error: tuple[float, ...]
    train_loss: tuple[float, ...]
    validation_error: tuple[float, ...]
    layers: tuple[str, ...]
    gradients_first: tuple[float, ...]
    gradients_last: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Net:
    """All trainings of one net: error by epoch over the seeds, and at the end."""

    kind: Kind
    depth: int
    parameters: int
    train_error: tuple[Spread, ...]
    validation_error: tuple[Spread, ...]
    final_train: Spread
    final_validation: Spread


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes: nets: plain and residual, by depth; curves: every training they come from."""

    epochs: int
    seeds: int
    widths: tuple[int, ...]
    nets: tuple[Net, ...]
    curves: tuple[Curve, ...]
    claims: tuple[Claim, ...]


def study(
    train: Train, norms: Norms, grid: Grid, *, settings: dict[str, Any], data: dict[str, Any], scaled_down: tuple[str, ...] = (),
    out: str | Path | None = None,
) -> Finding:  # fmt: skip
    """Trains every net of the grid from every seed, or takes what `out` holds of it already.

    `settings` and `data` are all that fixes what `train` does. A later call may have more depths or seeds: what is there is kept.
    """
    parts = open_parts(out, "degradation", {"widths": list(grid.widths), "data": data, **settings})
    curves = []
    for seed in range(grid.seeds):
        for depth in grid.depths:
            for kind in ("plain", "residual"):
                arch = architecture(grid, kind, depth)
                values = parts.get(f"{kind} {depth} seed {seed}", partial(curve, train, norms, arch, seed, depth=depth))
                curves.append(from_plain(Curve, values, f"{kind} {depth} seed {seed}"))
    result = found(curves, grid)
    told = {"depths": list(grid.depths), "widths": list(grid.widths), "seeds": grid.seeds, **settings}
    return outcome("degradation", result, parts, settings=told, data=data, scaled_down=scaled_down, out=out)


def architecture(grid: Grid, kind: str, depth: int) -> Architecture:
    """The net of `depth` layers of section 4.2: three stages of n blocks, option A where it is residual."""
    return Architecture(
        depths=((depth - 2) // 6,) * 3, inner_widths=grid.widths, out_widths=grid.widths, strides=(1, 2, 2), stem="cifar",
        stem_width=grid.widths[0], shortcut="none" if kind == "plain" else "pad", in_channels=grid.in_channels,
        num_classes=grid.num_classes,
    )  # fmt: skip


def curve(train: Train, norms: Norms, arch: Architecture, seed: int, *, depth: int) -> Curve:
    """One training, with the gradient norms before and after it."""
    network = plan(arch)
    first = norms(network, initialise(network, seed))
    ends, weights = train(arch, seed)
    last = norms(network, weights)
    held = [1 - end.validation_accuracy if end.validation_accuracy is not None else float("nan") for end in ends]
    return Curve(
        kind="plain" if arch.shortcut == "none" else "residual", depth=depth, seed=seed,
        train_error=tuple(1 - end.train_accuracy for end in ends), train_loss=tuple(end.train_loss for end in ends),
        validation_error=tuple(held), layers=tuple(first), gradients_first=tuple(first.values()),
        gradients_last=tuple(last[name] for name in first), seconds=ends[-1].seconds,
    )  # fmt: skip


def found(curves: Sequence[Curve], grid: Grid) -> Result:
    """The trainings put together by net, and what they say of the claims."""
    from residual.cost import cost

    nets = []
    for kind in ("plain", "residual"):
        for depth in grid.depths:
            of = [curve for curve in curves if (curve.kind, curve.depth) == (kind, depth)]
            errors, held = _by_epoch([c.train_error for c in of]), _by_epoch([c.validation_error for c in of])
            nets.append(Net(
                kind=of[0].kind, depth=depth, parameters=cost(architecture(grid, kind, depth)).parameters,
                train_error=errors, validation_error=held, final_train=errors[-1], final_validation=held[-1],
            ))  # fmt: skip
    return Result(
        epochs=len(curves[0].train_error), seeds=grid.seeds, widths=grid.widths, nets=tuple(nets), curves=tuple(curves),
        claims=claims(nets, curves),
    )  # fmt: skip


def _by_epoch(runs: Sequence[Sequence[float]]) -> tuple[Spread, ...]:
    return tuple(spread(values) for values in zip(*runs, strict=True))


def claims(nets: Sequence[Net], curves: Sequence[Curve]) -> tuple[Claim, ...]:
    """The two claims of figure 6, from end to end and at last step by step, residual against plain nets, and no vanishing gradients."""
    plain, residual = ([net for net in nets if net.kind == kind] for kind in ("plain", "residual"))
    return (
        _ends("Plain nets: the deepest is worse than the shallowest, in training error", plain[0], plain[-1], plain),
        _ends("Residual nets: the deepest is better than the shallowest, in training error", residual[-1], residual[0], residual),
        Claim(
            claim="At the largest depth the residual net has a lower training error than the plain one", source=_SOURCE,
            verdict=_below(residual[-1].final_train, plain[-1].final_train),
            reason=f"{residual[-1].depth} layers, training error: residual {_told(residual[-1].final_train)}, plain "
            f"{_told(plain[-1].final_train)}; validation error: {_told(residual[-1].final_validation)} and "
            f"{_told(plain[-1].final_validation)}.",
        ),
        _vanishing([curve for curve in curves if curve.kind == "plain"]),
        _steps("Plain nets: worse with every step in depth, in training error", plain),
        _steps("Residual nets: better with every step in depth, in training error", residual[::-1]),
    )  # fmt: skip


def _ends(claim: str, lower: Net, higher: Net, nets: Sequence[Net]) -> Claim:
    """The shallowest net against the deepest one; the reason has all of them."""
    verdict = _below(lower.final_train, higher.final_train)
    told = {"agrees": "Shown", "differs": "Not shown, the opposite is", "within the spread": "Not shown, the seeds overlap"}
    begin = told.get(verdict, f"Too few seeds to tell (at least {ENOUGH} are needed)")
    rows = ", ".join(f"{net.depth} layers {_told(net.final_train)} (validation {_told(net.final_validation)})" for net in nets)
    return Claim(claim=claim, source=_SOURCE, verdict=verdict, reason=f"{begin}. Training error in the last epoch: {rows}.")


def _steps(claim: str, rising: Sequence[Net]) -> Claim:
    """Every net against the next one; `rising` is in the order in which the error should rise. Stricter than the ends alone."""
    verdicts = [_below(lower.final_train, higher.final_train) for lower, higher in pairwise(rising)]
    rows = [f"{a.depth} below {b.depth} layers: {verdict}" for (a, b), verdict in zip(pairwise(rising), verdicts, strict=True)]
    return Claim(claim=claim, source=_SOURCE, verdict=all_of(verdicts), reason=f"Training error of {'; '.join(rows)}.")


def _below(lower: Spread, higher: Spread) -> Verdict:
    return "too few to tell" if min(lower.count, higher.count) < ENOUGH else compare(lower, higher)


def _vanishing(curves: Sequence[Curve]) -> Claim:
    """At first values, the smallest layer of each plain net against its median layer; the norms at the end are beside it."""
    verdicts, rows = list[Verdict](), []
    for depth in sorted({curve.depth for curve in curves}):
        firsts = [_smallest(curve.gradients_first) for curve in curves if curve.depth == depth]
        lasts = [_smallest(curve.gradients_last) for curve in curves if curve.depth == depth]
        verdicts.append("agrees" if min(firsts) >= _VANISHED else "differs")
        rows.append(f"{depth} layers {min(firsts):.0%} before training, {min(lasts):.0%} after it")
    return Claim(
        claim=f"The gradients of plain nets do not vanish: before training no layer is below {_VANISHED:.0%} of the median layer",
        source="He et al. 2015, arXiv:1512.03385, section 4.1", verdict=all_of(verdicts),
        reason=f"Gradient norm of the smallest layer against the median one: {', '.join(rows)}.",
    )  # fmt: skip


def _smallest(norms: Sequence[float]) -> float:
    return float(min(norms) / max(float(np.median(norms)), 1e-30))


def _told(value: Spread) -> str:
    return f"{value.mean:.1%} ({value.low:.1%} to {value.high:.1%})" if value.count > 1 else f"{value.mean:.1%}"


def _joined(values: Sequence[int]) -> str:
    return ",".join(map(str, values)) or "empty"


__all__ = ["ENOUGH", "Curve", "Grid", "Net", "Norms", "Result", "Train", "architecture", "claims", "curve", "found", "study"]
