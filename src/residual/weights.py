"""The tensors of a network: their names and shapes, their first values from a seed, and the one file they travel in.

Each tensor draws from a random stream of its own, keyed by (seed, name): a changed layer changes no other layer's first values.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from residual.architecture import Architecture, architecture_from
from residual.layers import Linear, Network, Norm
from residual.plan import plan
from residual.preprocessing import Preprocessing, preprocessing_from
from residual.tensors import manifest as manifest
from residual.tensors import shapes as shapes

Weights = dict[str, npt.NDArray[np.float32]]
FORMAT_VERSION = 1
_MAPPED = 2**24  # bytes of a file that are read while it is open


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """All that a model file holds; `classes` is empty and `preprocessing` None where the file does not say."""

    architecture: Architecture
    weights: Weights
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        arch, cleaned = self.architecture, self.preprocessing
        if len(self.classes) not in (0, arch.num_classes):
            raise ValueError(f"There are {len(self.classes)} class names for a network of {arch.num_classes} outputs.")
        if cleaned and cleaned.channels != arch.in_channels:
            raise ValueError(f"The preprocessing gives {cleaned.channels} channels to a network that takes {arch.in_channels}.")


def initialise(network: Network, seed: int = 0) -> Weights:
    """First values: He normal (fan out) or Xavier uniform weights, gamma as planned, running statistics 0 and 1.

    Linear layers and biases start uniform in +-1/sqrt(fan in), PyTorch's default; under "xavier" linear weights are Xavier too.
    Source: He et al. 2015, arXiv:1502.01852, section 2.2; Glorot & Bengio 2010, equation 16.
    """
    found: Weights = {}
    for layer in network.layers():
        for name, shape in shapes(layer).items():
            if isinstance(layer, Norm):
                value = {"weight": layer.gamma, "running_var": 1.0}.get(name.rpartition(".")[2], 0.0)
                found[name] = np.full(shape, value, np.float32)
            else:
                linear = isinstance(layer, Linear)
                fan_in = int(np.prod(shapes(layer)[name.replace(".bias", ".weight")][1:]))
                found[name] = _draw(name, shape, seed, scheme=network.initialisation, linear=linear, fan_in=fan_in)
    return found


def _draw(name: str, shape: tuple[int, ...], seed: int, *, scheme: str, linear: bool, fan_in: int) -> npt.NDArray[np.float32]:
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    stream = np.random.Generator(np.random.Philox(key=key))
    fan_out = shape[0] * int(np.prod(shape[2:]))
    if len(shape) == 1 or (linear and scheme == "he"):
        values = stream.random(shape, np.float32) * 2 - 1
        return values * np.float32(fan_in**-0.5)
    if scheme == "xavier":
        values = stream.random(shape, np.float32) * 2 - 1
        return values * np.float32((6 / (fan_in + fan_out)) ** 0.5)
    return stream.standard_normal(shape, np.float32) * np.float32((2 / fan_out) ** 0.5)


def check(network: Network, weights: Weights) -> None:
    """Nothing, when `weights` are the network's. ValueError names each missing, extra or misshaped tensor, and each with NaN."""
    wanted = manifest(network)
    faults = [f"missing {name} {shape}" for name, shape in wanted.items() if name not in weights]
    faults += [f"extra {name}" for name in weights if name not in wanted]
    for name, shape in wanted.items():
        if name in weights and weights[name].shape != shape:
            faults.append(f"{name} has shape {weights[name].shape} instead of {shape}")
        elif name in weights and not np.isfinite(weights[name]).all():
            faults.append(f"{name} holds NaN or infinity")
    if faults:
        raise ValueError(f"The weights do not fit the network: {'; '.join(faults)}.")


def save(path: str | Path, saved: SavedModel) -> None:
    """Writes `saved` as one safetensors file, beside its place and renamed into it; its metadata holds all but the tensors.

    Equal models give equal bytes: the metadata has one key, because safetensors writes several in no fixed order.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"A model cannot be written to {path}: that is a folder.")
    if not path.parent.is_dir():
        raise ValueError(f"A model cannot be written to {path}: there is no folder {path.parent}.")
    check(plan(saved.architecture), saved.weights)
    told: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "architecture": dataclasses.asdict(saved.architecture),
        "classes": list(saved.classes),
        "preprocessing": saved.preprocessing.as_dict() if saved.preprocessing else None,
    }
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in saved.weights.items()}
    write_whole(path, serialise(tensors, {"residual": json.dumps(told)}))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a process killed at any moment leaves the old content or the new, never a part."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path, names: list[str]) -> Weights:
    """The tensors of a file, opened anew now and then: it is mapped, and what was read of it takes memory until it is closed."""
    weights, left = Weights(), names[::-1]
    while left:
        read = 0
        with safe_open(path, framework="numpy") as file:
            while left and read < _MAPPED:
                name = left.pop()
                weights[name] = np.asarray(file.get_tensor(name), np.float32)
                read += weights[name].nbytes
    return weights


def load(path: str | Path) -> SavedModel:
    """What `save` wrote. ValueError names the file and what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no model file {path}.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if "residual" not in metadata:
                raise ValueError("it does not say its architecture, so it was not written by residual.save")
            told = json.loads(metadata["residual"])
            if told.get("format_version") != FORMAT_VERSION:
                raise ValueError(f"its format version is {told.get('format_version')}, this residual reads {FORMAT_VERSION}")
            arch = architecture_from(told["architecture"])
            names = list(file.keys())
        weights = _read(path, names)
        check(plan(arch), weights)
        cleaned = told["preprocessing"]
        return SavedModel(
            architecture=arch,
            weights=weights,
            classes=tuple(map(str, told["classes"])),
            preprocessing=preprocessing_from(cleaned) if cleaned else None,
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a model file that can be read: {str(error).rstrip('.')}.") from error
