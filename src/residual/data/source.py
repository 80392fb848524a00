"""Opens whatever a user calls data, and gives it a test set.

The surprising thing: data that comes without a test set loses 20 % of its training pictures here, by a fixed cut, so that there
is always a test set nothing was chosen on; the source's notes say so.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from residual.data.arrays import open_arrays, open_digits
from residual.data.catalog import CATALOG
from residual.data.folder import SPLIT_NAMES, open_folder
from residual.data.hub import open_catalog, open_hub
from residual.data.parquet import open_parquet, parquet_files
from residual.data.records import Source
from residual.data.split import TEST_SEED, TEST_SHARE, cut
from residual.spelling import nearest

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def open_source(data: "str | Path | tuple[Any, Any] | Source") -> Source:
    """The data set behind a name, a folder or a pair (images, labels); ValueError says in a sentence what is wrong with it.

    A name is, in this order: "digits", a name in the catalog, a folder that exists, a name on the hub (`owner/name`).
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (tuple, list)):
        if len(data) != 2:
            raise ValueError(f"Arrays are passed as a pair (images, labels), and not as {len(data)} things.")
        return _with_test(open_arrays(data[0], data[1]))
    if isinstance(data, Path):
        return _with_test(_open_path(data))
    if not isinstance(data, str):
        raise ValueError(f"Data is a name, a folder or a pair (images, labels), and not {type(data).__name__}.")
    if data == "digits":
        return _with_test(open_digits())
    if data in CATALOG:
        return _with_test(open_catalog(data))
    path = Path(data).expanduser()
    if not path.exists() and _HUB_NAME.fullmatch(data) and not path.parent.is_dir():
        return _with_test(open_hub(data))
    return _with_test(_open_path(path))


def _open_path(path: Path) -> Source:
    path = path.expanduser()
    if not path.exists():
        raise ValueError(f"There is no data set and no folder {str(path)!r}.{_guess(path)}")
    if not path.is_dir():
        raise ValueError(f"{path} is a file; pass the folder that holds one folder of pictures per class, or parquet files.")
    return open_parquet(path) if parquet_files(path) else open_folder(path)


def _guess(path: Path) -> str:
    try:
        beside = [str(path.parent / entry.name) for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        beside = []
    return nearest(str(path), [*beside, *CATALOG, "digits"])


def _with_test(source: Source) -> Source:
    """The source with a test split, cut from train by the fixed seed where it has none."""
    if "test" in source.splits:
        return replace(source, splits={split: source.splits[split] for split in SPLIT_NAMES if split in source.splits})
    records = source.splits["train"]
    counts = np.bincount(records.labels, minlength=len(source.classes))
    small = np.flatnonzero((counts < 3) & (counts > 0))
    if len(small):
        name, count = source.classes[small[0]], counts[small[0]]
        have = "1 picture" if count == 1 else f"{count} pictures"
        raise ValueError(f"Class {name} of {source.name} has only {have}; without a test set of its own every class needs at least 3.")
    stay, aside = cut(records.labels, share=TEST_SHARE, seed=TEST_SEED)
    what = f"{len(aside)} of {len(records)} pictures ({TEST_SHARE:.0%} of every class)"
    note = f"{source.name} has no test set: {what} were set aside as one."
    splits = {**source.splits, "train": records.subset(stay), "test": records.subset(aside)}
    fingerprint = {**source.fingerprint, "test_cut": {"share": TEST_SHARE, "seed": TEST_SEED}}
    return replace(source, splits=splits, fingerprint=fingerprint, notes=(*source.notes, note))
