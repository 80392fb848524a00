"""Pictures decoded into the rows of an array, and told where they cannot be."""

from pathlib import Path

import numpy as np
import pytest

from residual.data import Frame, Lazy, decode, open_source
from residual.data.cache import open_cache
from residual.data.picture import strict_pillow
from tests.data.makers import folder


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kept", [False, True])
def test_fill_is_decode_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, kept: bool) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    source = open_source(folder(tmp_path / "data", {"a": 9, "b": 9}))
    frame = Frame(size=(11, 7), channels=channels)
    broken = Path(source.splits["train"].names[4])
    broken.write_bytes(b"no picture")
    source = open_source(tmp_path / "data")
    cache = open_cache(source, "train", frame)[0] if kept else None
    lazy, wanted = Lazy(records=source.splits["train"], frame=frame, cache=cache), decode(source.splits["train"], frame)
    order = np.random.default_rng(0).permutation(len(lazy))
    for _ in range(2):
        images = np.zeros((len(lazy), 11, 7, channels), np.uint8)
        with strict_pillow():
            problems = lazy.fill(order, images)
        bad = int(np.flatnonzero(order == 4)[0])
        assert {place: (problem.file, problem.reason) for place, problem in problems.items()} == {bad: (str(broken), "not a picture")}
        found = np.empty_like(images)
        found[order] = images
        np.testing.assert_array_equal(found[wanted.kept], wanted.images)
    if cache is not None:
        assert (~cache.known(lazy.records.rows)).tolist() == [index == 4 for index in range(len(lazy))]
