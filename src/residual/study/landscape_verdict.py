"""What surfaces with and without shortcuts say to the claims of Li et al. 2018, section 5.

The surprising thing: one pair of directions proves nothing, however clear its picture: below three pairs the verdict is "too few to tell".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from residual.study.claims import Claim, Spread, Verdict, all_of, compare, spread
from residual.study.landscape_shape import RINGS, THRESHOLDS, Shape
from residual.study.subjects import Subject, without_shortcuts

ENOUGH = 3  # pairs of directions
_SOURCE = "Li et al. 2018, arXiv:1712.09913, section 5: seen at 56 and 110 layers; the plain net of 20 layers is benign there too"
_WITHIN, _HALFWAY = THRESHOLDS.index(1.0), RINGS.index(0.5)
Shapes = Sequence[tuple[Subject, Sequence[Shape]]]


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A claim that one number is smaller (or larger) with shortcuts."""

    claim: str
    what: str
    value: Callable[[Shape], float]
    smaller: bool
    share: bool


_QUESTIONS = (
    _Question(
        claim="With shortcuts the low region is wider", what="share of the plane within 1.0 of the lowest loss",
        value=lambda shape: shape.within[_WITHIN], smaller=False, share=True,
    ),
    _Question(
        claim="With shortcuts the loss rises less away from the weights", what="mean rise of the loss at half the radius",
        value=lambda shape: shape.rises[_HALFWAY].mean, smaller=True, share=False,
    ),
    _Question(
        claim="With shortcuts the loss is flatter at the weights", what="mean curvature along the directions",
        value=lambda shape: sum(shape.curvature) / 2, smaller=True, share=False,
    ),
    _Question(
        claim="With shortcuts less of the surface is not convex", what="share of the plane that is not convex",
        value=lambda shape: shape.nonconvex, smaller=True, share=True,
    ),
)  # fmt: skip


def claims(found: Shapes) -> tuple[Claim, ...]:
    """The paper's claims, each held against every pair of networks that only shortcuts tell apart; `found` has a shape for each seed."""
    pairs = [
        (residual, plain)
        for residual in found
        for plain in found
        if residual[0].kind == "residual" and without_shortcuts(residual[0].network.architecture) == plain[0].network.architecture
    ]
    pairs = [pair for pair in pairs if pair[0][1] and pair[1][1]]
    return tuple(_claim(question, pairs) for question in _QUESTIONS)


def _claim(question: _Question, pairs: Sequence[tuple[tuple[Subject, Sequence[Shape]], tuple[Subject, Sequence[Shape]]]]) -> Claim:
    verdicts, reasons = list[Verdict](), list[str]()
    for (residual, with_shortcuts), (plain, without) in pairs:
        ours, theirs = (spread([question.value(shape) for shape in shapes]) for shapes in (with_shortcuts, without))
        lower, higher = (ours, theirs) if question.smaller else (theirs, ours)
        verdicts.append(compare(lower, higher) if min(ours.count, theirs.count) >= ENOUGH else "too few to tell")
        reasons.append(f"{residual.label} {_told(ours, question)}, {plain.label} {_told(theirs, question)}")
    if not pairs:
        reason = "There is no pair of networks that differ in their shortcuts only."
    else:
        reason = f"{question.what[0].upper()}{question.what[1:]}: {'; '.join(reasons)}."
        few = min(len(shapes) for pair in pairs for _, shapes in pair)
        reason += f" At least {ENOUGH} pairs of directions are needed (--seeds {ENOUGH})." if few < ENOUGH else ""
    return Claim(claim=question.claim, source=_SOURCE, verdict=all_of(verdicts), reason=reason)


def _told(values: Spread, question: _Question) -> str:
    def number(value: float) -> str:
        return f"{value:.1%}" if question.share else f"{value:.3g}"

    return number(values.mean) if values.count == 1 else f"{number(values.mean)} ({number(values.low)} to {number(values.high)})"
