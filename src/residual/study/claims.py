"""What the papers claim, held against numbers: a claim agrees, differs, or there is too little to tell; nothing in between.

A difference counts only where it is larger than the spread of the repetitions, where there are any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["agrees", "differs", "within the spread", "too few to tell"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's claim and what the numbers say to it.

    Attributes:
        claim: a sentence.
        source: paper, section, figure.
        reason: the numbers, in words.
    """

    claim: str
    source: str
    verdict: Verdict
    reason: str

    def __str__(self) -> str:
        return f"{self.claim}: {self.verdict}. {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Repetitions of one number: their mean, standard deviation (0 for one), lowest, highest and count."""

    mean: float
    std: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float] | npt.NDArray[np.float64]) -> Spread:
    """The spread of at least one value; the deviation is that of a sample (n - 1)."""
    found = np.asarray(values, np.float64)
    if not len(found):
        raise ValueError("There is no value to take the spread of.")
    std = float(found.std(ddof=1)) if len(found) > 1 else 0.0
    return Spread(mean=float(found.mean()), std=std, low=float(found.min()), high=float(found.max()), count=len(found))


def compare(lower: Spread, higher: Spread) -> Verdict:
    """Whether `lower` lies below `higher`: "within the spread" where their ranges overlap."""
    if lower.high < higher.low:
        return "agrees"
    return "differs" if lower.low > higher.high else "within the spread"


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for a claim tested on several pairs: the worst of them; "too few to tell" where there is none."""
    if not verdicts or "too few to tell" in verdicts:
        return "too few to tell"
    if "differs" in verdicts:
        return "differs"
    return "within the spread" if "within the spread" in verdicts else "agrees"


def rank_correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Spearman's: the correlation of the ranks, ties sharing theirs; NaN where one side does not vary."""
    x, y = (_ranks(np.asarray(values, np.float64)) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale else float("nan")


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    below = (values[:, None] > values[None, :]).sum(1)
    equal = (values[:, None] == values[None, :]).sum(1)
    ranks: npt.NDArray[np.float64] = below + (equal - 1) / 2.0
    return ranks


__all__ = ["Claim", "Spread", "Verdict", "all_of", "compare", "rank_correlation", "spread"]
