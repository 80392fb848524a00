"""The size of the loss gradient in each layer, and how alike the gradients at neighbouring inputs are, plain against residual.

Not vanishing gradients (He et al. 2015, section 4.1) but shattered ones (Balduzzi et al. 2017) tell plain from residual nets.
The surprising thing: batch norm is in training mode for the norms, as in a training step, so a gradient depends on its whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from residual.layers import Conv, Linear, Network
from residual.study.bench import Ask, Bench, Images, Labels, open_bench
from residual.study.claims import Claim, Spread, Verdict, all_of, spread
from residual.study.plain import from_plain
from residual.study.probes import weight_gradients
from residual.study.shattering import Curve, Mlp, first_value_lines, mlp_curve
from residual.study.store import Finding, save
from residual.study.subjects import Kind, Subject, is_twin
from residual.weights import Weights, initialise

State = Literal["first values", "trained"]
_VANISHED = 0.01  # a layer whose gradient is below this share of the median layer's counts as vanished
_DEPTHS, _SMALL_DEPTHS = (2, 4, 10, 24, 50), (2, 10, 24)  # hidden layers of the MLPs; Balduzzi et al. 2017, figure 2


@dataclass(frozen=True, kw_only=True)
class LayerGradient:
    """`norm` is the Frobenius norm of the loss gradient for the layer's weight, `share` that norm over the weight's own."""

    layer: str
    norm: Spread
    share: Spread


@dataclass(frozen=True, kw_only=True)
class ModelGradients:
    """Gradients of one model in layer order. At first values every draw has a seed and a batch of its own; trained, a batch."""

    label: str
    kind: Kind
    depth: int
    state: State
    draws: int
    batch: int
    layers: tuple[LayerGradient, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes: curves: correlations of MLPs; lines: of the models themselves, at first values, between pictures."""

    batch_norm: str
    models: tuple[ModelGradients, ...]
    curves: tuple[Curve, ...]
    lines: tuple[Curve, ...]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Attributes: seeds: of first values; batch: pictures; depths: hidden layers of the MLPs; points: of a line between pictures."""

    seeds: int
    batch: int
    depths: tuple[int, ...]
    points: int


def study(ask: Ask) -> Finding:
    """Norms and correlations of all models on the same pictures, written to `ask.out`. ValueError where a model or data does not fit."""
    bench = open_bench(ask, "gradients")
    size = Size(seeds=3, batch=64, depths=_SMALL_DEPTHS, points=32) if ask.small else Size(seeds=5, batch=128, depths=_DEPTHS, points=64)
    size = replace(size, batch=min(size.batch, len(bench.labels)))
    own = {"seeds": size.seeds, "batch": size.batch, "depths": list(size.depths), "points": size.points}
    parts = bench.parts("gradients", own)
    models, lines = list[ModelGradients](), list[Curve]()
    for subject in bench.subjects:
        x, y = bench.pictures(subject), bench.targets(subject)
        states: tuple[State, ...] = ("first values", "trained") if subject.trained else ("first values",)
        for state in states:
            values = parts.get(f"{subject.label}, {state}", partial(norms, subject, x, y, state=state, size=size, seed=ask.seed))
            models.append(from_plain(ModelGradients, values, subject.label))
        values = parts.get(f"{subject.label}, lines", partial(_line, subject, x, size, ask.seed))
        lines.append(from_plain(Curve, values, subject.label))
    curves = [from_plain(Curve, values, "curve") for values in _mlps(parts, size, ask.seed)]
    result = Result(
        batch_norm="norms: training mode, statistics of the batch; correlations: statistics of the grid or of the pictures, held fixed",
        models=tuple(models), curves=tuple(curves), lines=tuple(lines), claims=claims(bench.subjects, models, curves, lines),
    )  # fmt: skip
    finding = bench.finding("gradients", own, parts, result, _scaled_down(bench, ask, size))
    if ask.out is not None:
        save(finding, ask.out)
    return finding


def norms(subject: Subject, x: Images, y: Labels, *, state: State, size: Size, seed: int = 0) -> ModelGradients:
    """Gradient norms of one model. At first values there are `size.seeds` draws, trained as many as there are whole batches, at most 10."""
    batches = [slice(start, start + size.batch) for start in range(0, len(x) - size.batch + 1, size.batch)][:10]
    if state == "first values":
        draws = [(initialise(subject.network, seed + number), batches[number % len(batches)]) for number in range(size.seeds)]
    else:
        draws = [(subject.weights, batch) for batch in batches]
    rows = [by_layer(subject.network, weights, x[batch], y[batch]) for weights, batch in draws]
    layers = tuple(
        LayerGradient(layer=name, norm=spread([row[name][0] for row in rows]), share=spread([row[name][1] for row in rows]))
        for name in rows[0]
    )
    return ModelGradients(
        label=subject.label, kind=subject.kind, depth=subject.depth, state=state, draws=len(draws), batch=size.batch, layers=layers
    )


def by_layer(network: Network, weights: Weights, images: Images, labels: Labels) -> dict[str, tuple[float, float]]:
    """Layer -> norm of its weight's gradient, and that over the weight's norm: convolutions of stem and branches, and the linear layer."""
    chains = [*network.stem, *(layer for block in network.blocks() for layer in block.branch), *network.head]
    found = weight_gradients(network, weights, images, labels)
    rows = {}
    for layer in chains:
        if isinstance(layer, Conv | Linear):
            name = f"{layer.name}.weight"
            norm = float(np.linalg.norm(found[name].astype(np.float64)))
            rows[layer.name] = (norm, norm / max(float(np.linalg.norm(weights[name].astype(np.float64))), 1e-30))
    return rows


def _line(subject: Subject, x: Images, size: Size, seed: int) -> Curve:
    draws = [initialise(subject.network, seed + number) for number in range(size.seeds)]
    lags = min(15, size.points - 2)
    return Curve(
        label=subject.label, kind=subject.kind, depth=subject.depth, spacing=f"1/{size.points - 1} of the way between two pictures",
        lags=tuple(range(lags + 1)),
        correlation=first_value_lines(subject.network, draws, x[: size.batch], points=size.points, lags=lags),
    )  # fmt: skip


def _mlps(parts: Any, size: Size, seed: int) -> list[Any]:
    found = []
    for residual, beta in ((False, 1.0), (True, 1.0), (True, 0.1)):
        for depth in size.depths:
            net, seeds = Mlp(residual=residual, depth=depth, beta=beta), range(seed, seed + 2 * size.seeds)
            found.append(parts.get(f"mlp {residual} {beta} {depth}", partial(mlp_curve, net, seeds=seeds)))
    return found


def _scaled_down(bench: Bench, ask: Ask, size: Size) -> tuple[str, ...]:
    told = [f"{size.seeds} seeds of first values."]
    if ask.small:
        told.append(f"MLPs up to {size.depths[-1]} hidden layers instead of 50, {size.points} points on a line.")
    return tuple(told)


def claims(
    subjects: Sequence[Subject], models: Sequence[ModelGradients], curves: Sequence[Curve], lines: Sequence[Curve]
) -> tuple[Claim, ...]:
    """No vanishing in plain nets; shattering in plain MLPs and not in residual ones; the same in the models themselves."""
    return (_vanishing(models), _shattered(curves), _lines(subjects, lines))


def _vanishing(models: Sequence[ModelGradients]) -> Claim:
    told, verdicts = [], list[Verdict]()
    for model in models:
        values = np.array([layer.norm.mean for layer in model.layers])
        low = float(values.min() / max(float(np.median(values)), 1e-30))
        if model.kind == "plain":
            verdicts.append("agrees" if low >= _VANISHED else "differs")
        ends = f"first layer {values[0]:.3g}, last convolution {values[-2]:.3g}" if len(values) > 1 else f"{values[0]:.3g}"
        told.append(f"{model.label} at {model.state}: {ends}, smallest {low:.0%} of the median")
    return Claim(
        claim=f"Gradients do not vanish in plain nets with batch norm (no layer below {_VANISHED:.0%} of the median layer)",
        source="He et al. 2015, arXiv:1512.03385, section 4.1", verdict=all_of(verdicts), reason="; ".join(told) + ".",
    )  # fmt: skip


def _shattered(curves: Sequence[Curve]) -> Claim:
    """Lag 1 at the smallest and the largest depth of each kind of MLP."""
    by_label: dict[str, list[Curve]] = {}
    for curve in curves:
        by_label.setdefault(curve.label, []).append(curve)
    ends = {label: (min(group, key=lambda c: c.depth), max(group, key=lambda c: c.depth)) for label, group in by_label.items()}
    told = [f"{label}: {_at(a)} with {a.depth} layers, {_at(b)} with {b.depth}" for label, (a, b) in ends.items()]
    plain = [b for _, b in ends.values() if b.kind == "plain"]
    verdicts = [_above(b, plain[0]) for _, b in ends.values() if b.kind == "residual" and plain]
    return Claim(
        claim="Gradients at neighbouring inputs come apart with depth in plain nets, and less so in residual nets",
        source="Balduzzi et al. 2017, arXiv:1702.08591, figures 1 and 2", verdict=all_of(verdicts),
        reason="Correlation at lag 1. " + "; ".join(told) + ".",
    )  # fmt: skip


def _lines(subjects: Sequence[Subject], lines: Sequence[Curve]) -> Claim:
    """Each residual model against its plain twin, at lag 1."""
    told, verdicts, seen = [], list[Verdict](), set[Any]()
    rows = [(subject.network.architecture, curve) for subject, curve in zip(subjects, lines, strict=True)]
    for arch, ours in rows:
        twin = next((curve for other, curve in rows if is_twin(arch, other)), None)
        if twin is not None and arch not in seen:
            seen.add(arch)
            verdicts.append(_above(ours, twin))
            told.append(f"{ours.depth} layers: residual {_at(ours)}, plain {_at(twin)}")
    reason = f"Correlation at lag 1. {'; '.join(told)}." if told else "No residual net and its plain twin are among the models."
    return Claim(
        claim="Between two pictures, gradients of a residual net at first values are more alike than those of its plain twin",
        source="Balduzzi et al. 2017, arXiv:1702.08591, section 2", verdict=all_of(verdicts), reason=reason,
    )  # fmt: skip


def _above(higher: Curve, lower: Curve) -> Verdict:
    """By the means and twice the standard error of their difference: seeds differ much, their means do not."""
    a, b = higher.correlation[1], lower.correlation[1]
    error = 2 * (a.std**2 / a.count + b.std**2 / b.count) ** 0.5
    return "agrees" if a.mean - b.mean > error else "differs" if b.mean - a.mean > error else "within the spread"


def _at(curve: Curve) -> str:
    return f"{curve.correlation[1].mean:.3f} +- {curve.correlation[1].std:.3f}"


__all__ = ["LayerGradient", "ModelGradients", "Result", "Size", "by_layer", "claims", "norms", "study"]
