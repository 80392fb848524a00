"""Stratified cuts: which samples are set aside for validation or test.

The surprising thing: the shuffle is an integer hash of (seed, position) written out here, not a NumPy generator, so a cut is the
same on every machine and with every NumPy version.
"""

import numpy as np
import numpy.typing as npt

TEST_SEED = 20151210  # the day arXiv:1512.03385 appeared; fixed: a data set has one test cut, whatever the training seed is
TEST_SHARE = 0.2

Indices = npt.NDArray[np.int64]


def cut(labels: npt.ArrayLike, *, share: float = 0.1, seed: int, count: int | None = None) -> tuple[Indices, Indices]:
    """Sorted indices that stay and sorted indices that are set aside, every class in proportion.

    A class of two or more always keeps one sample on either side, unless `count` (the exact number to set aside, instead of
    `share`) is too small for that. A pure function of its arguments. ValueError where nothing can be set aside.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"A split is cut from whole-number labels, and not from {labels.dtype} of shape {labels.shape}.")
    if count is None and not 0 < share < 1:
        raise ValueError(f"The share to set aside lies between 0 and 1, and not at {share}.")
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = round(share * len(labels)) if count is None else count
    quota = _allot(sizes, wanted, generous=count is None)
    order = np.lexsort((_scatter(seed, len(labels)), inverse))
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - starts[inverse[order]]
    aside = rank < quota[inverse]
    return np.flatnonzero(~aside).astype(np.int64), np.flatnonzero(aside).astype(np.int64)


def _allot(sizes: Indices, wanted: int, *, generous: bool) -> Indices:
    """How many of each class to set aside: largest remainders, at least one of the class stays."""
    room: Indices = sizes - 1
    if room.sum() == 0:
        raise ValueError("Nothing can be set aside: every class has a single picture; add at least one more to each.")
    if not generous and not 1 <= wanted <= room.sum():
        raise ValueError(f"{wanted} pictures cannot be set aside: with one of each class kept, 1 to {room.sum()} can.")
    exact = wanted * sizes / sizes.sum()
    quota: Indices = np.minimum(np.floor(exact).astype(np.int64), room)
    if generous:
        quota = np.maximum(quota, np.minimum(room, 1))
        wanted = min(wanted, int(room.sum()))
    while quota.sum() < wanted:
        short = np.where(quota < room, exact - quota, -np.inf)
        quota[int(np.argmax(short))] += 1
    return quota


def _scatter(seed: int, length: int) -> npt.NDArray[np.uint64]:
    """A well mixed 64-bit number per position (splitmix64, Steele et al. 2014)."""
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        mixed = _mix(np.full(1, start, np.uint64))
        return _mix(mixed + np.arange(1, length + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
