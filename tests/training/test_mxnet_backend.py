"""`residual.train(..., backend="mxnet")`, in MXNet's own environment."""

from pathlib import Path

from tests.training.elsewhere import check_a_resumed_run, check_a_run


def test_a_run(tmp_path: Path) -> None:
    check_a_run("mxnet", tmp_path)


def test_a_resumed_run(tmp_path: Path) -> None:
    check_a_resumed_run("mxnet", tmp_path)
