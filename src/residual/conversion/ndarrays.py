"""MXNet's list of named arrays (`nd.save`, `save_parameters`: .params files), read and written with NumPy alone.

Nothing in the file is believed: every size it claims is held against the bytes that are left before anything is allocated.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from residual.weights import Weights, write_whole

LIST = struct.pack("<QQ", 0x112, 0)
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
FLOATS = {0: ("<f4", 4), 1: ("<f8", 8), 2: ("<f2", 2)}
OTHERS = {3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool", 12: "bfloat16"}
STORAGE = {1: "row-sparse", 2: "csr"}
MAX_DIMENSIONS = 32
MAX_NAME = 1024


def recognise(path: Path) -> bool:
    """Whether the file begins as MXNet's lists of arrays do."""
    try:
        with path.open("rb") as file:
            return file.read(len(LIST)) == LIST
    except OSError:
        return False


def read(path: Path) -> Weights:
    """Name -> float32 array, in the file's order; half and double precision are cast.

    ValueError names the file: it is cut off, claims more than it holds, has no names, or an array is sparse or not of floating point.
    Source: MXNet 1.9.1, src/ndarray/ndarray.cc, NDArray::Save and NDArray::Load (versions 0 to 3).
    """
    try:
        with path.open("rb") as file:
            return _read_list(_Bytes(file, path.stat().st_size))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a file of MXNet arrays that can be read: {str(error).rstrip('.')}.") from error


def write(path: Path, tensors: Weights) -> None:
    """Writes `tensors` as `mxnet.nd.save` would, byte for byte; a file that is there is replaced at once."""
    parts = [LIST, struct.pack("<Q", len(tensors))]
    for name, value in tensors.items():
        if value.ndim == 0:
            raise ValueError(f"{path} cannot hold the tensor {name!r}: MXNet's list has no arrays without a dimension.")
        parts += [struct.pack(f"<Iii{value.ndim}qiii", V2, 0, value.ndim, *value.shape, 1, 0, 0)]
        parts += [np.ascontiguousarray(value, "<f4").tobytes()]
    parts += [struct.pack("<Q", len(tensors))]
    for name in tensors:
        encoded = name.encode()
        parts += [struct.pack("<Q", len(encoded)), encoded]
    write_whole(path, b"".join(parts))


class _Bytes:
    """A file that gives out no more than it has left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def take(self, count: int, what: str) -> bytes:
        if count > self.left:
            raise ValueError(f"{what} needs {count} bytes, but {self.left} are left: it is cut off or damaged")
        self.left -= count
        return self.file.read(count)

    def integers(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}"), what))

    def count(self, what: str, smallest: int) -> int:
        """How many things follow that take at least `smallest` bytes each."""
        number = self.integers("Q", what)[0]
        if number * smallest > self.left:
            raise ValueError(f"{what} is {number}, more than its {self.left} remaining bytes can hold: it is cut off or damaged")
        return number


def _read_list(data: _Bytes) -> Weights:
    if data.take(len(LIST), "its head") != LIST:
        raise ValueError("it does not begin as one")
    arrays = [_read_array(data, f"array {number}") for number in range(data.count("the number of arrays", 8))]
    names: list[str] = []
    for _ in range(data.count("the number of names", 8)):
        (length,) = data.integers("Q", "a name's length")
        if length > MAX_NAME:
            raise ValueError(f"a name in it claims {length} characters")
        try:
            names.append(data.take(length, "a name").decode())
        except UnicodeDecodeError as error:
            raise ValueError("a name in it is not text") from error
    if data.left:
        raise ValueError(f"{data.left} bytes follow its end")
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise ValueError(f"it has {len(arrays)} arrays and {len(set(names))} different names")
    return dict(zip(names, arrays, strict=True))


def _read_array(data: _Bytes, what: str) -> npt.NDArray[np.float32]:
    (magic,) = data.integers("I", what)
    if magic in (V2, V3):
        (storage,) = data.integers("i", what)
        if storage != 0:
            raise ValueError(f"{what} is stored as {STORAGE.get(storage, f'kind {storage}')}, and only dense arrays can be read")
    shape = _read_shape(data, magic, what)
    _, _, kind = data.integers("iii", what)
    if kind not in FLOATS:
        raise ValueError(f"{what} is of type {OTHERS.get(kind, kind)}, and only floating point can be read")
    form, width = FLOATS[kind]
    values = np.frombuffer(data.take(math.prod(shape) * width, f"{what} of shape {shape}"), np.dtype(form))
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, which the check of the weights names
        found: npt.NDArray[np.float32] = values.reshape(shape).astype(np.float32)
    return found


def _read_shape(data: _Bytes, magic: int, what: str) -> tuple[int, ...]:
    """Version 0 has no magic number: the number of dimensions stands in its place, and they are 32 bits wide."""
    if magic in (V1, V2, V3):
        (dimensions,) = data.integers("i", what)
        width = "q"
    else:
        dimensions, width = magic, "I"
    if not 0 <= dimensions <= MAX_DIMENSIONS or (dimensions == 0 and magic != V3):
        raise ValueError(f"{what} is empty or damaged: it has {dimensions} dimensions")
    shape = data.integers(f"{dimensions}{width}", what)
    if any(side < 0 for side in shape):
        raise ValueError(f"{what} has the shape {shape}")
    return shape
