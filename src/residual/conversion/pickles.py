"""What a PyTorch file claims to hold, found out without loading it: names, shapes and sizes, checked against the file's real size.

The surprising thing: the pickle in it is read by an unpickler that calls nothing of what it names. A tensor becomes a Claim, and all
else a record of its arguments, so that nothing is run or allocated; `torch.load(weights_only=True)` reads the values later.
"""

import io
import math
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE = 8 * 2**20  # four times that of ResNet-1202
ITEM_SIZES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
_INERT = ("torch.device", "collections.Counter", "torch.serialization._get_layout", "builtins.set", "_codecs.encode")
# bytearrays are allocated by the size that the file claims; sets hash what they hold, and tuples in tuples overflow the stack then
_REFUSED = (*pickle.BYTEARRAY8, *pickle.EMPTY_SET, *pickle.ADDITEMS, *pickle.FROZENSET)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the file says of one tensor; `kind` is PyTorch's name of its storage, e.g. "FloatStorage"."""

    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int


class _Inert:
    """A call that is not made."""

    def __init__(self, *arguments: Any) -> None:
        pass


class _Ordered(dict[Any, Any]):
    """Stands for OrderedDict, which Python 2 pickled as a list of pairs."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__((_key(key), value) for key, value in pairs)


def contents(path: Path) -> Any:
    """What the file holds, dictionaries and lists as they are, each tensor a Claim; nothing of it is run.

    Raises:
        ValueError: the rest of a sentence on what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # as torch.load tells them apart
        return _of_zip(path) if zipped else _of_legacy(path)
    except ValueError:
        raise
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is damaged ({error})") from error
    except Exception as error:  # a pickle can go wrong in any way there is
        raise ValueError(f"its pickle is damaged ({type(error).__name__}: {error})") from error


def _of_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        size = path.stat().st_size
        if "data.pkl" not in records or len(records) < len(archive.infolist()):
            raise ValueError("it is a zip archive that PyTorch did not write")
        packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
        claimed = sum(info.file_size for info in archive.infolist())
        if packed or claimed > size or records["data.pkl"].file_size > _MAX_PICKLE:
            raise ValueError(f"its zip directory claims {claimed:,} bytes in a file of {size:,} that PyTorch writes uncompressed")
        if "constants.pkl" in records:
            raise ValueError("it is a TorchScript program: save the model's state_dict() instead")
        reader = _Reader(io.BytesIO(archive.read(records["data.pkl"])))
    found = reader.load()
    for storage in reader.storages:
        record = records.get(f"data/{storage.key}")
        if record is None or record.file_size < storage.count * ITEM_SIZES[storage.kind]:
            raise ValueError(f"a tensor claims {storage.count:,} values that are not in it")
    return found


def _of_legacy(path: Path) -> Any:
    """PyTorch before 1.6: pickles of a magic number, a version, the machine and the object; then the bytes."""
    with path.open("rb") as whole:
        file = io.BytesIO(whole.read(_MAX_PICKLE))
    if file.getvalue()[:1] != b"\x80":
        raise ValueError("it is neither a PyTorch nor a safetensors file")
    if _Reader(file).load() != _LEGACY_MAGIC:
        raise ValueError("it is a pickle that torch.save did not write")
    for _ in range(2):
        _Reader(file).load()
    reader = _Reader(file)
    found = reader.load()
    claimed = sum(storage.count * ITEM_SIZES[storage.kind] for storage in reader.storages)
    if claimed > path.stat().st_size:
        raise ValueError(f"its tensors claim {claimed:,} bytes in a file of {path.stat().st_size:,}")
    return found


def _set_item(reader: Any) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.stack[-1][_key(key)] = value


def _set_items(reader: Any) -> None:
    items = reader.pop_mark()
    for key, value in zip(items[::2], items[1::2], strict=True):
        reader.stack[-1][_key(key)] = value


def _drop_state(reader: Any) -> None:
    """Attributes are not kept, nor given to what the pickle names."""
    reader.stack.pop()


# The Python unpickler: the one in C reserves memory for whatever memo index the file names.
class _Reader(pickle._Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages = set[_Storage]()

    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole in _STANDS_FOR:
            return _STANDS_FOR[whole]
        if module == "torch" and name in ITEM_SIZES:
            return name
        if whole in _INERT:
            return _Inert
        raise ValueError(f"its pickle names {whole}, and only files of plain tensors are read: save the model's state_dict() alone")

    def persistent_load(self, identity: Any) -> _Storage:
        word, kind, key, _location, count = identity[:5]
        texts = isinstance(kind, str) and isinstance(key, str)
        if word != "storage" or not texts or kind not in ITEM_SIZES or not isinstance(count, int) or count < 0:
            raise ValueError("it holds something else than tensors")
        found = _Storage(kind, key, count)
        self.storages.add(found)
        return found

    dispatch = {code: step for code, step in pickle._Unpickler.dispatch.items() if code not in _REFUSED} | {
        pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items, pickle.BUILD[0]: _drop_state,
    }  # fmt: skip


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float):
        raise ValueError("a dictionary in it has a key that is neither text nor a number")
    return key


def _claim(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> Claim:
    """A tensor must lie within its storage, each value at a place of its own, as that of a saved weight does."""
    sides, steps = tuple(shape), tuple(stride)
    if not isinstance(storage, _Storage) or len(sides) != len(steps) or not all(map(_is_count, (offset, *sides, *steps))):
        raise ValueError("it holds a tensor that has no shape")
    count = math.prod(sides)
    last = offset + sum((side - 1) * step for side, step in zip(sides, steps, strict=True)) if count else 0
    if offset + count > storage.count or last >= max(storage.count, 1):
        raise ValueError(f"a tensor of shape {sides!s:.80} claims more values than the {storage.count:,} that are stored for it")
    return Claim(shape=sides, kind=storage.kind)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _first(tensor: Any, *_rest: Any) -> Any:
    return tensor


_STANDS_FOR = {
    "collections.OrderedDict": _Ordered, "torch.Size": tuple, "torch._utils._rebuild_tensor": _claim,
    "torch._utils._rebuild_tensor_v2": _claim, "torch._utils._rebuild_parameter": _first, "torch.nn.parameter.Parameter": _first,
}  # fmt: skip
