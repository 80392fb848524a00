"""Splits out of tables, local or from the hub: which column holds pictures, which labels, which split is which.

The surprising thing: pictures are never decoded by `datasets`; their encoded bytes are read from the table. A small table is read into
memory without that library, whose import takes a second and a half: `Table` and its features look like its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.data.folder import SPLIT_NAMES
from residual.data.records import ArrowStore, Records
from residual.spelling import nearest

_PICTURES = ("image", "img", "picture", "photo", "jpg", "png", "pixels")
_LABELS = ("label", "labels", "fine_label", "class", "target")


@dataclass(frozen=True, kw_only=True)
class Image:
    """A column of encoded pictures, as the file's metadata say."""


@dataclass(frozen=True, kw_only=True)
class ClassLabel:
    """A column of class indices and the classes' names, as the file's metadata say."""

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Value:
    """A column of which only Arrow's type is known."""

    dtype: str


class Table:
    """Parquet files of one schema, one under the other, in memory; with what is used of `datasets.Dataset`: `data`, a `pyarrow.Table`, and
    the features of its columns. Pickled, it is the paths of the files, not their bytes.

    Raises:
        pyarrow.ArrowException, OSError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[Path], features: Mapping[str, Any]) -> None:
        import pyarrow.parquet

        self._parts = tuple(paths), features
        files = map(pyarrow.parquet.ParquetFile, paths)  # and not read_table, which imports pandas too
        self.data, self.features = pyarrow.concat_tables([file.read() for file in files]), features

    def __reduce__(self) -> tuple[type["Table"], tuple[tuple[Path, ...], Mapping[str, Any]]]:
        return Table, self._parts


def features_of(schemas: Sequence[Any]) -> dict[str, Any] | None:
    """The features of files of these `pyarrow.Schema`s: those that `datasets` wrote into the first one's metadata, else what Arrow's types
    tell. None where they are not plain, and `datasets` itself must tell: schemas that differ, metadata that do not fit, encoded columns."""
    first, *others = schemas
    try:
        told = json.loads(dict(first.metadata or {}).get(b"huggingface", b'{"info": {"features": {}}}'))["info"]["features"]
        features = {field.name: _feature(field.type, told.get(field.name)) for field in first}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    plain = len(features) == len(first.names) and all(first.equals(other) for other in others)
    return features if plain and None not in features.values() else None


def _feature(kind: Any, told: Any) -> Any:
    match told:
        case {"_type": "Image"}:
            return Image() if str(kind) == "struct<bytes: binary, path: string>" else None
        case {"_type": "ClassLabel"}:
            return ClassLabel(names=tuple(map(str, told["names"]))) if str(kind) == "int64" else None
    if str(kind).startswith("dictionary"):
        return None
    if str(kind).startswith("struct"):
        return {field.name: Value(dtype=str(field.type)) for field in kind}
    return Value(dtype=str(kind))


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that matter; `classes` are the names the table's ClassLabel gives, or None."""

    image: str
    label: str
    classes: tuple[str, ...] | None


def split_of(name: str) -> str | None:
    """train, validation or test for a split's name as people write it; None for any other."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def find_columns(features: Mapping[str, Any], where: str, *, image: str | None = None, label: str | None = None) -> Columns:
    """The picture and label columns of a table; ValueError naming its columns where they cannot be told."""
    listed = ", ".join(features)
    for asked in (image, label):
        if asked is not None and asked not in features:
            raise ValueError(f"{where} has no column {asked!r}; its columns are {listed}.{nearest(asked, features)}")
    images = [image] if image else [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    images = images or [name for name in features if name.lower() in _PICTURES and _holds_bytes(features[name])]
    if len(images) != 1:
        found = "no column of pictures" if not images else f"several columns of pictures ({', '.join(images)})"
        raise ValueError(f"{where} has {found}; its columns are {listed}. One column of type Image is expected.")
    labels = [label] if label else [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if len(labels) != 1:
        named = [name for name in _LABELS if name in features and (not labels or name in labels)]
        labels = named[:1]
    if not labels or not _holds_label(features[labels[0]]):
        remedy = "Name it 'label', with whole numbers or strings."
        raise ValueError(f"{where} has no column of class labels; its columns are {listed}. {remedy}")
    names = features[labels[0]].names if type(features[labels[0]]).__name__ == "ClassLabel" else None
    return Columns(image=images[0], label=labels[0], classes=tuple(names) if names else None)


def table_splits(tables: Mapping[str, Any], columns: Columns, where: str) -> tuple[tuple[str, ...], dict[str, Records], tuple[str, ...]]:
    """Class names, the records of every split, and sentences on what was left out."""
    raw = {split: _values(table, columns.label) for split, table in tables.items()}
    notes = []
    for split in list(raw):
        blank = _blank(raw[split])
        if not len(blank):
            raise ValueError(f"The {split} split of {where} is empty.")
        if split != "train" and blank.all():
            notes.append(f"The {split} split of {where} carries no labels and is left out.")
            del raw[split]
        elif blank.any():
            raise ValueError(f"{int(blank.sum())} rows of the {split} split of {where} have no label; remove those rows.")
    classes, indices = _classes(raw, columns, where)
    splits = {
        split: Records(
            store=ArrowStore(tables[split], columns.image, split),
            rows=np.arange(len(labels), dtype=np.int64),
            labels=labels,
        )
        for split, labels in indices.items()
    }
    if len(classes) < 2:
        raise ValueError(f"{where} has only one class, {classes[0]}; a classifier needs at least two.")
    return classes, splits, tuple(notes)


def _classes(raw: Mapping[str, npt.NDArray[Any]], columns: Columns, where: str) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    if columns.classes is not None:
        highest = max(int(values.max()) for values in raw.values())
        if highest >= len(columns.classes):
            raise ValueError(f"{where} has the label {highest}, but names only {len(columns.classes)} classes.")
        return columns.classes, {split: values.astype(np.int64) for split, values in raw.items()}
    known = np.unique(raw["train"])
    for split, values in raw.items():
        strange = np.setdiff1d(values, known)
        if len(strange):
            raise ValueError(f"Class {strange[0]} is in the {split} split of {where} but not in train; both need the same ones.")
    indices = {split: np.searchsorted(known, values).astype(np.int64) for split, values in raw.items()}
    return tuple(str(value) for value in known), indices


def _values(table: Any, column: str) -> npt.NDArray[Any]:
    found = table.data.column(column)
    cells, kind = found.to_pylist(), str(found.type)  # its to_numpy imports pandas where it is installed, for 0.4 s
    if None in cells:
        return np.asarray([-1 if cell is None else cell for cell in cells], dtype=object)
    return np.asarray(cells, dtype=kind if kind.startswith(("int", "uint")) else None)


def _blank(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a row carries no label: null, or -1 as the hub writes it."""
    if values.dtype.kind in "US":
        return np.zeros(len(values), np.bool_)
    return np.asarray([not isinstance(v, str) and v < 0 for v in values]) if values.dtype == object else np.asarray(values < 0)


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return getattr(feature, "dtype", "") in ("binary", "large_binary")


def _holds_label(feature: Any) -> bool:
    kinds = ("int", "uint", "string", "large_string")
    return type(feature).__name__ == "ClassLabel" or str(getattr(feature, "dtype", "")).startswith(kinds)
