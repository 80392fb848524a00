"""Pictures decoded into the rows of an array, and told where they cannot be."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.data import Frame, Lazy, decode, decode_into, open_source
from residual.data import cache as cache_module
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


def test_decoding_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is told in order, and again by the next one, which decodes nothing else; it ends where the disk fails."""
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    root, frame = folder(tmp_path / "data", {"a": 20, "b": 20}), Frame(size=(11, 7), channels=3)
    names = open_source(root).splits["train"].names
    broken = [names[index] for index in (3, 17, 31)]
    for name in broken:
        Path(name).write_bytes(b"no picture")
    source = open_source(root)
    records, wanted = source.splits["train"], decode(source.splits["train"], frame)
    cache, _ = open_cache(source, "train", frame)
    assert cache is not None
    seen, opened = list[int](), type(records).open
    monkeypatch.setattr(type(records), "open", lambda self, index: (seen.append(index), opened(self, index))[1])
    for asked in (len(records), len(broken)):
        seen.clear()
        problems = decode_into(cache, records, frame)
        assert [problem.file for problem in problems] == broken
        assert len(set(seen)) == asked
    images = np.empty((len(wanted.kept), 11, 7, 3), np.uint8)
    assert cache.read(records.rows[wanted.kept], images).all()
    np.testing.assert_array_equal(images, wanted.images)
    frame = Frame(size=(5, 5), channels=3)
    lost, _ = open_cache(source, "train", frame)
    assert lost is not None
    shutil.rmtree(lost.folder)
    seen.clear()
    decode_into(lost, records, frame)
    assert lost.fault
    assert len(set(seen)) == 16


def test_a_cache_in_use_is_not_the_least_recently_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    source, frame = open_source(folder(tmp_path / "data", {"a": 9, "b": 9})), Frame(size=(11, 7), channels=3)
    records, (cache, _) = source.splits["train"], open_cache(source, "train", frame)
    assert cache is not None
    decode_into(cache, records, frame)
    images, file = np.empty((len(records), 11, 7, 3), np.uint8), cache.folder / "sums.bin"
    os.utime(file, (1, 1))
    assert cache.read(records.rows, images).all()
    assert file.stat().st_mtime == 1
    monkeypatch.setattr(cache_module, "_MINUTE", 0.0)
    assert cache.read(records.rows, images).all()
    assert file.stat().st_mtime > 1e9


def test_pillow_warns_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of pictures that are too large, which are problems."""
    records = open_source(folder(tmp_path / "data", {"a": 9, "b": 9})).splits["train"]
    Image.new("RGB", (100, 100)).save(records.names[3])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9_000)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = decode(records, Frame(size=(11, 7), channels=3))
    assert not told
    assert [problem.reason for problem in found.problems] == ["more than 9,000 pixels"]


@pytest.mark.parametrize("changed", ["decoder_version", "resizer_version"])
def test_pictures_of_another_library_are_not_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:  # fmt: skip
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    source, frame = open_source(folder(tmp_path / "data", {"a": 3, "b": 3})), Frame(size=(11, 7), channels=3)
    first, again = (open_cache(source, "train", frame)[0] for _ in range(2))
    monkeypatch.setattr(cache_module, changed, lambda *given: "0.1")
    later, _ = open_cache(source, "train", frame)
    assert first is not None
    assert again is not None
    assert later is not None
    assert first.folder == again.folder != later.folder
