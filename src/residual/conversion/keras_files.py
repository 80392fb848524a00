"""The arrays in a Keras weight file: .weights.h5, .keras, and the older .h5; read with h5py alone, Keras is not asked.

HDF5 may claim a petabyte in a few bytes, or point at another file: only plain datasets are read whose bytes are really there.
"""

import importlib
import io
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from residual.weights import Weights

HDF5 = b"\x89HDF\r\n\x1a\n"
WEIGHTS, CONFIG, RECORD = "model.weights.h5", "config.json", "assets/residual.json"
MAX_JSON, MAX_OBJECTS, MAX_DEPTH, MAX_EXPANSION = 1 << 26, 100_000, 16, 4
MEBIBYTE = 1 << 20
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, EOFError, OverflowError, struct.error, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a file holds, before anything is made of it.

    Attributes:
        tensors: place in the file, such as "layers/conv2d_3/vars/0", -> float32 array.
        names: group, such as "layers/conv2d_3", -> the layer's own name, where the file tells it.
        config: the layer list of a .keras file.
        record: what this package wrote into a .keras file beside the weights.
    """

    tensors: Weights
    names: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    record: dict[str, Any] | None = None


def recognise(path: Path) -> bool:
    """Whether it is an HDF5 file, or a zip with Keras' weights in it."""
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5))
        if start == HDF5:
            return True
        if start[:2] != b"PK":
            return False
        with zipfile.ZipFile(path) as archive:
            return {WEIGHTS, CONFIG} <= set(archive.namelist())
    except Exception:  # whatever a damaged archive makes zipfile raise
        return False


def stored(path: Path) -> Stored:
    """The arrays of the file. ValueError says what is wrong with it, without naming it."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _of_archive(archive, path.stat().st_size)
        return _of_hdf5(path, path.stat().st_size)
    except _DAMAGE as error:
        raise ValueError(f"it is cut off or damaged ({' '.join(str(error).split())[:200]})") from error


def _of_archive(archive: zipfile.ZipFile, size: int) -> Stored:
    names = archive.namelist()
    if len(set(names)) != len(names):
        raise ValueError("its archive has several entries of one name")
    config = _json(archive, CONFIG)
    record = _json(archive, RECORD) if RECORD in names else None
    claimed = archive.getinfo(WEIGHTS).file_size
    if claimed > max(MAX_EXPANSION * size, MEBIBYTE):
        raise ValueError(f"{WEIGHTS} in it claims {claimed} bytes, and the whole file has {size}: that is no weight file")
    with archive.open(WEIGHTS) as member:
        found = _of_hdf5(io.BytesIO(member.read(claimed)), claimed)
    return Stored(tensors=found.tensors, names=found.names, config=config, record=record)


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    claimed = archive.getinfo(name).file_size
    if claimed > MAX_JSON:
        raise ValueError(f"{name} in it claims {claimed} bytes, more than {MAX_JSON // MEBIBYTE} MiB")
    with archive.open(name) as member:
        content = member.read(claimed)
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} in it is not JSON") from error
    if not isinstance(told, dict):
        raise ValueError(f"{name} in it is not a JSON object")
    return told


def _of_hdf5(source: Path | io.BytesIO, size: int) -> Stored:
    h5py = _h5py()
    with h5py.File(source, "r") as file:
        walk = _Walk(h5py, size)
        walk.group(file, "", 0)
    return Stored(tensors=walk.tensors, names=walk.names)


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise ValueError("reading it needs h5py: pip install 'residual[keras]'") from error


class _Walk:
    """Collects the floating point datasets of a file of `size` bytes; what Keras keeps for its optimizer is passed by."""

    def __init__(self, h5py: Any, size: int) -> None:
        self.h5py, self.left, self.seen = h5py, size, 0
        self.tensors: Weights = {}
        self.names: dict[str, str] = {}

    def group(self, group: Any, place: str, depth: int) -> None:
        keys = list(group)
        for inside in ("model_weights", "layers"):
            if depth == 0 and inside in keys:
                keys = [inside]
        for key in keys:
            self.seen += 1
            where = f"{place}/{key}".lstrip("/")
            if depth >= MAX_DEPTH or self.seen > MAX_OBJECTS:
                raise ValueError(f"its groups are nested too deep or are too many, at {where[:80]}")
            if not isinstance(group.get(key, getlink=True), self.h5py.HardLink):
                raise ValueError(f"{where} in it is a link to another place, which is not followed")
            found = group[key]
            if isinstance(found, self.h5py.Group):
                if key == "vars" and "name" in found.attrs:
                    self.names[place] = self._text(found)
                self.group(found, where, depth + 1)
            elif isinstance(found, self.h5py.Dataset):
                self.dataset(found, where)

    def dataset(self, found: Any, where: str) -> None:
        kind = found.dtype
        if kind.kind != "f" or kind.itemsize not in (2, 4, 8):
            if "/seed_generator/" in where:  # the state of a dropout layer
                return
            raise ValueError(f"{where} in it is of type {kind}, and only floating point is read")
        if found.external or found.is_virtual:
            raise ValueError(f"{where} in it lies in another file, which is not read")
        claimed, there = math.prod(found.shape or (0,)) * kind.itemsize, found.id.get_storage_size()
        if claimed > there or claimed > self.left:
            raise ValueError(f"{where} in it claims {claimed} bytes (shape {found.shape}), and {min(there, self.left)} are there")
        self.left -= claimed
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which the check of the weights names
            self.tensors[where] = np.asarray(found[()]).astype(np.float32)

    def _text(self, found: Any) -> str:
        attribute = found.attrs.get_id("name")
        if attribute.shape != () or attribute.dtype.kind not in "OSU":
            raise ValueError("the name of a layer in it is not text")
        value = found.attrs["name"]
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
