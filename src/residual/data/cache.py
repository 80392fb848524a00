"""Decoded pictures kept on disk: the first epoch writes them; where they are not held in memory later ones read them, and so do later runs.

The surprising thing: nothing is locked and nothing is flushed. A picture counts as there only while its bytes have the checksum that was
written after them, so whatever a kill, a power cut, a bad disk or two programs at once leave behind is right or is decoded again.
"""

import hashlib
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
import PIL
from PIL import features

from residual.data.jpeg import decoder_version
from residual.data.memory import size_text
from residual.data.parquet import parquet_files
from residual.data.picture import Frame
from residual.data.records import ArrayStore, FileStore, Labels, Pixels, Source
from residual.data.resize import resizer_version

PLACE = "RESIDUAL_CACHE"  # the environment's variable: a folder, or "off"
_SHARE = 0.5  # of the disk space that would be free without any cache
_PICTURES, _SUMS = "pictures.bin", "sums.bin"
_MINUTE = 60.0
_CODE = ("picture.py", "jpeg.py", "resize.py")  # what pixels depend on


@final
class PictureCache:
    """The pictures of one split in one frame: `pictures.bin` holds each at its row's place, `sums.bin` its CRC-32, 0 where there is none.

    Threads may share it. `fault` says why no more pictures are written, and is empty as long as they are.
    """

    def __init__(self, folder: Path, rows: int, frame: Frame) -> None:
        self.folder, self.fault = folder, ""
        self._bytes = frame.size[0] * frame.size[1] * frame.channels
        for name, size in ((_PICTURES, self._bytes), (_SUMS, 4)):
            with (folder / name).open("ab") as file:
                if file.tell() < rows * size:
                    file.truncate(rows * size)  # takes no space before it is written
        os.utime(folder / _SUMS)  # the time of its last use
        self._sums = np.fromfile(folder / _SUMS, "<u4", rows)
        self._checked, self._made, self._used = np.zeros(rows, np.bool_), 0, time.monotonic()

    def known(self, rows: Labels) -> npt.NDArray[np.bool_]:
        """Which of the pictures were written, whether or not their bytes are still right."""
        known: npt.NDArray[np.bool_] = self._sums[rows] != 0
        return known

    def read(self, rows: Labels, images: Pixels) -> npt.NDArray[np.bool_]:
        """Which of the pictures were found; those are now in `images`, N H W C, whose other pictures may hold anything."""
        found = np.zeros(len(rows), np.bool_)
        wanted = np.flatnonzero(self.known(rows))
        if len(wanted):
            try:
                with (self.folder / _PICTURES).open("rb", buffering=0) as file:
                    self._look()
                    for place in wanted:
                        row, image = int(rows[place]), images[place]
                        file.seek(row * self._bytes)
                        found[place] = file.readinto(image.data) == self._bytes and self._is_right(row, image)
            except OSError:  # removed to make room for another, or a bad disk: what was not found is decoded
                pass
        return found

    def write(self, rows: Labels, images: Sequence[Pixels]) -> None:
        """Nothing; the pictures are there for the next `read`, unless the disk fails, which `fault` then tells."""
        if self.fault:
            return
        try:
            with (self.folder / _PICTURES).open("r+b", buffering=0) as pixels, (self.folder / _SUMS).open("r+b", buffering=0) as sums:
                for row, image in zip(rows.tolist(), images, strict=True):
                    pixels.seek(row * self._bytes)
                    if pixels.write(image.data) != self._bytes:
                        raise OSError("the disk is full")
                    total = _checksum(image)
                    sums.seek(row * 4)
                    sums.write(total.to_bytes(4, "little"))
                    self._sums[row], self._checked[row] = total, True
        except OSError as error:
            self.fault = f"Decoded pictures are no longer kept in {self.folder} ({_why(error)}); the others are decoded in every epoch."

    def _look(self) -> None:
        """Once a minute the cache is told to be in use; where another program removed it and made it anew, nothing counts as checked."""
        made = self.folder.stat().st_mtime_ns  # of its files, not of what is written into them
        if made != self._made:
            self._checked[:], self._made = False, made
        if time.monotonic() > self._used + _MINUTE:
            self._used = time.monotonic()
            os.utime(self.folder / _SUMS)

    def _is_right(self, row: int, image: Pixels) -> bool:
        """Whether the bytes have their checksum; looked at once in a process, for it takes three times as long as reading them."""
        if not self._checked[row]:
            self._checked[row] = _checksum(image) == self._sums[row]
        return bool(self._checked[row])


