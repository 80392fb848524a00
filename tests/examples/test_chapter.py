"""The chapter's examples run as they are printed in the documentation; MXNet's is in `test_mxnet_chapter.py`."""

from pathlib import Path

import pytest

from tests.examples.runs import check


@pytest.mark.parametrize(
    ("name", "channels_last"), [("chapter_torch.py", False), ("chapter_tensorflow.py", True), ("chapter_jax.py", True)]
)
def test_the_chapter(name: str, channels_last: bool, tmp_path: Path) -> None:
    check(name, tmp_path, channels_last=channels_last)
