"""Hashes that identify data in `run.json`.

The surprising thing: sets of files above 256 MiB are identified by names, sizes and the first and last MiB of each file (above
1000 files by names and sizes), not by every byte; the answer says which was done.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_WHOLE = 256 * 2**20
_END = 2**20


def digest(*arrays: npt.NDArray[Any]) -> str:
    """sha256 in hex over type, shape and values of the arrays, in order."""
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def files_digest(root: Path, files: Iterable[str]) -> dict[str, Any]:
    """Number, bytes and sha256 of the files (relative to `root`), and what of them was hashed."""
    names = sorted(files)
    sizes = [(root / name).stat().st_size for name in names]
    whole = sum(sizes) <= _WHOLE
    total = hashlib.sha256()
    for name, size in zip(names, sizes, strict=True):
        total.update(f"{Path(name).as_posix()}\0{size}\0".encode("utf-8", "surrogateescape"))
        if whole:
            total.update(_readable(root / name))
        elif len(names) <= 1000:
            total.update(_ends(root / name))
    how = "names, sizes, contents" if whole else "names, sizes, ends" if len(names) <= 1000 else "names, sizes"
    return {"files": len(names), "bytes": sum(sizes), "sha256": total.hexdigest(), "over": how}


def _readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # reported as an unreadable picture when it is decoded
        return b"unreadable"


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(_END)
        file.seek(max(path.stat().st_size - _END, 0))
        return head + file.read(_END)
