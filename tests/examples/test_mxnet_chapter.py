"""The chapter's example in MXNet, which has an environment of its own."""

from pathlib import Path

from tests.examples.runs import check


def test_the_chapter(tmp_path: Path) -> None:
    check("chapter_mxnet.py", tmp_path, channels_last=False)
