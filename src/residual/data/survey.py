"""Examines a folder of pictures or parquet files, as `residual doctor` shows it. Nothing in it is changed.

The surprising thing: a folder without a test set is examined with the 20 % test cut that training would make, so leaks into that
cut show.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from residual.data.chunks import Progress, each_chunk
from residual.data.decode import are_large
from residual.data.folder import Listing, folder_splits, scan_folder
from residual.data.health import Health, Twins
from residual.data.near import SIDE, groups_of, near_pairs, small_copy
from residual.data.parquet import parquet_files
from residual.data.picture import reason, shrink_on_load, strict_pillow, upright, upright_size
from residual.data.records import Problem, Records
from residual.data.source import open_source

_COPY = (2 * SIDE, 2 * SIDE)  # a JPEG is decoded no smaller than this for its small copy
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A folder as far as it could be opened."""

    kind: str
    fault: str
    classes: tuple[str, ...]
    splits: dict[str, Records]
    notes: tuple[str, ...] = ()
    listing: Listing | None = None


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One picture that was read."""

    name: str
    label: str
    split: str
    size: tuple[int, int]
    format: str
    mode: str
    content: bytes
    copy: npt.NDArray[np.uint8]


def examine(folder: str | Path, *, workers: int = 0, progress: Progress | None = None) -> Health:
    """The health of a folder of pictures or of parquet files, or, where no folder has this name, of the data set that has it; ValueError
    where there is neither."""
    root = Path(folder).expanduser()
    opened = _open(root) if root.is_dir() else _named(folder)
    found = list(_read(opened, workers, progress))
    read = [one for one in found if isinstance(one, _Seen)]
    twins = [_twins([read[place] for place in group]) for group in _groups(read)]
    return Health(
        folder=str(root),
        kind=opened.kind,
        fault=opened.fault,
        counts={split: _counts(records, opened.classes) for split, records in opened.splits.items()},
        unreadable=tuple(one for one in found if isinstance(one, Problem)),
        leaked=tuple(t for t in twins if "train" in t.splits and len(set(t.splits)) > 1),
        contradictions=tuple(t for t in twins if len(set(t.classes)) > 1),
        duplicates=tuple(t for t in twins if t.exact),
        near=tuple(t for t in twins if not t.exact),
        sizes=_sizes(read),
        formats=dict(Counter(one.format for one in read).most_common()),
        modes=dict(Counter(one.mode for one in read).most_common()),
        stray=opened.listing.stray if opened.listing else (),
        ignored=opened.listing.ignored if opened.listing else {},
        notes=opened.notes,
    )


def _open(root: Path) -> _Opened:
    """The folder opened as training would, or as far as that goes, with the sentence that says why not."""
    listing: Listing | None = None
    try:
        if not parquet_files(root):
            listing = scan_folder(root)
        source = open_source(root)
    except ValueError as error:
        if listing is None:
            return _Opened(kind="parquet", fault=str(error), classes=(), splits={})
        classes = tuple(sorted({name for groups in listing.splits.values() for name in groups}))
        return _Opened(kind="folder", fault=str(error), classes=classes, splits=folder_splits(listing, classes), listing=listing)
    return _Opened(kind=source.kind, fault="", classes=source.classes, splits=source.splits, notes=source.notes, listing=listing)


def _named(name: str | Path) -> _Opened:
    source = open_source(name)  # raises the sentence for a missing folder or a file
    return _Opened(kind=source.kind, fault="", classes=source.classes, splits=source.splits, notes=source.notes)


def _read(opened: _Opened, workers: int, progress: Progress | None) -> Iterator[_Seen | Problem]:
    """Every picture of every split, decoded once; progress counts over all splits."""
    total, before = sum(map(len, opened.splits.values())), 0
    for split, records in opened.splits.items():

        def work(chunk: range, split: str = split, records: Records = records) -> list[_Seen | Problem]:
            return [_one(records, index, split, opened.classes) for index in chunk]

        def report(done: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, total)

        threads = workers if len(records) and are_large(records) else 0
        with strict_pillow():
            for found in each_chunk(work, len(records), _CHUNK, workers=threads, progress=report):
                yield from found
        before += len(records)


def _one(records: Records, index: int, split: str, classes: tuple[str, ...]) -> _Seen | Problem:
    try:
        image = records.open(index)
        size, kind, mode = upright_size(image), image.format or "array", image.mode
        shrink_on_load(image, _COPY)
        copy = small_copy(upright(image))
        content = hashlib.blake2b(records.store.content(int(records.rows[index])), digest_size=16).digest()
    except Exception as error:  # Pillow's readers raise a dozen kinds on broken files
        return Problem(file=records.name(index), reason=reason(error))
    label = classes[int(records.labels[index])]
    return _Seen(name=records.name(index), label=label, split=split, size=size, format=kind, mode=mode, content=content, copy=copy)


def _groups(read: list[_Seen]) -> list[list[int]]:
    """Positions of pictures that are the same: byte for byte, and those groups that look alike without being so."""
    if len(read) < 2:
        return []
    same: dict[bytes, list[int]] = {}
    for place, one in enumerate(read):
        same.setdefault(one.content, []).append(place)
    exact = [places for places in same.values() if len(places) > 1]
    firsts = [places[0] for places in same.values()]
    alike = groups_of(near_pairs(np.stack([read[place].copy for place in firsts])), len(firsts))
    near = [sorted(place for i in group for place in same[read[firsts[i]].content]) for group in alike]
    return exact + near


def _twins(group: list[_Seen]) -> Twins:
    return Twins(
        pictures=tuple(one.name for one in group),
        classes=tuple(one.label for one in group),
        splits=tuple(one.split for one in group),
        exact=len({one.content for one in group}) == 1,
    )


def _counts(records: Records, classes: tuple[str, ...]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(records.labels, minlength=len(classes)).tolist(), strict=True))


def _sizes(read: list[_Seen]) -> dict[str, tuple[int, int]]:
    if not read:
        return {}
    sizes = np.asarray([one.size for one in read])
    found = {"smallest": sizes.min(axis=0), "median": np.median(sizes, axis=0), "largest": sizes.max(axis=0)}
    return {key: (int(height), int(width)) for key, (height, width) in found.items()}
