"""Verdicts from numbers, and SciPy as the oracle of the rank correlation."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from residual.study.claims import all_of, compare, rank_correlation, spread


def test_a_spread_is_that_of_a_sample() -> None:
    found = spread([1.0, 2.0, 6.0])
    assert (found.mean, found.low, found.high, found.count) == (3.0, 1.0, 6.0, 3)
    assert found.std == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert spread([4.0]).std == 0
    with pytest.raises(ValueError, match="no value"):
        spread([])


def test_a_difference_within_the_spread_is_none() -> None:
    low, high, wide = spread([1.0, 2.0]), spread([3.0, 4.0]), spread([1.5, 3.5])
    assert compare(low, high) == "agrees"
    assert compare(high, low) == "differs"
    assert compare(low, wide) == compare(wide, low) == compare(wide, high) == "within the spread"


def test_the_worst_pair_decides() -> None:
    assert all_of([]) == "too few to tell"
    assert all_of(["agrees", "agrees"]) == "agrees"
    assert all_of(["agrees", "within the spread"]) == "within the spread"
    assert all_of(["within the spread", "differs", "agrees"]) == "differs"


def test_rank_correlation_is_spearman_s() -> None:
    stream = np.random.default_rng(0)
    for _ in range(5):
        a, b = stream.integers(0, 6, 20), stream.integers(0, 6, 20)
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(rank_correlation([1, 2], [3, 3]))
