"""Which pictures look the same: a 64-bit perceptual hash finds candidates, small grey copies confirm them.

The surprising thing: never all pairs. Two hashes that differ in at most 6 of 64 bits agree entirely in one of 7 bands, so only
pictures that share a band are compared.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from residual.data.picture import eight_bit

DISTANCE = 6  # bits of 64 in which the hashes of near duplicates differ at most
DIFFERENCE = 8.0  # grey levels of 255 by which their small copies differ at most, root mean square
SIDE = 32  # pixels of a small copy's side

Pairs = npt.NDArray[np.int64]
_FLAT = 2.0  # grey levels: a picture with less contrast has no shape a hash could tell
_BLOCK = 2_000_000  # comparisons made at once


def small_copy(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The picture as SIDE x SIDE grey pixels, its proportions not kept."""
    return np.asarray(eight_bit(image, 1).resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def perceptual_hashes(copies: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """64 bits of each copy: which of its lowest 8 x 8 cosine coefficients lie above their median (pHash, Zauner 2010, 3.2.1)."""
    steps = np.arange(SIDE)
    basis = np.cos(np.pi / SIDE * np.outer(np.arange(1, 9), steps + 0.5)).astype(np.float32)
    bits = np.empty((len(copies), 64), np.bool_)
    for start in range(0, len(copies), 4096):
        block = copies[start : start + 4096].astype(np.float32)
        low = (basis @ block @ basis.T).reshape(len(block), 64)
        bits[start : start + 4096] = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1)


def near_pairs(copies: npt.NDArray[np.uint8]) -> Pairs:
    """The pairs (i, j), i < j, of copies that look the same; those without contrast match nothing."""
    return pairs_within(perceptual_hashes(copies), copies)


def pairs_within(hashes: npt.NDArray[np.uint64], copies: npt.NDArray[np.uint8]) -> Pairs:
    """The pairs whose hashes are within DISTANCE and whose copies are within DIFFERENCE."""
    shaped = np.flatnonzero(copies.reshape(len(copies), -1).std(axis=1) >= _FLAT)
    found = [np.empty((0, 2), np.int64)]
    bands = np.linspace(0, 64, DISTANCE + 2).astype(int)
    for low, high in pairwise(bands):
        keys = (hashes[shaped] >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        found += [pairs for block in _candidates(keys) if len(pairs := _close(shaped[block], hashes, copies))]
    return np.asarray(np.unique(np.concatenate(found), axis=0))


def groups_of(pairs: Pairs, count: int) -> list[list[int]]:
    """Positions joined by pairs, directly or through others: every group sorted, groups by their first."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for first, second in pairs.tolist():
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for place in sorted({int(place) for place in pairs.reshape(-1)}):
        groups.setdefault(root(place), []).append(place)
    return list(groups.values())


def _candidates(keys: npt.NDArray[np.uint64]) -> Any:
    """Blocks of position pairs with equal keys, each block M x 2 and of bounded length."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    starts = np.concatenate([[0], ends])
    sizes = np.diff(np.concatenate([starts, [len(keys)]]))
    stops = np.repeat(starts + sizes, sizes)
    partners = stops - np.arange(len(keys)) - 1
    total = np.cumsum(partners)
    begin = 0
    while begin < len(keys):
        base = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, base + _BLOCK, side="right")), begin + 1)
        counts = partners[begin:end]
        left = np.repeat(np.arange(begin, end), counts)
        right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.stack([order[left], order[right]], axis=1)
        begin = end


def _close(pairs: Pairs, hashes: npt.NDArray[np.uint64], copies: npt.NDArray[np.uint8]) -> Pairs:
    """Those pairs whose hashes and small copies are within the stated bounds."""
    pairs = pairs[_bits(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= DISTANCE]
    kept = [pairs[:0]]
    for start in range(0, len(pairs), 4096):
        block = pairs[start : start + 4096]
        gap = copies[block[:, 0]].astype(np.float32) - copies[block[:, 1]]
        kept.append(block[np.sqrt(np.square(gap).mean(axis=(1, 2))) <= DIFFERENCE])
    return np.sort(np.concatenate(kept), axis=1)


def _bits(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """How many bits of each word are set (Hacker's Delight, figure 5-2); NumPy has this only from version 2 on."""
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> np.uint64(2)) & np.uint64(0x3333333333333333))
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
