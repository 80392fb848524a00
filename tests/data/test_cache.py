"""Whatever happens to the cache, a picture that comes out of it is the one that decoding gives."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.data import Frame, Lazy, Source, decode, open_source
from residual.data import cache as module
from residual.data.cache import PictureCache, open_cache
from residual.data.picture import strict_pillow
from tests.data.makers import folder, parquet, pixels

FRAME = Frame(size=(12, 10), channels=3)
BYTES = 12 * 10 * 3
FILL = """
import sys
from residual.data import Frame, open_source
from residual.data.cache import open_cache
from tests.data.test_cache import FRAME, filled
source = open_source(sys.argv[1])
cache, told = open_cache(source, "train", FRAME)
print("ready", flush=True)
filled(source, cache, step=1)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "home"))
    return tmp_path / "home" / "pictures"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source(folder(tmp_path / "data", {"a": 12, "b": 10}))


def opened(source: Source, frame: Frame = FRAME) -> PictureCache:
    cache, told = open_cache(source, "train", frame)
    assert cache is not None, told
    return cache


def filled(source: Source, cache: PictureCache | None, step: int = 5) -> np.ndarray:
    """The pictures of the training split, by way of the cache."""
    lazy = Lazy(records=source.splits["train"], frame=FRAME, cache=cache)
    images = np.empty((len(lazy), *FRAME.size, FRAME.channels), np.uint8)
    with strict_pillow():
        for start in range(0, len(lazy), step):
            part = np.arange(start, min(start + step, len(lazy)))
            assert not lazy.fill(part, images[start : start + step])
    return images


def true(source: Source) -> np.ndarray:
    return decode(source.splits["train"], FRAME).images


