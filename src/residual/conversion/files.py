"""State dicts on disk: `.pth` in both of PyTorch's formats and `.safetensors`, told apart by content and not by name.

The surprising thing: names and shapes are found without PyTorch, and checked against the file's size before a value is read.
"""

import functools
import io
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from residual.conversion.pickles import ITEM_SIZES, Claim, contents
from residual.weights import Weights, write_whole

Shapes = dict[str, tuple[int, ...]]
_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "state_dict_ema", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"  # of batches that batch norm has seen: no part of the function
_MAX_HEADER = 100_000_000
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2} | {
    n: ITEM_SIZES[n] for n in ("DoubleStorage", "FloatStorage", "HalfStorage", "BFloat16Storage")
}


@dataclass(frozen=True, kw_only=True)
class StateDict:
    """What a file says of its tensors, by name without `module.` and the like.

    Attributes:
        names: the name here -> the name in the file.
        container: the key that the tensors lie under, "" where they lie open.
        safetensors: the file is one; otherwise it is PyTorch's.
    """

    path: Path
    shapes: Shapes
    names: dict[str, str]
    container: str
    safetensors: bool


def outline(path: Path) -> StateDict:
    """Names and shapes of the tensors in a file, without reading their values.

    Raises:
        ValueError: it is no state dict, is damaged, or claims more than it holds; the sentence names the file.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"There is no file {path}.") from error
    found = _outline(path, state.st_mtime_ns, state.st_size)
    if isinstance(found, str):
        raise ValueError(found)
    return found


def is_state_dict(path: Path) -> bool:
    """Whether `outline` can be had."""
    try:
        return bool(outline(path).shapes)
    except ValueError:
        return False


def values(state: StateDict) -> Weights:
    """The tensors of `state.shapes`, float32. ValueError names the file and what is wrong."""
    import torch

    try:
        if state.safetensors:
            with safe_open(state.path, framework="pt") as file:
                found: Mapping[str, Any] = {name: file.get_tensor(name) for name in state.names.values()}
        else:
            loaded = torch.load(state.path, map_location="cpu", weights_only=True)
            found = loaded[state.container] if state.container else loaded
        return {name: _array(found[theirs], torch.float32) for name, theirs in state.names.items()}
    except Exception as error:  # torch and safetensors raise whatever a damaged file leads them to
        raise ValueError(f"{state.path} cannot be read: {_first_line(error)}.") from error


def write_tensors(path: Path, tensors: Weights) -> None:
    """Writes a state dict, by the suffix as .safetensors or as PyTorch's, with the counters that strict loading wants."""
    counters = [name.replace("running_var", _COUNTER) for name in tensors if name.endswith("running_var")]
    if path.suffix == ".safetensors":
        whole: dict[str, npt.NDArray[Any]] = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
        whole |= {name: np.zeros((), np.int64) for name in counters}
        write_whole(path, serialise(whole, {"format": "pt"}))
        return
    import torch

    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in tensors.items()}
    state |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


@functools.lru_cache(maxsize=8)  # every format asks for it in turn; a file that changed has another time or size
def _outline(path: Path, _time: int, size: int) -> StateDict | str:
    """What the file says, or the sentence on why it cannot be read."""
    try:
        header = _header(path, size)
        found, container = (header, "") if header is not None else _opened(contents(path))
        names: dict[str, str] = {}
        for theirs, claim in found.items():
            name = _plain(theirs)
            if name.rpartition(".")[2] == _COUNTER:
                continue
            if claim.kind not in _FLOATS:
                raise ValueError(f"its tensor {theirs} holds {claim.kind} and not floating-point numbers")
            if name in names:
                raise ValueError(f"it holds {name} twice, as {names[name]} and as {theirs}")
            names[name] = theirs
        claimed = sum(math.prod(found[theirs].shape) * _FLOATS[found[theirs].kind] for theirs in names.values())
        if claimed > size:  # several tensors may share their numbers
            raise ValueError(f"its tensors claim {claimed:,} bytes in a file of {size:,}")
    except (ValueError, OSError) as error:
        return f"{path} cannot be read as weights: {str(error).rstrip('.')}."
    shapes = {name: found[theirs].shape for name, theirs in names.items()}
    return StateDict(path=path, shapes=shapes, names=names, container=container, safetensors=header is not None)


def _header(path: Path, size: int) -> dict[str, Claim] | None:
    """The tensors in a safetensors file's header; None where it is no such file."""
    if path.is_dir():
        raise ValueError("it is a folder")
    with path.open("rb") as file:
        start = file.read(9)
        if len(start) < 9 or start[8:] != b"{":
            return None
        (length,) = struct.unpack("<Q", start[:8])
        if length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"its safetensors header claims {length:,} bytes in a file of {size:,}")
        file.seek(8)
        text = file.read(length)
    try:
        told = json.loads(text)
        told.pop("__metadata__", None)
        found = {name: Claim(shape=tuple(map(int, row["shape"])), kind=str(row["dtype"])) for name, row in told.items()}
        ends = [int(row["data_offsets"][1]) for row in told.values()]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("its safetensors header is damaged") from error
    if max(ends, default=0) != size - 8 - length:
        raise ValueError(f"its safetensors header claims {max(ends, default=0):,} bytes of tensors, and {size - 8 - length:,} follow")
    try:
        with safe_open(path, framework="numpy"):
            return found
    except SafetensorError as error:
        raise ValueError(f"its safetensors header is damaged ({error})") from error


def _opened(found: Any) -> tuple[dict[str, Claim], str]:
    """The tensors among what a PyTorch file holds, and the key that they lie under."""
    if isinstance(found, dict):
        for container in ("", *_CONTAINERS):
            inner = found if not container else found.get(container)
            if isinstance(inner, dict) and inner and all(isinstance(k, str) and isinstance(v, Claim) for k, v in inner.items()):
                return inner, container
    raise ValueError("it holds no dictionary of tensors, neither openly nor under " + ", ".join(_CONTAINERS))


def _plain(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _array(tensor: Any, kind: Any) -> npt.NDArray[np.float32]:
    return tensor.detach().to(kind).contiguous().numpy().copy()  # type: ignore[no-any-return]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
