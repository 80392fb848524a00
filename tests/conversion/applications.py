"""Keras Applications' networks with random weights, and every way in which Keras saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residual.backends import open_backend

NAMES = [f"ResNet{depth}{version}" for version in ("", "V2") for depth in (50, 101, 152)]


def opened() -> Any:
    """Keras on TensorFlow; the test skips where Keras is not installed or runs on something else in this process."""
    pytest.importorskip("keras", reason="Keras is an extra", exc_type=ImportError)
    try:
        open_backend("tensorflow")
    except ValueError as error:
        pytest.skip(str(error))
    import keras

    return keras


def application(name: str, side: int = 64, *, activation: str | None = None) -> Any:
    return getattr(opened().applications, name)(
        weights=None, classes=7, input_shape=(side, side, 3), classifier_activation=activation
    )  # fmt: skip


def small(version: int, side: int = 64, *, activation: str | None = None) -> Any:
    """The Application's own layers with few blocks and channels."""
    opened()
    from keras.src.applications import resnet

    stack = resnet.stack_residual_blocks_v1 if version == 1 else resnet.stack_residual_blocks_v2
    strides = (1, 2, 2) if version == 1 else (2, 2, 1)

    def stages(x: Any) -> Any:
        for number, (width, stride) in enumerate(zip((8, 12, 20), strides, strict=True)):
            x = stack(x, width, 2 + (number == 1), stride1=stride, name=f"conv{number + 2}")
        return x

    return resnet.ResNet(
        stages, version == 2, True, weights=None, classes=7, input_shape=(side, side, 3), classifier_activation=activation,
        name=f"small{version}",
    )  # fmt: skip


def randomised(model: Any) -> Any:
    stream = np.random.default_rng(3)
    values = []
    for variable in model.weights:
        shape, around_one = variable.shape, variable.name in ("gamma", "moving_variance")
        if len(shape) > 1:
            values.append(stream.standard_normal(shape) * (2 / np.prod(shape[:-1])) ** 0.5)
        else:
            values.append(stream.uniform(0.5, 1.5, shape) if around_one else 0.2 * stream.standard_normal(shape))
    model.set_weights(values)
    return model


def pixels(side: int) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (2, side, side, 3)).astype(np.uint8)


def prepared(name: str, images: np.ndarray) -> np.ndarray:
    """What the Application's own preprocess_input makes of the pictures."""
    applications = opened().applications
    module = applications.resnet_v2 if name.endswith("V2") else applications.resnet
    return np.asarray(module.preprocess_input(images.astype(np.float32)))


def logits(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))


def _older(model: Any, path: Path) -> None:
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def _nameless(model: Any, path: Path) -> None:
    """As Keras before 3.10 wrote it: layers are numbered by class and not named."""
    import h5py

    model.save_weights(path)
    with h5py.File(path, "a") as file:
        for group in file["layers"].values():
            if "name" in group["vars"].attrs:
                del group["vars"].attrs["name"]


def _whole(model: Any, path: Path) -> None:
    model.save(path)


SAVES: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
    "weights": ("a.weights.h5", lambda model, path: model.save_weights(path)),
    "nameless": ("a.weights.h5", _nameless),
    "keras": ("a.keras", _whole),
    "older": ("a.h5", _older),
    "older-whole": ("a.h5", _whole),
}
