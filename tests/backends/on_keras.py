"""The Keras backend as the tests of it open it: KERAS_BACKEND chooses, TensorFlow where it is not set. Nothing is imported before."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from residual.architecture import Architecture
from residual.backends import open_backend
from residual.plan import plan
from residual.reference import forward as reference
from residual.weights import Weights
from tests.nets import SMALL, images, random_weights

NAME = os.environ.get("KERAS_BACKEND", "tensorflow")
PACKAGES = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax")}
ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5  # of the largest value


@functools.cache
def opened() -> ModuleType:
    """The backend; the test that asks is skipped where it is not installed."""
    for package in PACKAGES[NAME]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'residual[keras]'")
    return open_backend(NAME)


def model_of(arch: Architecture = SMALL) -> Any:
    """A model with random weights."""
    network, backend = plan(arch), opened()
    return backend.build(network, weights=random_weights(network))


def largest_difference(model: Any, arch: Architecture, size: tuple[int, int], taps: list[str]) -> float:
    """Between model and reference, as a share of the reference's largest value, over logits and taps."""
    network = plan(arch)
    weights, x = random_weights(network), images(network, *size)
    wanted = reference(network, weights, x, taps)
    found = opened().forward(model, x, taps)
    assert found.keys() == wanted.keys()
    assert all(value.dtype == np.float32 for value in found.values())
    assert all(found[name].shape[:2] == value.shape[:2] and found[name].ndim == value.ndim for name, value in wanted.items())
    assert np.ptp(found["logits"]) > 1e-3, "the network is dead: equality would say nothing"
    shares = [np.abs(found[name] - value).max() / np.abs(value).max() for name, value in wanted.items()]
    assert all(np.isfinite(shares))
    return float(max(shares))


def equal(found: Weights, wanted: Weights) -> bool:
    """The same tensors in the same order, bit for bit."""
    return list(found) == list(wanted) and all(found[name].tobytes() == value.tobytes() for name, value in wanted.items())


def fresh_python(script: str, *arguments: str, package: bool = True) -> str:
    """What `script` prints in a new process on the same Keras backend; without `package`, residual cannot be imported there."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment = os.environ | quiet | {"KERAS_BACKEND": NAME, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    if not package:
        del environment["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, *([] if package else ["-P"]), "-c", script, *arguments],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
