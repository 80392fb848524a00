"""One split of a data set, not decoded: the labels are at hand, the pictures stay where they are until somebody asks for one.

The surprising thing: a split is a store (files, an Arrow table in memory or on disk, or an array) plus the rows that belong to it, so that
cutting a test set copies no picture and a row keeps its original name.
"""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt
from PIL import Image

from residual.data.picture import reason, strict_pillow

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}  # first bytes of a file -> Pillow's name


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A picture that was left out: its file or row, and why."""

    file: str
    reason: str


class Store(Protocol):
    """Where the pictures of a split lie."""

    def name(self, row: int) -> str:
        """The file, or split and row such as "train[17]"."""
        ...

    def open(self, row: int) -> Image.Image:
        """The picture, header read and pixels perhaps not yet; any exception of Pillow where it cannot be read."""
        ...

    def content(self, row: int) -> bytes:
        """The encoded bytes."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class FileStore:
    """Pictures that are files; `files` are relative to `root`."""

    root: str
    files: tuple[str, ...]

    def name(self, row: int) -> str:
        return str(Path(self.root) / self.files[row])

    def open(self, row: int) -> Image.Image:
        return _opened(self.content(row))

    def content(self, row: int) -> bytes:
        with open(os.path.join(self.root, self.files[row]), "rb", buffering=0) as file:  # half the time of Path.read_bytes
            return file.readall()


@final
class ArrowStore:
    """Pictures in a column of a table, in memory or mapped from disk; `column` holds structs of bytes and path, or plain bytes.

    Pickled, it is the paths of the table, not its bytes.
    """

    def __init__(self, table: Any, column: str, split: str) -> None:
        import pyarrow

        self._parts = (table, column, split)
        self._split = split
        self._cells = table.data.column(column)
        self._bytes = self._cells
        if pyarrow.types.is_struct(self._cells.type):
            self._bytes = self._cells.flatten()[self._cells.type.get_field_index("bytes")]  # pyarrow.compute takes 0.1 s to import

    def __reduce__(self) -> tuple[type["ArrowStore"], tuple[Any, str, str]]:
        return ArrowStore, self._parts

    def name(self, row: int) -> str:
        return f"{self._split}[{row}]"

    def open(self, row: int) -> Image.Image:
        return _opened(self.content(row))

    def content(self, row: int) -> bytes:
        content: bytes | None = self._bytes[row].as_py()
        if not content and self._bytes is not self._cells:
            path = self._cells[row].as_py() or {}
            content = Path(path["path"]).read_bytes() if path.get("path") else None
        return content or b""


@final
@dataclass(frozen=True, kw_only=True)
class ArrayStore:
    """Pictures that are decoded already: uint8, N H W C with 1 or 3 channels."""

    images: Pixels
    split: str

    def name(self, row: int) -> str:
        return f"{self.split}[{row}]"

    def open(self, row: int) -> Image.Image:
        image = self.images[row]
        return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))

    def content(self, row: int) -> bytes:
        content: bytes = self.images[row].tobytes()
        return content


@final
@dataclass(frozen=True, kw_only=True)
class Records:
    """One split.

    Attributes:
        store: where the pictures lie.
        rows: which of them belong to this split.
        labels: class index of each, aligned with `rows`.
    """

    store: Store
    rows: Labels
    labels: Labels

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        """The file or row of every picture."""
        return [self.store.name(int(row)) for row in self.rows]

    def name(self, index: int) -> str:
        """The file or row of one picture."""
        return self.store.name(int(self.rows[index]))

    def open(self, index: int) -> Image.Image:
        """The picture as the store gives it: call inside `strict_pillow`, and expect any exception of Pillow."""
        return self.store.open(int(self.rows[index]))

    def picture(self, index: int) -> Image.Image:
        """The picture, loaded; OSError or ValueError with a short reason where it cannot be read."""
        with strict_pillow():
            try:
                image = self.open(index)
                image.load()
            except OSError:
                raise
            except Exception as error:  # Pillow's readers raise a dozen kinds on broken files (SyntaxError, struct.error, ...)
                raise ValueError(reason(error)) from error
        return image

    def subset(self, indices: Labels) -> "Records":
        """The records at these positions, in this order."""
        return Records(store=self.store, rows=self.rows[indices], labels=self.labels[indices])


@final
@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that was opened.

    Attributes:
        name: as the user gave it.
        kind: digits, parquet, folder, hub or arrays.
        classes: their names; a label is an index into them.
        splits: always "train" and "test", and "validation" where the data came with one.
        fingerprint: what identifies the data, ready for JSON.
        notes: sentences the user should see, such as that a test set was cut from the training pictures.
        mean: published mean of the training pixels in 0..1, per channel, where the catalog has it.
        std: likewise.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    splits: dict[str, Records]
    fingerprint: dict[str, Any]
    notes: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = field(default=None)
    std: tuple[float, ...] | None = field(default=None)


def _opened(content: bytes) -> Image.Image:
    """The picture, its kind told to Pillow by its first bytes: asking every reader takes longer than decoding a small one."""
    kinds = [kind for start, kind in _STARTS.items() if content.startswith(start)]
    return Image.open(io.BytesIO(_filled(content)), formats=kinds or None)


def _filled(content: bytes) -> bytes:
    if not content:
        raise ValueError("empty file")
    return content
