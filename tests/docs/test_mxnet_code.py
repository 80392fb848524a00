"""The pages' code in MXNet, which has an environment of its own."""

from pathlib import Path

from tests.docs.blocks import of_framework
from tests.docs.running import check


def test_the_code_runs(tmp_path: Path) -> None:
    assert len(of_framework("mxnet")) >= 3
    check("mxnet", tmp_path)
