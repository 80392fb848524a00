"""A paper's numbers beside measured ones, and the verdict: pure functions of values, so that no training is needed to test them.

The surprising thing: most verdicts are "to tell": a number made with less than the paper's protocol, on other data or from under three
seeds neither agrees nor differs, however near it lies. Only a claim ("deeper is lower") keeps the study's verdict, with what was smaller
named beside it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from residual.study.claims import Claim, Spread, spread

Word = Literal["agrees", "differs", "cannot tell"]
Lack = Literal["too few seeds", "scaled down", "other data", "not finished", "not measured", "other machine", "too close"]
Rule = Literal["digits", "spread", "machine"]
Mode = Literal["small", "full", "runs"]
ENOUGH = 3  # seeds below which a number has no spread to speak of

RULES: dict[Rule, str] = {
    "digits": "A count agrees where, rounded to the digits that the paper prints, it is the printed number.",
    "spread": f"A measured number agrees where the published one lies within the mean over at least {ENOUGH} seeds, plus or minus "
    "Student's t (97.5 %) times the standard error and half a unit of the last printed digit, and nothing is scaled down.",
    "machine": "A speed is shown beside the published one; it is of another machine and neither agrees nor differs.",
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number of a paper.

    Attributes:
        what: names it among the measured values, e.g. "ResNet-20, test error".
        digits: printed after the point.
    """

    what: str
    value: float
    digits: int
    unit: str
    source: str
    rule: Rule = "spread"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A published number and what was measured.

    Attributes:
        values: one for each seed, or for each net that the number is printed for.
        margin: what the mean may be away from the published value; None where that does not decide.
        lacks: why there is no telling.
    """

    what: str
    unit: str
    source: str
    rule: Rule
    digits: int
    published: float
    values: tuple[float, ...]
    spread: Spread | None
    margin: float | None
    verdict: Word
    lacks: tuple[Lack, ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Errors (shares) of one training after each epoch; `validation` is empty where no pictures were held out."""

    net: str
    seed: int
    train: tuple[float, ...]
    validation: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A target of `residual reproduce`, reproduced or not.

    Attributes:
        mode: the protocol: "small", "full", or that of "runs" that were there already.
        rules: sentences; how the verdicts come about.
        lacks: why there is no telling, or in which respect a claim's verdict is of less than the paper's experiment.
        told: the verdict in words.
    """

    target: str
    title: str
    source: str
    mode: Mode
    rules: tuple[str, ...]
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
    verdict: Word
    lacks: tuple[Lack, ...]
    told: str


def judge(published: Published, values: Sequence[float], lacks: Iterable[Lack] = ()) -> Row:
    """The row of one published number; `lacks` are those of the values."""
    margin, found = None, tuple(map(float, values))
    missing = tuple(dict.fromkeys(lacks))
    word: Word = "cannot tell"
    if not found:
        missing = ("not measured",)
    elif published.rule == "digits":
        missing = ()
        word = "agrees" if all(_printed(value, published) == _printed(published.value, published) for value in found) else "differs"
    elif published.rule == "machine":
        missing = ("other machine", *missing)
    else:
        if len(found) < ENOUGH:
            missing = ("too few seeds", *(lack for lack in missing if lack != "too few seeds"))
        else:
            margin = student_t(len(found) - 1) * spread(found).std / math.sqrt(len(found)) + 0.5 * 10.0**-published.digits
        if margin is not None and not missing:
            word = "agrees" if abs(spread(found).mean - published.value) <= margin * (1 + 1e-9) else "differs"
    return Row(
        what=published.what, unit=published.unit, source=published.source, rule=published.rule, digits=published.digits,
        published=published.value, values=found, spread=spread(found) if found else None, margin=margin, verdict=word, lacks=missing,
    )  # fmt: skip


def judged(published: Sequence[Published], measured: Mapping[str, Sequence[float]], lacks: Mapping[str, Sequence[Lack]]) -> tuple[Row, ...]:
    """A row for each published number; `measured` and `lacks` have what it is named by."""
    return tuple(judge(p, measured.get(p.what, ()), lacks.get(p.what, ())) for p in published)


def overall(rows: Sequence[Row], claims: Sequence[Claim], everywhere: Sequence[Lack] = ()) -> tuple[Word, tuple[Lack, ...]]:
    """One verdict: it differs where anything differs, agrees where everything does; speeds do not count.

    `everywhere` stays beside the verdict of claims, which is the study's.
    """
    counted = [row for row in rows if row.rule != "machine"]
    words: list[Word] = [row.verdict for row in counted]
    lacks: list[Lack] = [lack for row in counted for lack in row.lacks]
    for claim in claims:
        word, lack = _CLAIMED[claim.verdict]
        words.append(word)
        lacks += [lack] if lack else []
    if claims:
        lacks += everywhere
    if not words:
        return "cannot tell", ("not measured",)
    told: Word = "differs" if "differs" in words else "cannot tell" if "cannot tell" in words else "agrees"
    return told, tuple(dict.fromkeys(lacks))


def in_words(word: Word, lacks: Sequence[Lack]) -> str:
    """ "agrees", "differs (scaled down)" or "too few seeds / scaled down to tell"."""
    if word == "cannot tell":
        return f"{' / '.join(lacks)} to tell"
    return f"{word} ({', '.join(lacks)})" if lacks else word


def student_t(freedom: int, share: float = 0.975) -> float:
    """The quantile of Student's t for whole degrees of freedom. Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, bisected."""
    if freedom < 1 or not 0.5 < share < 1:
        raise ValueError(f"Student's t has at least 1 degree of freedom and here a share between 0.5 and 1, not {freedom} and {share}.")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < 2 * share - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _inside(angle: float, freedom: int) -> float:
    """The probability that |t| is below sqrt(freedom) * tan(angle)."""
    square, term, total = math.cos(angle) ** 2, 1.0, 0.0
    if freedom % 2 == 0:
        for k in range(freedom // 2):
            total += term
            term *= square * (2 * k + 1) / (2 * k + 2)
        return math.sin(angle) * total
    for k in range((freedom - 1) // 2):
        total += term
        term *= square * (2 * k + 2) / (2 * k + 3)
    return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)


def _printed(value: float, published: Published) -> str:
    return f"{value:.{published.digits}f}"


_CLAIMED: dict[str, tuple[Word, Lack | None]] = {
    "agrees": ("agrees", None),
    "differs": ("differs", None),
    "within the spread": ("cannot tell", "too close"),
    "too few to tell": ("cannot tell", "too few seeds"),
}

__all__ = [
    "ENOUGH", "RULES", "Curve", "Lack", "Mode", "Published", "Result", "Row", "Rule", "Word", "in_words", "judge", "judged", "overall",
    "student_t",
]  # fmt: skip
