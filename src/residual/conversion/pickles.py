"""What a PyTorch file claims to hold, found out without loading it: names, shapes and sizes, checked against the file's real size.

The surprising thing: the pickle in it is read by an unpickler that calls nothing. Every class it names becomes a record of its
arguments, so nothing can be run, and nothing is allocated for a tensor; `torch.load(weights_only=True)` reads the values later.
"""

import io
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
_INERT = (
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.Size", "torch.device",
    "torch.nn.parameter.Parameter", "collections.Counter", "torch.serialization._get_layout", "builtins.set", "_codecs.encode",
)  # fmt: skip


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
    """The arguments of a call that is not made."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        pass


class _Table(dict[Any, Any]):
    """Stands for OrderedDict, whose attributes are not kept."""

    def __setstate__(self, state: Any) -> None:
        pass


# The Python unpickler: the one in C reserves memory for whatever memo index the file names.
class _Reader(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole == "collections.OrderedDict":
            return _Table
        if module == "torch" and name in ITEM_SIZES:
            return name
        if whole in _INERT:
            return type(name, (_Inert,), {})
        raise ValueError(f"its pickle names {whole}, and only files of plain tensors are read: save the model's state_dict() alone")

    def persistent_load(self, identity: Any) -> _Storage:
        word, kind, key, _location, count = identity[:5]
        if word != "storage" or kind not in ITEM_SIZES or not isinstance(count, int) or count < 0:
            raise ValueError(f"it holds something else than tensors: {identity!r:.80}")
        return _Storage(kind, str(key), count)


def contents(path: Path) -> Any:
    """What the file holds, dictionaries and lists as they are, each tensor a Claim; nothing of it is run.

    Raises:
        ValueError: the rest of a sentence on what is wrong with it.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # as torch.load tells them apart
        found = _of_zip(path) if zipped else _of_legacy(path)
        return _claims(found, depth=0)
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
        found, storages = _loaded(reader)
        for storage in storages:
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
        found, storages = _loaded(_Reader(file))
    claimed = sum(storage.count * ITEM_SIZES[storage.kind] for storage in storages)
    if claimed > path.stat().st_size:
        raise ValueError(f"its tensors claim {claimed:,} bytes in a file of {path.stat().st_size:,}")
    return found


def _loaded(reader: Any) -> tuple[Any, set[_Storage]]:
    storages = set[_Storage]()
    plain = reader.persistent_load

    def noted(identity: Any) -> _Storage:
        storages.add(plain(identity))
        return plain(identity)  # type: ignore[no-any-return]

    reader.persistent_load = noted
    return reader.load(), storages


def _claims(value: Any, depth: int) -> Any:
    if isinstance(value, dict) and depth < 3:
        return {key: _claims(item, depth + 1) for key, item in value.items()}
    if isinstance(value, _Inert):
        kind = type(value).__name__
        if kind in ("_rebuild_parameter", "Parameter"):
            return _claims(value.arguments[0], depth)
        if kind in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _claim(*value.arguments[:4])
    return value


def _claim(storage: _Storage, offset: int, shape: Any, stride: Any) -> Claim:
    """A tensor must lie within its storage, each value at a place of its own, as that of a saved weight does."""
    shape = tuple(shape.arguments[0]) if isinstance(shape, _Inert) else tuple(shape)
    count = 1
    for side in shape:
        count *= side
    if not all(isinstance(side, int) and side >= 0 for side in shape) or offset + count > storage.count:
        raise ValueError(f"a tensor of shape {shape} claims more values than the {storage.count:,} that are stored for it")
    return Claim(shape=shape, kind=storage.kind)
