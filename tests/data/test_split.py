"""Cuts: in proportion, never empty, the same everywhere."""

import numpy as np
import pytest

from residual.data import cut, digest


def test_recorded_cut() -> None:
    """Written down on 2026-11-21 by printing it; it must never change, or every run's validation set changes with it."""
    stay, aside = cut([0, 1] * 10, share=0.2, seed=7)
    assert aside.tolist() == [0, 7, 17, 18]
    assert sorted([*stay, *aside]) == list(range(20))


def test_every_class_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [1000, 100, 10])
    stay, aside = cut(labels, share=0.1, seed=0)
    assert np.bincount(labels[aside]).tolist() == [100, 10, 1]
    assert (np.diff(stay) > 0).all()
    assert (np.diff(aside) > 0).all()


def test_small_classes_keep_one_on_either_side() -> None:
    labels = np.asarray([0] * 50 + [1, 1] + [2])
    stay, aside = cut(labels, share=0.05, seed=3)
    assert set(labels[stay]) == {0, 1, 2}
    assert set(labels[aside]) == {0, 1}


def test_a_count_is_exact() -> None:
    labels = np.random.default_rng(0).integers(0, 7, 999)
    for count in (1, 3, 500, 992):
        stay, aside = cut(labels, seed=1, count=count)
        assert len(aside) == count
        assert set(labels[stay]) == set(range(7))


def test_seeds_differ_and_repeat() -> None:
    labels = np.zeros(1000, np.int64)
    first, again, other = (cut(labels, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(np.intersect1d(first, other)) < 30
    assert 400 < first.mean() < 600


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_shares_are_checked(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        cut([0, 0, 1, 1], share=share, seed=0)


def test_what_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="single picture"):
        cut([0, 1, 2], seed=0)
    with pytest.raises(ValueError, match="1 to 2 can"):
        cut([0, 0, 1, 1], seed=0, count=3)
    with pytest.raises(ValueError, match="whole-number"):
        cut([0.5, 1.0], seed=0)


def test_digest_tells_values_shapes_and_types_apart() -> None:
    base = np.arange(12, dtype=np.uint8)
    other: list[np.ndarray] = [base.reshape(3, 4), base.astype(np.int64), base[::-1], base[:6]]
    assert len({digest(base), *(digest(array) for array in other), digest(base, base)}) == 6
    assert digest(base.reshape(3, 4).T) == digest(np.ascontiguousarray(base.reshape(3, 4).T))
