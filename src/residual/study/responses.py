"""Standard deviation of layer responses. He et al. 2015, section 4.2 and figure 7.

The surprising thing: a 3x3 layer's response is what its batch norm puts out, before ReLU or addition, so a layer's standard deviation
is nearly the root mean square of that batch norm's gammas. Batch norm is in inference mode here; the paper does not say.
At first values its running statistics are those of the pictures, since the 0 and 1 that they start from would normalise nothing.
Pre-activation nets have no batch norm after a convolution that is its own: there the convolution's output is taken, and called so.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from residual.architecture import Architecture
from residual.backends import open_backend
from residual.cost import network_cost
from residual.layers import Conv, Layer, Network, Norm
from residual.study.bench import Ask, Bench, Images, open_bench
from residual.study.claims import Claim, Spread, Verdict, all_of, compare, spread
from residual.study.landscape_path import digest, stops, walker
from residual.study.plain import from_plain
from residual.study.probes import built, settled
from residual.study.store import Finding, Parts, save
from residual.study.subjects import Kind, Subject, family, is_twin
from residual.weights import Weights

_SOURCE = "He et al. 2015, arXiv:1512.03385, section 4.2, figure 7"
_SETTLING = 256  # pictures whose statistics stand for running ones at first values
_VALUES = 2**24  # values tapped at a time: 64 MB of float32


Table = dict[Architecture, Spread]  # mean response over the layers
Stops = Sequence[tuple[str, Weights]]  # of a training, by name


@dataclass(frozen=True, kw_only=True)
class Tap:
    """Where a layer's response is taken: `name` is the plan's name of a batch norm or a convolution, `layer` that of the convolution."""

    layer: str
    name: str
    after: Literal["batch norm", "convolution"]


@dataclass(frozen=True, kw_only=True)
class Response:
    """`std` is taken over all pictures, channels and pixels."""

    layer: str
    tap: str
    after: Literal["batch norm", "convolution"]
    std: float


@dataclass(frozen=True, kw_only=True)
class ModelResponses:
    """One model's responses in layer order; `sorted` are their deviations, largest first; `mean` is over the layers."""

    label: str
    kind: Kind
    depth: int
    trained: bool
    layers: tuple[Response, ...]
    sorted: tuple[float, ...]
    mean: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes: batch_norm: the mode it was in; layers_told: which layers were taken; training: at each stop of one model's training."""

    batch_norm: str
    layers_told: str
    models: tuple[ModelResponses, ...]
    claims: tuple[Claim, ...]
    training: tuple[ModelResponses, ...] = ()


def study(ask: Ask, path: str = "") -> Finding:
    """The responses of all models on the same pictures, written to `ask.out`; of the model that `path` ends in also over its training.

    `path` is a run that kept its snapshots or a folder of model files. ValueError where a model, the data or the path does not fit.
    """
    ask = replace(ask, count=min(ask.count or 200, 200)) if ask.small else ask
    passed = stops(path) if path else ()
    bench = open_bench(ask, "responses")
    told = {"path": digest([weights for _, weights in passed])} if passed else {}
    walked = walker(bench.subjects, [weights for _, weights in passed]) if passed else None
    parts = bench.parts("responses", told)
    found = []
    for subject in bench.subjects:
        values = parts.get(subject.label, partial(_measured, bench, subject))
        found.append(from_plain(ModelResponses, values, subject.label))
    result = Result(
        batch_norm="inference mode: running statistics; at first values those of the pictures",
        layers_told="every 3x3 convolution of a branch and every convolution of the stem; 1x1 convolutions are left out",
        models=tuple(found),
        claims=claims(bench.subjects, found),
        training=_over_training(bench, walked, passed, parts) if walked else (),
    )
    scaled = (f"{len(bench.labels)} of {bench.told['of']} pictures.",) if len(bench.labels) < bench.told["of"] else ()
    finding = bench.finding("responses", told, parts, result, scaled)
    if ask.out is not None:
        save(finding, ask.out)
    return finding


def _over_training(bench: Bench, subject: Subject, passed: Stops, parts: Parts) -> tuple[ModelResponses, ...]:
    """Each stop is kept in `parts` as soon as it is measured."""
    found = []
    for name, weights in passed:

        def made(stop: tuple[str, Weights] = (name, weights)) -> ModelResponses:
            return over_training(subject, [stop], bench.pictures(subject))[0]

        found.append(from_plain(ModelResponses, parts.get(f"{subject.label} at {name}", made), name))
    return tuple(found)


def _measured(bench: Bench, subject: Subject) -> ModelResponses:
    return measure(subject, bench.pictures(subject))


def measure(subject: Subject, images: Images) -> ModelResponses:
    """The responses of one model on prepared pictures (N C H W)."""
    weights = subject.weights if subject.trained else settled(subject.network, subject.weights, images[:_SETTLING])
    layers = deviations(subject.network, weights, images)
    stds = [layer.std for layer in layers]
    return ModelResponses(
        label=subject.label, kind=subject.kind, depth=subject.depth, trained=subject.trained, layers=layers,
        sorted=tuple(sorted(stds, reverse=True)), mean=float(np.mean(stds)),
    )  # fmt: skip


