"""The numbers of a surface and the verdict on them, for surfaces whose shape is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from residual.plan import plan
from residual.study.landscape_shape import shape_of
from residual.study.landscape_verdict import claims
from residual.study.subjects import Subject
from tests.nets import SMALL


def test_a_saddle_and_half_a_wave_are_not_convex() -> None:
    steps = np.linspace(-1, 1, 21)
    a, b = np.meshgrid(steps, steps)
    assert shape_of(a**2 - b**2, steps, steps).nonconvex == 1
    assert shape_of(a**2 + 3 * a * b + b**2, steps, steps).nonconvex == 1, "only the mixed derivative tells"
    assert shape_of(a**2 - 0.05 * b**2, steps, steps).nonconvex == 0, "less than a tenth of the other eigenvalue"
    assert shape_of(np.sin(2.99 * a) + 0 * b, steps, steps).nonconvex == pytest.approx(9 / 19), "the half where the sine is positive"


def test_a_loss_that_overflows_counts_as_high() -> None:
    steps = np.linspace(-1, 1, 5)
    a, b = np.meshgrid(steps, steps)
    loss = a**2 + b**2
    loss[0, :], loss[4, 2] = np.inf, np.nan
    shape = shape_of(loss, steps, steps)
    assert shape.overflowed == 6
    assert shape.highest == 2
    assert shape.within[-1] == pytest.approx(19 / 25)
    assert shape.rises[-1].highest == np.inf
    with pytest.raises(ValueError, match="No loss of the surface is finite"):
        shape_of(np.full((5, 5), np.nan), steps, steps)


def test_a_grid_without_its_center_has_no_curvature() -> None:
    steps, off = np.linspace(-1, 1, 5), np.linspace(-1, 2, 5)
    shape = shape_of(np.ones((5, 5)), off, steps)
    assert (shape.curvature, shape.rises) == ((), ())


def bowls(depth: float, count: int, **changes: Any) -> tuple[Subject, list[Any]]:
    """A subject and the shapes of `count` bowls about as steep as `depth`."""
    network, steps = plan(replace(SMALL, **changes)), np.linspace(-1, 1, 11)
    a, b = np.meshgrid(steps, steps)
    shapes = [shape_of((depth + 0.01 * n) * (a**2 + b**2), steps, steps) for n in range(count)]
    return Subject(label=f"net-{depth}", network=network, weights={}, trained=True), shapes


def test_the_verdict_follows_the_numbers() -> None:
    flat, steep = bowls(1.0, 3), bowls(5.0, 3, shortcut="none")
    found = claims([flat, steep])
    assert [claim.verdict for claim in found] == ["agrees", "agrees", "agrees", "within the spread"]
    assert "net-1.0 2.02 (2 to 2.04), net-5.0 10 (10 to 10)" in found[2].reason
    steep, flat = bowls(5.0, 3), bowls(1.0, 3, shortcut="none")
    assert [claim.verdict for claim in claims([flat, steep])] == ["differs", "differs", "differs", "within the spread"]


def test_few_directions_or_no_pair_tell_too_little() -> None:
    few = claims([bowls(1.0, 2), bowls(5.0, 3, shortcut="none")])
    assert {claim.verdict for claim in few} == {"too few to tell"}
    assert "--seeds 3" in few[0].reason
    for others in ([bowls(1.0, 3)], [bowls(1.0, 3), bowls(5.0, 3, shortcut="none", num_classes=6)]):
        assert all("no pair" in claim.reason and claim.verdict == "too few to tell" for claim in claims(others))
