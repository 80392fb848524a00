"""The tests of the Keras backend once more, on JAX: Keras can be only one of its backends in a process."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# most of the time is compilation of small functions that run once
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


# What every change is tested with; other arrangements of the same Keras layers, their copies and mutations, further recipes, and what
# Keras does alike on both (saving, the order of batches, resuming) have their turn on TensorFlow. The shape trace is in the example.
MOST = " and not ".join((
    "not every_order", "every_field", "clone", "mutations", "saved_model", "batches", "is_dropped", "resumed", "own_compilation",
    "shape_trace", "nesterov", "momentum", "reloaded",
))  # fmt: skip


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "jax", reason="this is the process on JAX")
@pytest.mark.skipif(importlib.util.find_spec("keras") is None or importlib.util.find_spec("jax") is None, reason="needs keras and jax")
@pytest.mark.parametrize("tests", [MOST, pytest.param("", marks=pytest.mark.slow)])
def test_the_same_on_jax(tests: str) -> None:
    less = ["-m", "not slow", "-k", tests]
    files = sorted(str(path) for path in HERE.glob("test_keras*.py") if path != Path(__file__))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *less, *files],
        cwd=HERE.parents[1], env=os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": QUICK},
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