def over_training(subject: Subject, snapshots: Iterable[tuple[str, Weights]], images: Images) -> tuple[ModelResponses, ...]:
    """The responses at each of several states of one training, given as (label, weights), e.g. ("epoch 3", ...).

    Where no running mean has moved from 0 these are first values.
    """
    found = []
    for label, weights in snapshots:
        moved = any(value.any() for name, value in weights.items() if name.endswith("running_mean"))
        found.append(measure(replace(subject, label=label, weights=weights, trained=moved), images))
    return tuple(found)


def taps(network: Network) -> tuple[Tap, ...]:
    """Where the responses of `network` are taken, in layer order."""
    found = list(_taps_of(network, network.stem, every=True))
    for block in network.blocks():
        found += _taps_of(network, block.branch, every=False)
    return tuple(found)


def _taps_of(network: Network, layers: Sequence[Layer], *, every: bool) -> Iterator[Tap]:
    """Taps of one chain: 3x3 convolutions, or with `every` all."""
    own = network.architecture.order != "preact"  # there the batch norm after a convolution belongs to the next one
    for layer, following in pairwise((*layers, None)):
        if isinstance(layer, Conv) and (every or layer.kernel == 3):
            if own and isinstance(following, Norm):
                yield Tap(layer=layer.name, name=following.name, after="batch norm")
            else:
                yield Tap(layer=layer.name, name=layer.name, after="convolution")


def deviations(network: Network, weights: Weights, images: Images) -> tuple[Response, ...]:
    """Standard deviation of each layer's response over all values that `images` (N C H W) give it."""
    backend = open_backend("torch")
    model = built(network, weights)
    places = taps(network)
    names = [tap.name for tap in places]
    values = network_cost(network, images.shape[2:]).activations
    batch = max(1, _VALUES // max(values, 1))
    moments = {name: _Moments() for name in names}
    for start in range(0, len(images), batch):
        for name, value in backend.forward(model, images[start : start + batch], names).items():
            if name in moments:
                moments[name].add(value)
    return tuple(Response(layer=tap.layer, tap=tap.name, after=tap.after, std=moments[tap.name].std()) for tap in places)


class _Moments:
    """Mean and sum of squared deviations of all values seen. Chan et al. 1983: batches are merged without cancellation."""

    def __init__(self) -> None:
        self.count, self.mean, self.square = 0, 0.0, 0.0

    def add(self, values: Any) -> None:
        count, mean = values.size, float(values.mean(dtype=np.float64))
        apart = mean - self.mean
        total = self.count + count
        self.square += float(((values - mean) ** 2).sum(dtype=np.float64)) + apart**2 * self.count * count / total
        self.mean += apart * count / total
        self.count = total

    def std(self) -> float:
        return float((self.square / self.count) ** 0.5)


def claims(subjects: Sequence[Subject], found: Sequence[ModelResponses]) -> tuple[Claim, ...]:
    """Both claims of figure 7 on the trained models, from the mean over the layers.

    Models of one description are repetitions of each other.
    """
    groups: dict[Architecture, list[float]] = {}
    for subject, model in zip(subjects, found, strict=True):
        if subject.trained:
            groups.setdefault(subject.network.architecture, []).append(model.mean)
    table = {arch: spread(values) for arch, values in groups.items()}
    return (_below(subjects, table), _lower(subjects, table))


def _below(subjects: Sequence[Subject], table: Table) -> Claim:
    told, verdicts = [], list[Verdict]()
    for arch, ours in table.items():
        plain = next((values for other, values in table.items() if is_twin(arch, other)), None)
        if plain is not None:
            verdicts.append(compare(ours, plain))
            told.append(f"{_depth(subjects, arch)} layers: residual {_number(ours)}, plain {_number(plain)}")
    none = "No trained residual net and its trained plain twin are among the models."
    reason = f"{'; '.join(told)}.{_alone(table)}" if told else none
    claim = "Residual nets respond less than their plain twins"
    return Claim(claim=claim, source=_SOURCE, verdict=all_of(verdicts), reason=reason)


def _lower(subjects: Sequence[Subject], table: Table) -> Claim:
    families: dict[Architecture, list[Architecture]] = {}
    for arch in table:
        if arch.shortcut != "none":
            families.setdefault(family(arch), []).append(arch)
    told, verdicts = [], list[Verdict]()
    for members in families.values():
        row = sorted(members, key=lambda arch: _depth(subjects, arch))
        verdicts += [compare(table[deep], table[shallow]) for shallow, deep in pairwise(row)]
        if len(row) > 1:
            told.append(", ".join(f"{_depth(subjects, arch)} layers {_number(table[arch])}" for arch in row))
    none = "No two trained residual nets that differ in depth only are among the models."
    reason = f"{'; '.join(told)}.{_alone(table)}" if told else none
    claim = "A single layer of a deeper residual net responds less"
    return Claim(claim=claim, source=_SOURCE, verdict=all_of(verdicts), reason=reason)


def _depth(subjects: Sequence[Subject], arch: Architecture) -> int:
    return next(subject.depth for subject in subjects if subject.network.architecture == arch)


def _alone(table: Table) -> str:
    return " One training of each, so the spread over seeds is not known." if all(v.count == 1 for v in table.values()) else ""


def _number(values: Spread) -> str:
    return f"{values.mean:.3f}" + (f" ({values.low:.3f} to {values.high:.3f}, {values.count} models)" if values.count > 1 else "")


__all__ = ["ModelResponses", "Response", "Result", "Tap", "claims", "deviations", "measure", "over_training", "study", "taps"]
