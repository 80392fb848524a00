"""Best losses with known answers; nested classes never get worse; a deeper residual net starts where the last one ended."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from residual.study.nesting import claims, features, least_squares, measured, spans, study
from residual.study.store import load
from residual.study.toy import Net, begun, deepening, deeper, loss_and_gradient, target, trained

X, Y = target()


def _stream(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_least_squares_has_known_answers() -> None:
    columns = features(X, 5, seed=(0, 0))
    assert least_squares(np.zeros((64, 0)), Y) == pytest.approx(Y.var())
    assert least_squares(columns, 3 + columns @ np.arange(5.0)) == pytest.approx(0, abs=1e-20)
    slope = (X * (Y - Y.mean())).sum() / (X * X).sum()
    assert least_squares(X[:, None], Y) == pytest.approx(((Y - Y.mean() - slope * X) ** 2).mean())


def test_features_are_nested_by_their_number() -> None:
    np.testing.assert_array_equal(features(X, 7, seed=(1, 0))[:, :3], features(X, 3, seed=(1, 0)))
    assert (features(X, 3, seed=(1, 1)) != features(X, 3, seed=(1, 0))).any()
    for column in features(X, 20, seed=(2, 0)).T:  # slopes of 0 and 1, and one step at most that holds the kink
        slopes = np.abs(np.diff(column)) / (X[1] - X[0])
        assert column.min() >= 0
        assert (np.minimum(slopes, np.abs(slopes - 1)) > 1e-9).sum() <= 1


def test_nested_spans_never_get_worse_and_others_do() -> None:
    for seed in range(5):
        assert all(after <= before + 1e-12 for before, after in pairwise(spans(X, Y, 12, kind="nested", seed=seed)))
    rows = [spans(X, Y, 12, kind="not nested", seed=seed) for seed in range(5)]
    assert any(after > before + 1e-3 for row in rows for before, after in pairwise(row))
    ends = {kind: np.median([spans(X, Y, 30, kind=kind, seed=s)[-1] for s in range(9)]) for kind in ("nested", "not nested")}
    assert max(ends.values()) < 5 * min(ends.values())  # one size is as good as the other: they differ in nesting only


@pytest.mark.parametrize("residual", [True, False])
def test_gradients_are_those_of_differences(residual: bool) -> None:
    stream = _stream()
    net = deeper(deeper(begun(residual=residual, stream=stream), stream), stream)
    net = Net(values=[value + 0.1 * stream.standard_normal(value.shape) for value in net.values], residual=residual)
    _, gradient = loss_and_gradient(net, X, Y)
    for number, value in enumerate(net.values):
        place = tuple(stream.integers(side) for side in value.shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = [v.copy() for v in net.values]
            moved[number][place] += step
            ends.append(loss_and_gradient(Net(values=moved, residual=residual), X, Y)[0])
        assert gradient[number][place] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_a_residual_net_grows_without_a_change_and_a_plain_one_does_not() -> None:
    for residual in (True, False):
        net, lowest = trained(deeper(begun(residual=residual, stream=_stream()), _stream(1)), X, Y, 30)
        grown, _ = loss_and_gradient(deeper(net, _stream(2)), X, Y)
        assert loss_and_gradient(net, X, Y)[0] == lowest
        assert (grown == lowest) is residual


def test_growing_nets_never_get_worse() -> None:
    found = deepening(X, Y, 3, residual=True, seed=1)
    assert found[0] >= found[1] >= found[2]
    assert found == deepening(X, Y, 3, residual=True, seed=1)
    assert found != deepening(X, Y, 3, residual=True, seed=2)


def test_the_share_of_worse_steps_and_the_verdicts() -> None:
    falling = measured([[3.0, 2.0, 1.0], [3.0, 2.0, 2.0]], label="a", kind="nested", told="", exact=True, unit="")
    rising = measured([[3.0, 2.0, 2.5], [3.0, 1.0, 0.5]], label="b", kind="not nested", told="", exact=True, unit="")
    assert (falling.worse, rising.worse, falling.loss[2].mean, falling.sizes) == (0, 0.25, 1.5, (1, 2, 3))
    assert [claim.verdict for claim in claims([falling, rising])] == ["agrees", "agrees"]
    swapped = [
        measured(rising.runs, label="a", kind="nested", told="", exact=True, unit=""),
        measured(falling.runs, label="b", kind="not nested", told="", exact=True, unit=""),
    ]
    assert [claim.verdict for claim in claims(swapped)] == ["differs", "differs"]
    one = [measured([[1.0]], label="a", kind=kind, told="", exact=True, unit="") for kind in ("nested", "not nested")]  # type: ignore[arg-type]
    assert [claim.verdict for claim in claims(one)] == ["too few to tell"] * 2


def test_the_study_is_kept(tmp_path: Path) -> None:
    finding = study(seeds=2, sizes=5, depths=2, out=tmp_path)
    assert load(tmp_path).result == finding.result
    assert study(seeds=2, sizes=5, depths=2, out=tmp_path).result == finding.result
    assert [(c.kind, c.exact, len(c.sizes), len(c.runs)) for c in finding.result.classes] == [
        ("nested", True, 5, 2), ("not nested", True, 5, 2), ("nested", False, 2, 2), ("not nested", False, 2, 2),
    ]  # fmt: skip
    assert [claim.verdict for claim in finding.result.claims][:1] == ["agrees"]
    with pytest.raises(ValueError, match="another depths"):
        study(seeds=2, sizes=5, depths=3, out=tmp_path)
    with pytest.raises(ValueError, match="seeds is 0"):
        study(seeds=0)
