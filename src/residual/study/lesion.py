"""What removing or reordering blocks does to a trained network, plain against residual. Veit et al. 2016, arXiv:1605.06431, section 4.

The surprising thing: nothing is trained again, and batch norm's running statistics stay those of the whole network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.backends import open_backend
from residual.layers import Network
from residual.study.bench import Ask, Bench, Images, Labels, open_bench
from residual.study.claims import Claim, Spread, Verdict, all_of, rank_correlation, spread
from residual.study.plain import from_plain
from residual.study.probes import built
from residual.study.removal import Part, Unit, interchangeable, kendall_tau, remaining, removable, reordered, without
from residual.study.store import Finding, Parts, save
from residual.study.subjects import Kind, Subject, is_twin
from residual.weights import Weights

Measure = Callable[[Network, Weights], float]  # error, from 0 to 1
_SOURCE = "Veit et al. 2016, arXiv:1605.06431, section "
_BATCH = 250
_MOST = 20  # blocks removed at most, as in the paper's figure 5


@dataclass(frozen=True, kw_only=True)
class Removed:
    """The error after one part was removed."""

    name: str
    unit: Unit
    keeps_shape: bool
    error: float


@dataclass(frozen=True, kw_only=True)
class Several:
    """The error after `removed` blocks, drawn at random, were removed: over all draws."""

    removed: int
    error: Spread


@dataclass(frozen=True, kw_only=True)
class Order:
    """The error after `swaps` pairs of like blocks changed places; `tau` is Kendall's, over all blocks of the network."""

    swaps: int
    tau: float
    error: float