def found(source: Source, cache: PictureCache) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures the cache has, and those."""
    rows = source.splits["train"].rows
    images = np.zeros((len(rows), *FRAME.size, 3), np.uint8)
    return cache.read(rows, images), images


def test_pictures_are_those_that_decoding_gives(source: Source, tmp_path: Path) -> None:
    wanted = true(source)
    np.testing.assert_array_equal(filled(source, opened(source)), wanted)
    there, images = found(source, opened(source))
    assert there.all()
    np.testing.assert_array_equal(images, wanted)
    shutil.rmtree(tmp_path / "data")  # no file is opened any more
    cache = PictureCache(next((tmp_path / "home" / "pictures").iterdir()), int(source.splits["train"].rows.max()) + 1, FRAME)
    np.testing.assert_array_equal(filled(source, cache), wanted)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_split_in_one_array(source: Source, tmp_path: Path, workers: int) -> None:
    """It is read and filled as single pictures are; a broken picture stays broken, and one that was read need not be there again."""
    (tmp_path / "data" / "a" / "3.png").write_bytes(b"no picture")
    records, wanted = source.splits["train"], decode(source.splits["train"], FRAME)
    first = decode(records, FRAME, workers=workers, cache=opened(source))
    cache = opened(source)
    assert found(source, cache)[0].sum() == len(records) - 1
    (tmp_path / "data" / "b" / "3.png").unlink()
    second = decode(records, FRAME, workers=workers, cache=cache)
    for one in (first, second):
        np.testing.assert_array_equal(one.images, wanted.images)
        np.testing.assert_array_equal(one.labels, wanted.labels)
        assert (one.names, one.problems) == (wanted.names, wanted.problems)
        assert [problem.file.rpartition("/")[2] for problem in one.problems] == ["3.png"]


def test_parquet_too(tmp_path: Path, cache: Path) -> None:
    path = parquet(tmp_path / "data" / "train.parquet", [0, 1] * 8)
    source = open_source(tmp_path / "data")
    wanted = true(source)
    np.testing.assert_array_equal(filled(source, opened(source)), wanted)
    assert found(source, opened(source))[0].all()
    before = opened(source).folder
    os.utime(path, (1, 1))
    assert opened(source).folder != before


@pytest.mark.parametrize("damage", ["byte", "page of zeros", "neighbour", "end cut off", "sum", "sums cut off"])
def test_damaged_bytes_are_decoded_again(source: Source, damage: str) -> None:
    cache, row = opened(source), int(source.splits["train"].rows[3])
    wanted = filled(source, cache)
    path = cache.folder / ("sums.bin" if damage.startswith("sum") else "pictures.bin")
    content = bytearray(path.read_bytes())
    if damage == "byte":
        content[row * BYTES + 100] ^= 1
    elif damage == "page of zeros":
        content[row * BYTES : row * BYTES + 200] = bytes(200)
    elif damage == "neighbour":
        content[row * BYTES : (row + 1) * BYTES] = content[(row - 1) * BYTES : row * BYTES]
    elif damage == "sum":
        content[row * 4] ^= 1
    else:
        del content[row * (4 if damage == "sums cut off" else BYTES) + 2 :]
    path.write_bytes(content)
    there, images = found(source, opened(source))
    assert not there[3]
    assert there[:3].all()
    np.testing.assert_array_equal(images[there], wanted[there])
    np.testing.assert_array_equal(filled(source, opened(source)), wanted)
    assert found(source, opened(source))[0].all()


def test_black_pictures_are_no_holes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "data" / name / f"{k}.png")
    source = open_source(tmp_path / "data")
    assert not found(source, opened(source))[0].any()
    filled(source, opened(source))
    assert found(source, opened(source))[0].all()


def start(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", FILL, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_while_it_fills(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path / "data", {"a": 300, "b": 300}))
    wanted, partly, before = true(source), 0, 0
    for _ in range(3):
        process = start(tmp_path / "data")
        while process.poll() is None and found(source, opened(source))[0].sum() == before:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there, images = found(source, opened(source))
        np.testing.assert_array_equal(images[there], wanted[there])
        before = there.sum()
        partly += 0 < before < len(there)
    assert partly
    np.testing.assert_array_equal(filled(source, opened(source)), wanted)


def test_two_programs_fill_it_at_once(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path / "data", {"a": 60, "b": 60}))
    for process in [start(tmp_path / "data") for _ in range(2)]:
        process.communicate()
        assert process.returncode == 0
    there, images = found(source, opened(source))
    assert there.all()
    np.testing.assert_array_equal(images, true(source))


def test_other_data_or_another_frame_is_another_cache(source: Source, tmp_path: Path) -> None:
    folders = {opened(source).folder}
    for frame in (Frame(size=(10, 12), channels=3), Frame(size=(12, 10), channels=1), Frame(size=(12, 10), channels=3, crop=0.9)):
        folders.add(opened(source, frame).folder)
    assert len(folders) == 4
    file = tmp_path / "data" / "a" / "3.png"
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    assert opened(open_source(tmp_path / "data")).folder not in folders
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert opened(open_source(tmp_path / "data")).folder in folders
    Image.fromarray(pixels(99)).save(file)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert opened(open_source(tmp_path / "data")).folder not in folders


def test_a_full_disk_ends_the_writing_only(source: Source) -> None:
    """A limit on the size of files fails a write in the middle as a full disk does."""
    cache, wanted = opened(source), true(source)
    rows = source.splits["train"].rows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(rows[6]) * BYTES + 30, before[1]))
    try:
        np.testing.assert_array_equal(filled(source, cache), wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert cache.fault.startswith(f"Decoded pictures are no longer kept in {cache.folder} (")
    there, images = found(source, cache)
    assert there[:5].all()
    assert not there[7:].any()
    np.testing.assert_array_equal(images[there], wanted[there])
    np.testing.assert_array_equal(filled(source, cache), wanted)


def test_a_cache_that_goes_away_is_no_failure(source: Source) -> None:
    cache, wanted = opened(source), true(source)
    filled(source, cache)
    shutil.rmtree(cache.folder)
    np.testing.assert_array_equal(filled(source, cache), wanted)
    assert "No such file" in cache.fault


def test_one_that_another_program_made_anew_is_not_taken_for_the_old_one(source: Source) -> None:
    """Its file is full of zeros, and the sums that were checked before are those of the old one."""
    cache, wanted = opened(source), filled(source, None)
    assert (filled(source, cache) == wanted).all()
    assert (filled(source, cache) == wanted).all()
    shutil.rmtree(cache.folder)
    opened(source)
    assert (filled(source, cache) == wanted).all()


def test_a_place_that_cannot_be_written(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file"))
    cache, told = open_cache(source, "train", FRAME)
    assert cache is None
    assert told == (
        f"decoded ones are not kept on disk: {tmp_path}/file/pictures: Not a directory; name a folder that can be written in RESIDUAL_CACHE"
    )


def test_off(source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", "off")
    assert open_cache(source, "train", FRAME) == (None, "decoded ones are not kept on disk: RESIDUAL_CACHE is off")
    assert not home.exists()


def test_arrays_need_none(home: Path) -> None:
    source = open_source((np.zeros((20, 5, 5), np.uint8), np.arange(20) % 2))
    assert open_cache(source, "train", FRAME)[0] is None
    assert not home.exists()


def room_for(monkeypatch: pytest.MonkeyPatch, home: Path, count: float, source: Source) -> None:
    """Sets the share of the disk to what so many caches take."""
    one = (int(source.splits["train"].rows.max()) + 1) * BYTES
    monkeypatch.setattr(module, "_SHARE", count * one / shutil.disk_usage(home).free)


def test_the_least_recently_used_make_room(source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Frame(size=size, channels=3) for size in ((12, 10), (10, 12), (6, 20), (20, 6))]
    first, second, third = (opened(source, frame) for frame in frames[:3])
    for age, cache in ((30, first), (20, second), (10, third)):
        os.utime(cache.folder / "sums.bin", (time.time() - age, time.time() - age))
    (home / "notes").mkdir()  # not ours
    opened(source, frames[0])  # used again: now the youngest
    room_for(monkeypatch, home, 3.5, source)
    fourth = opened(source, frames[3])
    assert set(home.iterdir()) == {first.folder, third.folder, fourth.folder, home / "notes"}
    room_for(monkeypatch, home, 2.5, source)
    assert open_cache(source, "train", frames[1], beside=third)[0] is not None
    assert set(home.iterdir()) == {second.folder, third.folder, home / "notes"}


def test_what_can_never_fit_removes_nothing(source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = opened(source, Frame(size=(10, 12), channels=3))
    room_for(monkeypatch, home, 0.8, source)
    cache, told = open_cache(source, "train", FRAME)
    assert cache is None
    assert told.startswith("decoded ones are not kept on disk: ")
    assert f"free disk in {home}" in told
    assert kept.folder.is_dir()
    room_for(monkeypatch, home, 1.8, source)
    assert open_cache(source, "train", FRAME, beside=kept)[0] is None
    assert kept.folder.is_dir()


def test_who_only_looks_removes_nothing(source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = opened(source, Frame(size=(10, 12), channels=3))
    room_for(monkeypatch, home, 1.8, source)
    assert open_cache(source, "train", FRAME, making_room=False)[0] is None
    assert kept.folder.is_dir()
    assert open_cache(source, "train", FRAME)[0] is not None
    assert not kept.folder.is_dir()