def open_cache(
    source: Source, split: str, frame: Frame, *, beside: PictureCache | None = None, making_room: bool = True
) -> tuple[PictureCache | None, str]:
    """The cache of a split's pictures in this frame, and half a sentence on where it is or why there is none.

    The least recently used caches are removed where room is needed (unless `making_room` is false), but not the one `beside` it.
    """
    records, kept_not = source.splits[split], "decoded ones are not kept on disk"
    if isinstance(records.store, ArrayStore):
        return None, "they need no decoding"
    if os.environ.get(PLACE) == "off":
        return None, f"{kept_not}: {PLACE} is off"
    rows = int(records.rows.max()) + 1
    needed = rows * frame.size[0] * frame.size[1] * frame.channels
    try:
        home = _home()
        home.mkdir(parents=True, exist_ok=True)
        folder = home / _name(source, split, frame)
        if beside and beside.folder == folder:
            return beside, ""
        limit = _room(home, folder, needed, beside, making=making_room)
        if needed > limit:
            told = (
                f"{size_text(needed)} are more than {_SHARE:.0%} of the free disk in {home}, of which {size_text(max(limit, 0))} are left"
            )
            return None, f"{kept_not}: {told}"
        folder.mkdir(exist_ok=True)
        cache = PictureCache(folder, rows, frame)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        return None, f"{kept_not}: {_why(error)}; name a folder that can be written in {PLACE}"
    return cache, f"decoded ones are kept in {folder}, at most {size_text(needed)} ({PLACE}=off keeps none)"


def _home() -> Path:
    told = os.environ.get(PLACE)
    if told:
        return Path(told).expanduser().absolute() / "pictures"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "residual" / "pictures"


def _name(source: Source, split: str, frame: Frame) -> str:
    """A hash of all that the pixels depend on: the files, the frame, and the code that decodes and resizes, the libraries' and ours."""
    store = source.splits[split].store
    files = [os.path.join(store.root, name) for name in store.files] if isinstance(store, FileStore) else []
    if source.kind == "parquet":
        files = list(map(str, parquet_files(Path(source.name))))
    total = hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in _CODE))
    versions = [PIL.__version__, *(features.version(part) or "" for part in ("jpg", "libjpeg_turbo", "zlib", "webp"))]
    versions += [decoder_version(), resizer_version()]
    where = str(Path(source.name).absolute())
    total.update(json.dumps([where, source.fingerprint, split, frame.size, frame.channels, frame.crop, versions], default=str).encode())
    for file in files:
        state = os.stat(file)
        total.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:32]


def _room(home: Path, folder: Path, needed: int, beside: PictureCache | None, *, making: bool) -> int:
    """Bytes that the cache `folder` may take; with `making` other caches are removed, oldest use first, as far as that makes it enough for
    `needed`."""
    sums = {entry: entry / _SUMS for entry in home.iterdir() if (entry / _SUMS).is_file()}
    limit = int(_SHARE * (shutil.disk_usage(home).free + sum(_on_disk(entry / _PICTURES) for entry in sums)))
    promised = {entry: (entry / _PICTURES).stat().st_size for entry in sums if entry != folder}
    staying = promised.pop(beside.folder, 0) if beside else 0
    if needed + staying > limit:
        return limit - staying
    for entry in sorted(promised, key=lambda entry: sums[entry].stat().st_mtime):
        if not making or needed + staying + sum(promised.values()) <= limit:
            break
        shutil.rmtree(entry)
        del promised[entry]
    return limit - staying - sum(promised.values())


def _on_disk(path: Path) -> int:
    """Bytes that a file takes: fewer than its size, where parts of it were never written."""
    state = path.stat()
    return state.st_size if sys.platform == "win32" else state.st_blocks * 512


def _checksum(image: Pixels) -> int:
    """The CRC-32 of the pixels, never 0."""
    return zlib.crc32(image.data) or 1


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    name = getattr(error, "filename", None)
    return f"{name}: {text}" if name else text
