"""Keras Applications' ResNet50/101/152 and V2, as .weights.h5, .keras or the older .h5: read with h5py, written by Keras itself.

V1 wants pixels from 0 to 255 in the order blue, green, red: reading turns its first convolution over, and writing turns it back, so
that here pictures are always red, green, blue.
"""

import json
import os
import sys
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from residual.architecture import Architecture, architecture_from
from residual.backends import open_backend
from residual.conversion import keras_files, keras_names
from residual.conversion.expressible import misfit, only, training_notes
from residual.conversion.found import Found
from residual.conversion.keras_config import checked
from residual.conversion.keras_files import RECORD, Stored
from residual.conversion.preprocessed import prepared
from residual.conversion.zoo import completed, fitted, listed, shaped
from residual.layers import Conv, Network
from residual.plan import plan
from residual.preprocessing import Preprocessing, preprocessing_from
from residual.tensors import manifest
from residual.variants import VARIANTS
from residual.weights import SavedModel, check

NAME = "keras"
EPSILON = 1.001e-5
CAFFE = Preprocessing(
    size=(224, 224), channels=3, mean=(123.68 / 255, 116.779 / 255, 103.939 / 255), std=(1 / 255, 1 / 255, 1 / 255)
)  # fmt: skip
MINUS_ONE_TO_ONE = Preprocessing(size=(224, 224), channels=3, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SMALLEST_SIDE = 32
_BLOCKS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


def recognise(path: Path) -> bool:
    """Whether it is an HDF5 file, or a .keras archive."""
    return keras_files.recognise(path)


def read(path: Path) -> Found:
    """A network of Keras Applications, or one that `write` saved as our own. ValueError names the file and what does not fit."""
    try:
        stored = keras_files.stored(path)
        if stored.record and stored.record.get("architecture"):
            return _read_own(stored, stored.record["architecture"])
        return _read_application(stored)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a Keras ResNet that can be read: {str(error).rstrip('.')}.") from error


def write(saved: SavedModel, path: Path) -> tuple[str, ...]:
    """Writes .weights.h5 or .keras for Keras Applications; another network only as .keras, as a functional model of its own.

    Gives notes. ValueError where the suffix is another, or names the field that Keras Applications does not have.
    """
    kind = next((suffix for suffix in (".weights.h5", ".keras") if path.name.endswith(suffix)), "")
    if not kind:
        raise ValueError(f"Keras writes .weights.h5 and .keras files only, so {path} was not written: give it one of these endings.")
    network = plan(saved.architecture)
    check(network, saved.weights)
    reason = missing(saved.architecture)
    if reason and kind != ".keras":
        raise ValueError(
            f"Keras Applications has no such network ({reason}), so {path} was not written: a file that ends in .keras can hold it."
        )
    model, notes = _own_model(saved, network, reason) if reason else _application(saved, network)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part{kind}")
    try:
        if kind == ".keras":
            model.save(beside)
            _put_record(beside, saved, own=bool(reason))
        else:
            model.save_weights(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    kept = replace(saved, classes=(), preprocessing=None) if kind == ".keras" else saved
    return (*notes, *training_notes(NAME, kept))


def _read_application(stored: Stored) -> Found:
    places = keras_names.tensors(stored)
    head = keras_names.head_of({key: stored.tensors[place].shape for key, place in places.items()})
    version = 1 if any(layer == "conv1_bn" for layer, _ in places) else 2
    named = {f"{keras_names.ours(layer, version=version, head=head)}.{part}": place for (layer, part), place in places.items()}
    if strange := [layer for layer, _ in places if not keras_names.ours(layer, version=version, head=head)]:
        raise ValueError(f"it has layers that no ResNet of Keras Applications has: {listed(set(strange))}")
    ours = {name: _from_keras(stored.tensors[place]) for name, place in named.items()}
    arch = _zoo(shaped({name: value.shape for name, value in ours.items()}), version=version)
    notes = [f"{_name_of(arch, version)} of Keras Applications."]
    size = (224, 224)
    if stored.config is not None:
        arch, size = checked(arch, stored.config, version=version, head=head)
    weights = completed(plan(arch), ours)
    if added := [name for name in weights if name not in ours]:
        notes.append(f"{len(added)} convolutions have no bias there; they have biases of 0 here.")
    if blue_first(arch):
        weights["conv1.weight"] = np.ascontiguousarray(weights["conv1.weight"][:, ::-1])
        notes.append("The first convolution takes red, green, blue here; the file's takes blue, green, red.")
    found = Found(format=NAME, architecture=arch, weights=weights, pairs=named, notes=tuple(notes))
    if stored.record is not None:
        return _told(found, stored.record)
    assumed = replace(CAFFE if version == 1 else MINUS_ONE_TO_ONE, size=size) if arch.in_channels == 3 else None
    return prepared(found, assumed, "keras.applications' preprocess_input")


def _read_own(stored: Stored, told: dict[str, Any]) -> Found:
    arch = architecture_from(told)
    wanted = manifest(plan(arch))
    named = {f"{layer}.{part}": place for (layer, part), place in keras_names.tensors(stored).items()}
    weights = {name: _from_keras(stored.tensors[place]) for name, place in named.items()}
    ordered = {name: weights.pop(name) for name in wanted if name in weights}
    notes = ("A functional model of residual, saved by Keras.",)
    assert stored.record is not None
    return _told(Found(format=NAME, architecture=arch, weights=ordered | weights, pairs=named, notes=notes), stored.record)


def _told(found: Found, record: dict[str, Any]) -> Found:
    cleaned = record.get("preprocessing")
    return replace(
        found, classes=tuple(map(str, record.get("classes", ()))), preprocessing=preprocessing_from(cleaned) if cleaned else None
    )


def _put_record(path: Path, saved: SavedModel, *, own: bool) -> None:
    record = {
        "architecture": asdict(saved.architecture) if own else None,
        "classes": list(saved.classes),
        "preprocessing": saved.preprocessing.as_dict() if saved.preprocessing else None,
    }
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(RECORD, json.dumps(record))


def _zoo(arch: Architecture, *, version: int) -> Architecture:
    """The Application of the depths and widths of `arch`, whose stages halve but for the first."""
    arch = replace(arch, conv_bias=True, bn_epsilon=EPSILON)
    if version == 1:
        return replace(arch, stride_on="conv1")
    strides = (*arch.strides[1:], 1)
    return replace(arch, order="preact", preact_start="block", strides=strides, stride_block="last", pool_padding="zero")


def missing(arch: Architecture) -> str:
    """Why Keras Applications has no such network, as a clause; "" where it has."""
    wanted = _zoo(VARIANTS["resnet50"], version=_version(arch))
    free = only(wanted, free=("depths", "in_channels", "num_classes", "conv_bias", "bn_epsilon"))
    return misfit(arch, {"depths": tuple(_BLOCKS), "in_channels": (1, 3), **free})


def application(arch: Architecture, size: tuple[int, ...], *, activation: str | None) -> Any:
    """The Application that computes `arch`, for pictures of `size`; its weights are random, its outputs behind `activation`."""
    build = getattr(opened().applications, _name_of(arch, _version(arch)))
    return build(weights=None, classes=arch.num_classes, input_shape=(*size, arch.in_channels), classifier_activation=activation)


def blue_first(arch: Architecture) -> bool:
    """Whether the Application takes blue, green, red."""
    return _version(arch) == 1 and arch.in_channels == 3


def opened() -> ModuleType:
    """Keras, on the framework that it runs on in this process, or else on TensorFlow. ValueError where that cannot be imported."""
    _backend()
    return sys.modules["keras"]


def _backend() -> ModuleType:
    return open_backend(str(sys.modules["keras"].config.backend()) if "keras" in sys.modules else "tensorflow")


def _version(arch: Architecture) -> int:
    return 2 if arch.order == "preact" else 1


def _application(saved: SavedModel, network: Network) -> tuple[Any, tuple[str, ...]]:
    """The Application with the weights of `saved`, and notes."""
    arch, version = saved.architecture, _version(saved.architecture)
    size = saved.preprocessing.size if saved.preprocessing else (224, 224)
    model = application(arch, tuple(max(SMALLEST_SIDE, side) for side in size), activation="softmax")
    weights = fitted(network, saved.weights, biased=_biased(network, version), epsilon=EPSILON)
    notes = [f"For keras.applications.{_name_of(arch, version)}, whose outputs are probabilities."]
    if arch.bn_epsilon != EPSILON:
        notes.append(f"Keras' epsilon is {EPSILON}: the running variances are larger by the difference to {arch.bn_epsilon}.")
    if gone := [name for name in saved.weights if name not in weights and saved.weights[name].any()]:
        notes.append(f"Keras has no biases in {listed(gone)}: they are taken up by the running means.")
    if blue_first(arch):
        weights["conv1.weight"] = weights["conv1.weight"][:, ::-1]
        notes.append("The first convolution takes blue, green, red in the file, as Keras' preprocess_input gives them.")
    if saved.preprocessing and saved.preprocessing != replace(CAFFE if version == 1 else MINUS_ONE_TO_ONE, size=saved.preprocessing.size):
        notes.append("These weights want another preprocessing than keras.applications' preprocess_input; Keras does not know it.")
    for layer in model.layers:
        if layer.weights:
            ours = keras_names.ours(layer.name, version=version)
            layer.set_weights([_to_keras(weights[f"{ours}.{keras_names.PARTS[variable.name]}"]) for variable in layer.weights])
    return model, tuple(notes)


def _own_model(saved: SavedModel, network: Network, reason: str) -> tuple[Any, tuple[str, ...]]:
    backend = _backend()
    model = backend.build(network, weights=saved.weights)
    return model, (f"Keras Applications has no such network ({reason}): the file holds a functional Keras model of its own.",)


def _biased(network: Network, version: int) -> set[str]:
    """The convolutions that have biases: all in V1; in V2 the stem, the shortcuts and the last of each block."""
    convs = [layer.name for layer in network.layers() if isinstance(layer, Conv)]
    return {name for name in convs if version == 1 or name == "conv1" or name.endswith((".conv3", ".downsample.0"))}


def _from_keras(value: Any) -> Any:
    """H W I O -> O I H W, and I O -> O I."""
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
    return np.ascontiguousarray(value.transpose(order)) if order else value


def _to_keras(value: Any) -> Any:
    order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
    return np.ascontiguousarray(value.transpose(order)) if order else value


def _name_of(arch: Architecture, version: int) -> str:
    depth = _BLOCKS.get(arch.depths, f" of depths {arch.depths}")
    return f"ResNet{depth}{'V2' if version == 2 else ''}"
