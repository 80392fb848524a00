"""The frameworks a network is built in, by the names users give them. None is imported before it is asked for.

`tensorflow` and `jax` are one module on Keras 3, and Keras can be only one of them in a process: the first that is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from residual.backends.greetings import import_tensorflow
from residual.layers import Network
from residual.spelling import nearest

BACKENDS = ("torch", "tensorflow", "jax", "mxnet")
_REMEDY = {
    "torch": "pip install torch",
    "tensorflow": "pip install 'residual[keras]'",
    "jax": "pip install 'residual[keras]'",
    "mxnet": "pip install 'residual[mxnet]' in an environment of its own, because MXNet 1.9.1 needs numpy below 1.24",
}
_MODULES = {"torch": "torch", "tensorflow": "keras", "jax": "keras", "mxnet": "mxnet"}


def open_backend(name: str) -> ModuleType:
    """The module of the backend `name`, imported.

    ValueError when there is no such backend, its framework is not installed, or Keras runs on another one already.
    """
    check_backend(name)
    if _MODULES[name] == "keras":
        _choose_keras(name)
    try:
        if name == "tensorflow" and "tensorflow" not in sys.modules:
            import_tensorflow()
        return importlib.import_module(f"residual.backends.{_MODULES[name]}")
    except ImportError as error:
        raise ValueError(f"The backend {name!r} cannot be imported here ({error}): {_REMEDY[name]}.") from error


def check_backend(name: str) -> None:
    """Nothing; ValueError for a backend that is not known, with the nearest right name."""
    if name not in BACKENDS:
        raise ValueError(f"There is no backend {name!r}.{nearest(name, BACKENDS)} Backends: {', '.join(BACKENDS)}.")


def backend_of(model: Any) -> ModuleType:
    """The backend module whose model `model` is. ValueError when it is no model of a backend that is in use."""
    for module in map(sys.modules.get, sorted({f"residual.backends.{name}" for name in _MODULES.values()})):
        if module is not None and isinstance(model, module.Model) and isinstance(getattr(model, "plan", None), Network):
            return module
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise ValueError(f"Only a model from residual.create or residual.load can be used here, unwrapped, but this is a {kind}.")


def _choose_keras(name: str) -> None:
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = name
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings are no news to a user of this package
        # without AVX-512, TensorFlow leaves its fast convolutions off: 7 times slower backward on small pictures
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        return
    in_use = sys.modules["keras"].config.backend()
    if in_use != name:
        raise ValueError(f"Keras runs on {in_use} in this process and cannot change: start another process for {name}.")


__all__ = ["BACKENDS", "backend_of", "check_backend", "open_backend"]
