"""The numbers that say how good a classifier is, each with the split and the count it was measured on.

The surprising thing: the share of right answers comes with its interval, since on 40 pictures 90 % and 80 % are the same result.
These few sums are our own, because importing scikit-learn takes two seconds at the end of every training; a test holds them against its.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.data import Problem

BINS = 15
_Z = 1.959963984540054  # two-sided 95 % of a normal distribution


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class fared.

    Attributes:
        support: pictures of this class.
        precision: share of those called this class that are; 0 where none was called so.
        recall: share of this class's pictures that were called so; 0 where there are none.
        auroc: of this class against the rest; None where all pictures are of it, or none is.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    auroc: float | None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The pictures whose first answer had a probability above `low` and at most `high`; the means are 0 where there are none."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model scored on one split.

    Attributes:
        count: pictures that were measured; unreadable ones are not among them.
        top1: share whose most probable class is right.
        interval: 95 % Wilson interval of `top1`.
        top5: share whose right class is among the five most probable; with five classes or fewer that is always 1.
        loss: mean of -log(probability of the right class).
        auroc: mean over the classes that have one; None where none has.
        calibration_error: expected calibration error over 15 bins of equal width. Guo et al. 2017, equation 3.
        confusion: pictures by true class (rows) and predicted class (columns).
        data: name of what was measured.
        unreadable: the pictures that were left out, and why.
        notes: sentences the reader should see.
    """

    split: str
    count: int
    top1: float
    interval: tuple[float, float]
    top5: float
    loss: float
    auroc: float | None
    calibration_error: float
    classes: tuple[ClassScore, ...]
    bins: tuple[Bin, ...]
    confusion: tuple[tuple[int, ...], ...]
    data: str = ""
    unreadable: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], *, split: str, classes: Sequence[str]) -> Evaluation:
    """The scores of `probabilities` (N x classes, rows that sum to 1) against `labels` (N indices of classes).

    Raises:
        ValueError: there is nothing to measure, or shapes and labels do not fit the classes.
    """
    values, truth = np.asarray(probabilities, np.float64), np.asarray(labels, np.int64)
    if len(truth) == 0:
        raise ValueError(f"There is no picture in the {split} split to measure on.")
    if values.shape != (len(truth), len(classes)):
        raise ValueError(f"{len(truth)} labels and {len(classes)} classes do not fit probabilities of shape {values.shape}.")
    if not np.isfinite(values).all() or truth.min() < 0 or truth.max() >= len(classes):
        raise ValueError(f"The probabilities hold NaN, or a label lies outside 0 to {len(classes) - 1}.")
    guess, place = values.argmax(1), _place(values, truth)
    confusion = np.bincount(truth * len(classes) + guess, minlength=len(classes) ** 2).reshape(len(classes), -1)
    scores = _by_class(values, truth, confusion, classes)
    areas = [score.auroc for score in scores if score.auroc is not None]
    bins = _bins(values.max(1), guess == truth)
    right = int((guess == truth).sum())
    return Evaluation(
        split=split, count=len(truth), top1=right / len(truth), interval=wilson(right, len(truth)),
        top5=float((place < 5).mean()), loss=_loss(values, truth),
        auroc=float(np.mean(areas)) if areas else None,
        calibration_error=sum(b.count / len(truth) * abs(b.accuracy - b.confidence) for b in bins),
        classes=scores, bins=bins, confusion=_rows(confusion),
    )  # fmt: skip


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share. Wilson 1927; it stays within 0 and 1 and is sound for few pictures too."""
    share, square = right / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * np.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low, high = max(float(middle - half), 0.0), min(float(middle + half), 1.0)
    return min(low, share), max(high, share)  # rounding must not put a share of 0 or 1 outside


def evaluation_from(values: Mapping[str, Any]) -> Evaluation:
    """The inverse of `as_dict`. ValueError where a field is missing or unknown."""
    try:
        return Evaluation(**{
            **values,
            "interval": tuple(values["interval"]),
            "classes": tuple(ClassScore(**row) for row in values["classes"]),
            "bins": tuple(Bin(**row) for row in values["bins"]),
            "confusion": tuple(tuple(row) for row in values["confusion"]),
            "unreadable": tuple(Problem(**row) for row in values["unreadable"]),
            "notes": tuple(values["notes"]),
        })  # fmt: skip
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is not an evaluation that residual wrote: {error}") from error


def _place(values: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many classes come before the right one; of equals the one with the lower index comes first, as in argmax."""
    own = values[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(values.shape[1])[None] < truth[:, None]
    before: npt.NDArray[np.int64] = ((values > own) | ((values == own) & earlier)).sum(1)
    return before


def _loss(values: npt.NDArray[np.float64], truth: npt.NDArray[np.int64]) -> float:
    """The mean cross-entropy; a share of 0 counts as the smallest step from 1."""
    return float(-np.log(np.maximum(values[np.arange(len(truth)), truth], np.finfo(np.float64).eps)).mean())


def _by_class(
    values: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], confusion: npt.NDArray[np.int64], classes: Sequence[str]
) -> tuple[ClassScore, ...]:
    scores = []
    for index, (name, right, support, guessed) in enumerate(
        zip(classes, confusion.diagonal(), confusion.sum(1), confusion.sum(0), strict=True)
    ):
        precision, recall, f1 = (float(right / whole) if whole else 0.0 for whole in (guessed, support, (guessed + support) / 2))
        area = _area(values[truth == index, index], values[truth != index, index])
        scores.append(ClassScore(name=str(name), support=int(support), precision=precision, recall=recall, f1=f1, auroc=area))
    return tuple(scores)


def _area(own: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> float | None:
    """The area under the ROC curve: how often a picture of the class has the higher share; equals count half. Hanley and McNeil 1982."""
    if not len(own) or not len(others):
        return None
    others = np.sort(others)
    below, not_above = np.searchsorted(others, own, "left"), np.searchsorted(others, own, "right")
    return float((below + not_above).mean() / (2 * len(others)))


def _bins(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Bins (low, high], as in Guo et al. 2017, section 2."""
    number = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for index in range(BINS):
        inside = number == index
        count = int(inside.sum())
        sure, share = (float(confidence[inside].mean()), float(right[inside].mean())) if count else (0.0, 0.0)
        bins.append(Bin(low=index / BINS, high=(index + 1) / BINS, count=count, confidence=sure, accuracy=share))
    return tuple(bins)


def _rows(matrix: npt.NDArray[np.integer]) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


__all__ = ["Bin", "ClassScore", "Evaluation", "evaluation_from", "measure", "wilson"]
