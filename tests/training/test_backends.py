"""`residual.train(..., backend=...)` on TensorFlow; JAX is the same module, and MXNet's part is in `test_mxnet_backend.py`."""

from pathlib import Path

import pytest

import residual
from tests.training.elsewhere import FIELDS, check_a_resumed_run, check_a_run, pictures


def test_a_run(tmp_path: Path) -> None:
    check_a_run("tensorflow", tmp_path)


def test_a_resumed_run(tmp_path: Path) -> None:
    check_a_resumed_run("tensorflow", tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("time", 5.0), ("optimizer", "adamw"), ("ema", 0.9), ("precision", "bfloat16"), ("first_layer", "frozen")]
)
def test_what_the_backend_cannot_do_is_refused_before_anything_is_written(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"The backend 'tensorflow' cannot train with {name}="):
        residual.train(pictures(), backend="tensorflow", out=tmp_path / "run", **{**FIELDS, name: value})
    assert not (tmp_path / "run").exists()
