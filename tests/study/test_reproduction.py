"""Verdicts on numbers made up so that the right one is known; Student's t against SciPy's."""

from pathlib import Path

import pytest

from residual.study.claims import Claim, Verdict
from residual.study.reproduction import Lack, Published, Rule, in_words, judge, judged, overall, student_t


def published(value: float, digits: int = 2, rule: Rule = "spread", what: str = "net, test error") -> Published:
    return Published(what=what, value=value, digits=digits, unit="%", source="paper", rule=rule)


def claim(verdict: Verdict) -> Claim:
    return Claim(claim="c", source="s", verdict=verdict, reason="r")


def test_student_t_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (*range(1, 12), 29, 30, 200):
        for share in (0.9, 0.975, 0.995):
            assert student_t(freedom, share) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-9)


@pytest.mark.parametrize(("freedom", "share"), [(0, 0.975), (2, 0.5), (2, 1.0)])
def test_student_t_refuses_what_it_is_not_for(freedom: int, share: float) -> None:
    with pytest.raises(ValueError, match="at least 1 degree"):
        student_t(freedom, share)


def test_the_margin_is_t_standard_errors_and_half_a_digit() -> None:
    """Values 8, 9, 10: standard error 1 / sqrt(3), t of two degrees 4.302653, half a unit 0.005."""
    row = judge(published(9.0), [8, 9, 10])
    assert row.margin == pytest.approx(4.30265273 / 3**0.5 + 0.005, rel=1e-7)
    assert row.spread is not None
    assert (row.spread.mean, row.spread.std, row.spread.count) == (9, 1, 3)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(9.0, "agrees"), (9 + 2.48, "agrees"), (9 + 2.50, "differs"), (9 - 2.48, "agrees"), (9 - 2.50, "differs")],
)
def test_a_number_agrees_within_the_margin(value: float, verdict: str) -> None:
    row = judge(published(value), [8, 9, 10])
    assert (row.verdict, row.lacks) == (verdict, ())


@pytest.mark.parametrize(("value", "verdict"), [(0.894, "agrees"), (0.896, "differs")])
def test_equal_seeds_leave_half_a_printed_digit(value: float, verdict: str) -> None:
    assert judge(published(value, digits=3), [0.8935 if value == 0.894 else 0.895] * 3).verdict == verdict


@pytest.mark.parametrize(
    ("values", "lacks", "told"),
    [
        ([9.0], (), "too few seeds to tell"),
        ([9.0, 9.0], (), "too few seeds to tell"),
        ([9.0, 9.0, 9.0], ("scaled down",), "scaled down to tell"),
        ([9.0, 9.0, 9.0], ("other data", "scaled down", "other data"), "other data / scaled down to tell"),
        ([9.0], ("scaled down", "not finished"), "too few seeds / scaled down / not finished to tell"),
        ([], ("scaled down",), "not measured to tell"),
    ],
)
def test_with_too_little_there_is_no_telling(values: list[float], lacks: tuple[Lack, ...], told: str) -> None:
    """Also where the numbers are equal, and where they are far apart."""
    for wanted in (9.0, 90.0):
        row = judge(published(wanted), values, lacks)
        assert row.verdict == "cannot tell"
        assert in_words(row.verdict, row.lacks) == told


@pytest.mark.parametrize(
    ("value", "digits", "measured", "verdict"),
    [
        (1.8, 1, [1.814], "agrees"),
        (3.6, 1, [3.664], "differs"),
        (3.8, 1, [3.858], "differs"),
        (11.3, 1, [11.282], "agrees"),
        (56, 0, [56.0, 56.0], "agrees"),
        (56, 0, [56.0, 28.0], "differs"),
        (25_557_032, 0, [25_557_033.0], "differs"),
    ],
)
def test_a_count_agrees_by_its_printed_digits(value: float, digits: int, measured: list[float], verdict: str) -> None:
    assert judge(published(value, digits, "digits"), measured).verdict == verdict


def test_a_speed_is_of_another_machine() -> None:
    row = judge(published(5032.7, 1, "machine"), [5032.7] * 3)
    assert (row.verdict, row.lacks) == ("cannot tell", ("other machine",))
    good = judge(published(9.0), [9.0] * 3)
    assert overall([good, row], ()) == ("agrees", ())


def test_lacks_reach_their_own_rows_only() -> None:
    rows = judged(
        [published(9.0, what="a"), published(9.0, what="b"), published(9.0, what="c")],
        {"a": [9.0] * 3, "b": [9.0] * 3},
        {"b": ["scaled down"]},
    )
    assert [row.verdict for row in rows] == ["agrees", "cannot tell", "cannot tell"]
    assert [row.lacks for row in rows] == [(), ("scaled down",), ("not measured",)]
    assert overall(rows, ()) == ("cannot tell", ("scaled down", "not measured"))


@pytest.mark.parametrize(
    ("verdicts", "everywhere", "told"),
    [
        (["agrees", "agrees"], (), "agrees"),
        (["agrees", "agrees"], ("scaled down",), "agrees (scaled down)"),
        (["agrees", "differs"], ("other data",), "differs (other data)"),
        (["agrees", "within the spread"], (), "too close to tell"),
        (["agrees", "too few to tell"], ("scaled down",), "too few seeds / scaled down to tell"),
        (["differs", "too few to tell"], (), "differs (too few seeds)"),
        ([], (), "not measured to tell"),
    ],
)
def test_claims_keep_the_verdict_of_their_study(verdicts: list[Verdict], everywhere: tuple[Lack, ...], told: str) -> None:
    assert in_words(*overall((), [claim(verdict) for verdict in verdicts], everywhere)) == told


def test_one_number_that_differs_is_enough() -> None:
    rows = [judge(published(9.0), [9.0] * 3), judge(published(20.0), [9.0] * 3)]
    assert overall(rows, ()) == ("differs", ())
    assert overall(rows[:1], [claim("differs")])[0] == "differs"


def test_a_reproduction_needs_no_framework() -> None:
    import subprocess
    import sys

    script = "import sys, residual.study.targets, residual.study.trainings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=Path(__file__).parents[2]).returncode == 0