@dataclass(frozen=True, kw_only=True)
class ModelLesions:
    """One model: its error `whole`, and damaged. `blocks` is how many it has, `told` says which of them could be removed or moved."""

    label: str
    kind: Kind
    depth: int
    trained: bool
    blocks: int
    told: str
    whole: float
    single: tuple[Removed, ...]
    several: tuple[Several, ...]
    orders: tuple[Order, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes: chance: the error of always naming the most frequent class of the pictures."""

    chance: float
    models: tuple[ModelLesions, ...]
    claims: tuple[Claim, ...]


def study(ask: Ask) -> Finding:
    """The lesions of all models on the same pictures, written to `ask.out`. ValueError where a model or the data does not fit."""
    ask = replace(ask, count=min(ask.count or 250, 250)) if ask.small else ask
    bench = open_bench(ask, "lesion")
    draws = 3 if ask.small else 10
    parts = bench.parts("lesion", {"draws": draws})
    found = [_model(bench, subject, parts, draws) for subject in bench.subjects]
    counts = np.bincount(bench.labels)
    result = Result(chance=1 - float(counts.max() / counts.sum()), models=tuple(found), claims=claims(bench.subjects, found))
    scaled = [f"{draws} random draws for each number of blocks."]
    if len(bench.labels) < bench.told["of"]:
        scaled.insert(0, f"{len(bench.labels)} of {bench.told['of']} pictures.")
    finding = bench.finding("lesion", {"draws": draws}, parts, result, tuple(scaled))
    if ask.out is not None:
        save(finding, ask.out)
    return finding


def measured(images: Images, labels: Labels) -> Measure:
    """The error of a network on prepared pictures (N C H W), by the PyTorch backend."""

    def error(network: Network, weights: Weights) -> float:
        model, wrong, backend = built(network, weights), 0, open_backend("torch")
        for start in range(0, len(images), _BATCH):
            logits = backend.forward(model, images[start : start + _BATCH])["logits"]
            wrong += int((logits.argmax(1) != labels[start : start + _BATCH]).sum())
        return wrong / len(labels)

    return error


def _model(bench: Bench, subject: Subject, parts: Parts, draws: int) -> ModelLesions:
    error = measured(bench.pictures(subject), bench.targets(subject))
    of = (subject.network, subject.weights, error)
    seed = bench.ask.seed

    def part(name: str, make: Callable[[], Any]) -> Any:
        return parts.get(f"{subject.label}: {name}", make)

    rows = [part(f"without {count}", partial(several, *of, count, draws=draws, seed=seed)) for count in _counts(subject.network)]
    return ModelLesions(
        label=subject.label, kind=subject.kind, depth=subject.depth, trained=subject.trained,
        blocks=len(list(subject.network.blocks())), told=told(subject.network),
        whole=part("whole", partial(error, subject.network, subject.weights)),
        single=from_plain(tuple[Removed, ...], part("single", partial(single, *of))),
        several=from_plain(tuple[Several, ...], rows),
        orders=from_plain(tuple[Order, ...], part("orders", partial(orders, *of, draws=draws, seed=seed))),
    )  # fmt: skip


def single(network: Network, weights: Weights, error: Measure) -> tuple[Removed, ...]:
    """The error after each part that can be removed was removed alone. Section 4.1, figure 3."""
    found = []
    for part in removable(network):
        cut = without(network, (part.name,))
        wrong = error(cut, remaining(cut, weights))
        found.append(Removed(name=part.name, unit=part.unit, keeps_shape=part.keeps_shape, error=wrong))
    return tuple(found)


def several(network: Network, weights: Weights, error: Measure, count: int, *, draws: int, seed: int = 0) -> Several:
    """The error after `count` random blocks were removed together, over `draws`. Section 4.2, figure 5a."""
    names = [part.name for part in _blocks(network)]
    stream = np.random.Generator(np.random.Philox(key=[seed, count]))
    values = []
    for _ in range(draws):
        cut = without(network, stream.permutation(names)[:count].tolist())
        values.append(error(cut, remaining(cut, weights)))
    return Several(removed=count, error=spread(values))


def orders(network: Network, weights: Weights, error: Measure, *, draws: int, seed: int = 0) -> tuple[Order, ...]:
    """The error after 1, 2, 4, ... random swaps of like blocks, `draws` orders of each. Section 4.3, figure 5b.

    None at all where no two blocks are alike.
    """
    names = [block.name for block in network.blocks()]
    pairs = [(a, b) for group in interchangeable(network) for a in group for b in group if a < b]
    found: list[Order] = []
    if not pairs:
        return ()
    stream = np.random.Generator(np.random.Philox(key=[seed, 2**32]))
    for swaps in _doubling(len(names)):
        for _ in range(draws):
            source = {name: name for name in names}
            for number in stream.integers(len(pairs), size=swaps):
                a, b = pairs[number]
                source[a], source[b] = source[b], source[a]
            tau = kendall_tau([names.index(source[name]) for name in names])
            found.append(Order(swaps=swaps, tau=tau, error=error(network, reordered(network, weights, source))))
    return tuple(found)


def told(network: Network) -> str:
    """What of a network can be removed and moved, in words."""
    total, parts = len(list(network.blocks())), removable(network)
    blocks, layers = _blocks(network), [part for part in parts if part.unit == "layer"]
    moved = sum(map(len, interchangeable(network)))
    moving = f"{moved} blocks can change places with one that is alike."
    if network.architecture.shortcut != "none":
        changing = total - sum(part.keeps_shape for part in blocks)
        return f"All {total} blocks can be removed; {changing} of them have a projection or padding, which stays. {moving}"
    single = f" and {len(layers)} single layers" if layers else ""
    return f"Without shortcuts only what keeps the shape can be removed: {len(blocks)} of {total} blocks{single}. {moving}"


def _blocks(network: Network) -> list[Part]:
    return [part for part in removable(network) if part.unit == "block"]


def _counts(network: Network) -> list[int]:
    """1, 2, ... blocks, up to all that can be removed or 20; in steps where there are many."""
    most = min(len(_blocks(network)), _MOST)
    return sorted({round(value) for value in np.linspace(1, most, min(most, 10))}) if most else []


def _doubling(most: int) -> list[int]:
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


def claims(subjects: Sequence[Subject], found: Sequence[ModelLesions]) -> tuple[Claim, ...]:
    """The three claims of section 4, from these models."""
    return (_one(subjects, found), _smooth(found), _moved(found))


def _one(subjects: Sequence[Subject], found: Sequence[ModelLesions]) -> Claim:
    """Mean rise of the error over the blocks that keep the shape, residual against its plain twin."""
    text, verdicts = [], list[Verdict]()
    rows = [(subject.network.architecture, model) for subject, model in zip(subjects, found, strict=True)]
    for arch, ours in rows:
        twin = next((model for other, model in rows if is_twin(arch, other)), None)
        if twin is None or not (ours.trained and twin.trained):
            continue
        rise, plain = _rises(ours), _rises(twin)
        if len(rise) and len(plain):
            verdicts.append("agrees" if rise.mean() < plain.mean() else "differs")
            text.append(
                f"{ours.depth} layers: residual +{rise.mean():.1%}, plain +{plain.mean():.1%}, over {len(rise)} and {len(plain)} blocks"
            )
    reason = f"Mean rise of the error: {'; '.join(text)}." if text else "No trained residual net and its trained plain twin are here."
    claim = "Removing one block hurts a plain net more than its residual twin"
    return Claim(claim=claim, source=f"{_SOURCE}4.1, figure 3", verdict=all_of(verdicts), reason=reason)


def _smooth(found: Sequence[ModelLesions]) -> Claim:
    text, verdicts = [], list[Verdict]()
    for model in found:
        if model.kind == "residual" and model.trained and len(model.several) > 2:
            means = [model.whole, *(row.error.mean for row in model.several)]
            step = max(b - a for a, b in pairwise(means)) / max(max(means) - means[0], 1e-9)
            rank = rank_correlation(range(len(means)), means)
            verdicts.append("agrees" if rank >= 0.9 and step <= 0.5 else "differs")
            text.append(
                f"{model.label}: {means[0]:.1%} whole, {means[-1]:.1%} without {model.several[-1].removed}, largest step {step:.0%}"
            )
    reason = f"{'; '.join(text)} of the whole rise." if text else "No trained residual net with more than two blocks is here."
    claim = "The error of a residual net rises smoothly with the number of blocks removed (no step is over half of the rise)"
    return Claim(claim=claim, source=f"{_SOURCE}4.2, figure 5a", verdict=all_of(verdicts), reason=reason)


def _moved(found: Sequence[ModelLesions]) -> Claim:
    text, verdicts = [], list[Verdict]()
    for model in found:
        if model.kind == "residual" and model.trained and len({order.tau for order in model.orders}) > 2:
            rank = rank_correlation([order.tau for order in model.orders], [order.error for order in model.orders])
            verdicts.append("agrees" if rank <= -0.5 else "differs")
            text.append(f"{model.label}: {rank:+.2f} over {len(model.orders)} orders")
    reason = (
        f"Rank correlation of Kendall's tau and the error: {'; '.join(text)}." if text else "No trained residual net has enough orders."
    )
    claim = "The error of a residual net rises with the disorder of its blocks"
    return Claim(claim=claim, source=f"{_SOURCE}4.3, figure 5b", verdict=all_of(verdicts), reason=reason)


def _rises(model: ModelLesions) -> npt.NDArray[np.float64]:
    return np.array([row.error - model.whole for row in model.single if row.unit == "block" and row.keeps_shape])


__all__ = ["Measure", "ModelLesions", "Order", "Removed", "Result", "Several", "claims", "measured", "orders", "several", "single", "study"]
