"""A grid of losses in a few numbers: how wide its valley is, how steep, how far from convex.

The surprising thing: curvature and convexity are those within the plane, which bounds but does not equal those in all of weight space.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
THRESHOLDS = (0.1, 0.5, 1.0, 2.0)  # of loss above the lowest
RINGS = (0.25, 0.5, 1.0)  # of the radius
_BENT = 0.1  # a point is not convex where its Hessian's lowest eigenvalue is below minus this share of the largest in size


@dataclass(frozen=True, kw_only=True)
class Rise:
    """How much the loss has risen at a distance from the center: mean, lowest and highest over the grid points nearest to that circle."""

    distance: float
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a surface.

    Attributes:
        lowest: the smallest loss of the grid; `highest` the largest finite one.
        overflowed: points at which the loss is not finite.
        within: share of the grid whose loss is at most THRESHOLDS[i] above the lowest.
        rises: at RINGS times the radius; none where the center is not in the middle of the grid.
        curvature: second derivative along x and along y at the center, from its neighbours; none likewise.
        nonconvex: share of the inner points at which the 2 x 2 Hessian has a negative eigenvalue of at least a tenth of the other's size
            (Li et al. 2018, section 6, colour that ratio over the surface).
    """

    lowest: float
    highest: float
    overflowed: int
    within: tuple[float, ...]
    rises: tuple[Rise, ...]
    curvature: tuple[float, ...]
    nonconvex: float


def shape_of(loss: Array, alphas: Array, betas: Array) -> Shape:
    """The shape of `loss`, rows over betas and columns over alphas, both evenly spaced. ValueError where no loss is finite."""
    good = np.isfinite(loss)
    if not good.any():
        raise ValueError("No loss of the surface is finite: the radius is too large, or the weights are broken.")
    lowest = float(loss[good].min())
    full = np.where(good, loss, np.inf)
    middle = _middle(alphas, betas)
    return Shape(
        lowest=lowest,
        highest=float(loss[good].max()),
        overflowed=int((~good).sum()),
        within=tuple(float((full <= lowest + threshold).mean()) for threshold in THRESHOLDS),
        rises=_rises(full, alphas, betas, full[middle]) if middle else (),
        curvature=_curvature(full, alphas, betas, middle) if middle else (),
        nonconvex=_nonconvex(loss, alphas, betas),
    )


def _middle(alphas: Array, betas: Array) -> tuple[int, int] | None:
    """The place of the center, where it lies in the middle of the grid."""
    row, column = len(betas) // 2, len(alphas) // 2
    centred = len(alphas) % 2 and len(betas) % 2 and abs(alphas[column]) < 1e-9 * np.ptp(alphas) and abs(betas[row]) < 1e-9 * np.ptp(betas)
    return (row, column) if centred else None


def _rises(loss: Array, alphas: Array, betas: Array, center: float) -> tuple[Rise, ...]:
    distance = np.hypot(alphas[None, :], betas[:, None])
    radius, step = float(alphas[-1]), float(alphas[1] - alphas[0])
    found = []
    for share in RINGS:
        ring = loss[np.abs(distance - share * radius) <= step / 2 * (1 + 1e-9)] - center
        found.append(Rise(distance=share * radius, mean=float(ring.mean()), lowest=float(ring.min()), highest=float(ring.max())))
    return tuple(found)


def _curvature(loss: Array, alphas: Array, betas: Array, middle: tuple[int, int]) -> tuple[float, float]:
    row, column = middle
    a, b = float(alphas[1] - alphas[0]), float(betas[1] - betas[0])
    along_x = loss[row, column - 1] - 2 * loss[row, column] + loss[row, column + 1]
    along_y = loss[row - 1, column] - 2 * loss[row, column] + loss[row + 1, column]
    return float(along_x) / a**2, float(along_y) / b**2


def _nonconvex(loss: Array, alphas: Array, betas: Array) -> float:
    """Central differences at the inner points; those beside a loss that is not finite do not count."""
    a, b = float(alphas[1] - alphas[0]), float(betas[1] - betas[0])
    with np.errstate(invalid="ignore"):
        xx = (loss[1:-1, 2:] - 2 * loss[1:-1, 1:-1] + loss[1:-1, :-2]) / a**2
        yy = (loss[2:, 1:-1] - 2 * loss[1:-1, 1:-1] + loss[:-2, 1:-1]) / b**2
        xy = (loss[2:, 2:] - loss[2:, :-2] - loss[:-2, 2:] + loss[:-2, :-2]) / (4 * a * b)
        half, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        low, high = half - root, half + root
    known = np.isfinite(low) & np.isfinite(high)
    bent = low[known] < -_BENT * np.maximum(np.abs(low), np.abs(high))[known]
    return float(bent.mean()) if bent.size else 0.0
