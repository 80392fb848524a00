"""The errors of damaged networks are those that the NumPy reference gives, drawn as the seed says; the verdicts follow the numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import residual
from residual.layers import Network
from residual.plan import plan
from residual.reference import forward as reference
from residual.study.bench import Ask
from residual.study.claims import Spread
from residual.study.lesion import Measure, ModelLesions, Order, Removed, Several, claims, measured, orders, several, single, study, told
from residual.study.removal import remaining, removable, without
from residual.study.store import load
from residual.study.subjects import open_subject
from residual.variants import VARIANTS, architecture
from residual.weights import Weights
from tests.nets import images, random_weights, scaled_down

NETWORK = plan(scaled_down(architecture("cifar_resnet20")))
WEIGHTS = random_weights(NETWORK)
X = images(NETWORK, 8, 8, count=60)
Y = np.random.default_rng(0).integers(0, 7, 60)


def by_reference(network: Network, weights: Weights) -> float:
    return float((reference(network, weights, X)["logits"].argmax(1) != Y).mean())


def test_errors_are_the_reference_s() -> None:
    error = measured(X, Y)
    assert error(NETWORK, WEIGHTS) == by_reference(NETWORK, WEIGHTS)
    assert single(NETWORK, WEIGHTS, error) == single(NETWORK, WEIGHTS, by_reference)
    many = measured(np.concatenate([X] * 10), np.concatenate([Y] * 10))
    assert many(NETWORK, WEIGHTS) == pytest.approx(by_reference(NETWORK, WEIGHTS))


def test_one_block_less() -> None:
    found = single(NETWORK, WEIGHTS, by_reference)
    assert [row.name for row in found] == [block.name for block in NETWORK.blocks()]
    for row in found:
        cut = without(NETWORK, (row.name,))
        assert row.error == by_reference(cut, remaining(cut, WEIGHTS))
    assert len({row.error for row in found}) > 1


class Seen:
    """A measure that notes which blocks are missing; the error is their share."""

    def __init__(self) -> None:
        self.missing: list[frozenset[str]] = []

    def __call__(self, network: Network, weights: Weights) -> float:
        assert weights.keys() == remaining(network, WEIGHTS).keys()
        gone = frozenset(a.name for a, b in zip(NETWORK.blocks(), network.blocks(), strict=True) if a != b)
        self.missing.append(gone)
        return len(gone) / 10


def test_several_blocks_are_drawn_by_the_seed() -> None:
    total = len(list(NETWORK.blocks()))
    seen, again, other = Seen(), Seen(), Seen()
    found = several(NETWORK, WEIGHTS, seen, 3, draws=8, seed=1)
    several(NETWORK, WEIGHTS, again, 3, draws=8, seed=1)
    several(NETWORK, WEIGHTS, other, 3, draws=8, seed=2)
    assert seen.missing == again.missing != other.missing
    assert (found.removed, found.error.mean, found.error.std, found.error.count) == (3, pytest.approx(0.3), pytest.approx(0), 8)
    assert len(set(seen.missing)) > 4
    assert several(NETWORK, WEIGHTS, Seen(), total, draws=2).error.mean == pytest.approx(total / 10)


def test_orders_keep_every_block_and_say_how_far_they_moved() -> None:
    network = plan(replace(scaled_down(architecture("cifar_resnet20")), depths=(3, 3, 3)))
    weights = random_weights(network)
    seen: list[float] = []

    def error(same: Network, moved: Weights) -> float:
        assert same == network
        kept = sorted(value.tobytes() for value in moved.values())
        assert kept == sorted(value.tobytes() for value in weights.values())
        seen.append(float(any((moved[name] != value).any() for name, value in weights.items())))
        return seen[-1]

    found = orders(network, weights, error, draws=6, seed=3)
    assert [row.swaps for row in found] == [swaps for swaps in (1, 2, 4, 8) for _ in range(6)]
    assert all((row.tau == 1) == (row.error == 0) for row in found)
    assert all(row.tau < 1 for row in found if row.swaps == 1)
    assert found == orders(network, weights, error, draws=6, seed=3)
    assert len({row.tau for row in found}) > 2
    assert orders(plan(architecture("cifar_resnet8")), weights, error, draws=6) == ()


def test_what_can_be_removed_is_said() -> None:
    assert told(plan(VARIANTS["cifar_resnet20"])) == (
        "All 9 blocks can be removed; 2 of them have a projection or padding, which stays. "
        "7 blocks can change places with one that is alike."
    )
    assert told(plan(VARIANTS["cifar_plain20"])) == (
        "Without shortcuts only what keeps the shape can be removed: 7 of 9 blocks and 16 single layers. "
        "7 blocks can change places with one that is alike."
    )
    assert len(removable(plan(VARIANTS["cifar_plain20"]))) == 23


def _model(kind: str, whole: float, one: float, curve: tuple[float, ...] = (), orders: tuple[Order, ...] = ()) -> ModelLesions:
    spreads = [Spread(mean=value, std=0, low=value, high=value, count=1) for value in curve]
    return ModelLesions(
        label=kind, kind=kind, depth=20, trained=True, blocks=9, told="", whole=whole, orders=orders,  # type: ignore[arg-type]
        single=tuple(
            Removed(name=str(n), unit="block", keeps_shape=kept, error=one if kept else 1.0)
            for n, kept in enumerate((kind == "plain", True, True))
        ),
        several=tuple(Several(removed=n, error=value) for n, value in enumerate(spreads, 1)),
    )  # fmt: skip


def test_the_verdicts_follow_the_numbers() -> None:
    pair = [replace(open_subject(name), trained=True) for name in ("cifar_resnet20", "cifar_plain20")]
    rising = tuple(Order(swaps=1, tau=1 - n / 5, error=0.1 + n / 10) for n in range(5))
    good = [_model("residual", 0.1, 0.12, (0.2, 0.4, 0.6), rising), _model("plain", 0.1, 0.3)]
    assert [claim.verdict for claim in claims(pair, good)] == ["agrees"] * 3
    falling = tuple(replace(order, error=1 - order.error) for order in rising)
    bad = [_model("residual", 0.1, 0.9, (0.8, 0.81, 0.82), falling), _model("plain", 0.1, 0.2)]
    assert [claim.verdict for claim in claims(pair, bad)] == ["differs"] * 3
    assert [claim.verdict for claim in claims(pair[1:], good[1:])] == ["too few to tell"] * 3
    fresh = [replace(model, trained=False) for model in good]
    assert [claim.verdict for claim in claims(pair, fresh)] == ["too few to tell"] * 3


def test_a_study_is_kept_and_not_computed_twice(tmp_path: Path) -> None:
    residual.save(residual.create("cifar_plain14", seed=1), tmp_path / "plain.safetensors")
    ask = Ask(models=("cifar_resnet14", str(tmp_path / "plain.safetensors")), data="digits", count=20, out=tmp_path / "out", small=True)
    finding = study(ask)
    assert load(tmp_path / "out") == finding
    ours, plain = finding.result.models
    assert ([row.removed for row in ours.several], [row.removed for row in plain.several]) == ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4])
    assert all(row.error.count == 3 for row in ours.several)
    assert 0.5 < finding.result.chance < 0.95
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    next(iter(before)).unlink() if "settings" not in str(next(iter(before))) else None
    assert study(ask).result == finding.result
    with pytest.raises(ValueError, match="another models"):
        study(replace(ask, models=ask.models[:1]))


def test_a_measure_is_all_that_is_needed() -> None:
    error: Measure = by_reference
    assert several(NETWORK, WEIGHTS, error, 2, draws=2).error.count == 2
