"""Streamed batches are those of pictures in memory, however many threads make them and wherever they come from."""

import resource
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from residual.data import Decoded, Frame, Lazy, Source, decode, open_source
from residual.data.cache import open_cache
from residual.preprocessing import Preprocessing
from residual.training.feed import Normaliser, Resident, Sample, Streamed, _Room, in_time
from residual.training.inference import answers
from tests.data.makers import folder
from tests.training import test_device

FRAME, CPU = Frame(size=(12, 10), channels=3), torch.device("cpu")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return open_source(folder(tmp_path / "data", {"a": 60, "b": 50}))


def streamed(source: Source, *, kept: bool = True, workers: int = 2, indices: np.ndarray | None = None) -> Streamed:
    cache = open_cache(source, "train", FRAME)[0] if kept else None
    return Streamed(Lazy(records=source.splits["train"], frame=FRAME, cache=cache), indices, CPU, workers)


def chunks(count: int, size: int, seed: int) -> list[np.ndarray]:
    order = np.random.default_rng(seed).permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]


@pytest.mark.parametrize("workers", [0, 1, 3, 64])
@pytest.mark.parametrize("kept", [False, True])
def test_streamed_is_resident(source: Source, kept: bool, workers: int) -> None:
    indices = np.random.default_rng(9).permutation(88)[:80]
    resident = Resident(decode(source.splits["train"], FRAME), indices, CPU)
    feed = streamed(source, kept=kept, workers=workers, indices=indices)
    for epoch in range(3):
        order = chunks(80, 33, epoch)
        theirs = list(resident.read(order))
        ours = list(feed.read(order))
        assert len(ours) == len(theirs) == 3
        for a, b in zip(ours, theirs, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_later_epochs_open_no_file(source: Source) -> None:
    feed = streamed(source)
    first = torch.cat([images for images, _, _ in feed.read([np.arange(88)])])
    for name in feed.lazy.names:
        Path(name).write_bytes(b"gone")
    assert torch.equal(
        torch.cat([images for images, _, _ in feed.read(chunks(88, 20, 1))]), first[torch.from_numpy(np.concatenate(chunks(88, 20, 1)))]
    )
    assert not feed.problems


def test_a_batch_without_a_readable_picture_is_left_out(source: Source) -> None:
    feed = streamed(source)
    bad = [feed.lazy.names[index] for index in (3, 4, 40)]
    for name in bad:
        Path(name).write_bytes(b"gone")
    found = [index.tolist() for _, _, index in feed.read([np.array([3, 4]), np.arange(19, 60)])]
    assert found == [[*range(19, 40), *range(41, 60)]]
    assert feed.problems == dict.fromkeys(bad, "not a picture")


def test_stopping_early_leaves_no_thread_and_reads_little_ahead(source: Source) -> None:
    before, filters = threading.active_count(), list(warnings.filters)
    feed = streamed(source)
    assert feed.lazy.cache is not None
    batches = feed.read(chunks(88, 4, 0))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert warnings.filters == filters
    assert 4 <= feed.lazy.cache.known(feed.lazy.records.rows).sum() <= 12


@pytest.mark.parametrize(
    ("size", "workers", "begun", "parts"), [(33, 2, 2, 3), (16, 2, 2, 2), (16, 4, 2, 4), (20, 4, 2, 4), (88, 8, 1, 8), (2, 4, 3, 2)]
)
def test_as_many_batches_are_begun_as_give_every_thread_a_part(
    source: Source, monkeypatch: pytest.MonkeyPatch, size: int, workers: int, begun: int, parts: int
) -> None:
    """Of 16 pictures at most, and of a batch as many for each thread."""
    feed, seen = streamed(source, workers=workers), list[int]()
    begin = feed._begin

    def counted(*given: Any, **named: Any) -> Any:
        batch = begin(*given, **named)
        seen.append(len(batch.parts))
        return batch

    monkeypatch.setattr(feed, "_begin", counted)
    batches = feed.read(chunks(88, size, 0))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert seen == [parts] * begun
    assert not list(feed.read([np.array([], dtype=np.int64)]))


@pytest.mark.parametrize("large_pages", [True, False])
def test_the_memory_of_a_batch_is_taken_again_when_nobody_holds_it(
    source: Source, large_pages: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    room = _Room(large_pages=large_pages)
    where = room.take((64, 12, 10, 3)).data_ptr()
    other = np.empty(64 * 12 * 10 * 3, np.uint8)  # would get the memory, had it been given up
    assert room.take((60, 12, 10, 3)).data_ptr() == where != other.ctypes.data
    assert room.take((65, 12, 10, 3)).shape == (65, 12, 10, 3)
    feed, order, taken = streamed(source, kept=False), chunks(88, 8, 0), list[int]()
    take = _Room.take
    monkeypatch.setattr(_Room, "take", lambda room, shape: (taken.append(len(room._free)), take(room, shape))[1])
    assert sum(len(images) for images, _, _ in feed.read(order)) == 88
    assert len(taken) == len(order)
    assert sum(taken)
    held = [images for images, _, _ in feed.read(order)]
    assert len({images.data_ptr() for images in held}) == len(order)
    views = [images[2:].flatten(1) for images, _, _ in feed.read(order)]
    for images, view, (again, _, _) in zip(
        held, views, Resident(decode(source.splits["train"], FRAME), None, CPU).read(order), strict=True
    ):
        assert torch.equal(images, again)
        assert torch.equal(view, again[2:].flatten(1))


def test_two_batches_are_held_where_each_is_given_up(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is made, and the one before it: threads hold no part that they are done with."""
    taken, take = list[int](), _Room.take

    def noted(room: _Room, shape: tuple[int, ...]) -> torch.Tensor:
        images = take(room, shape)
        taken.append(images.data_ptr())
        return images

    monkeypatch.setattr(_Room, "take", noted)
    told = Future.set_result
    monkeypatch.setattr(Future, "set_result", lambda future, result: (told(future, result), time.sleep(0.02))[0])  # ends late
    for images, _, _ in streamed(source, kept=False).read(chunks(88, 8, 0)):
        assert len(images) == 8
        del images
    assert len(taken) == 11
    assert len(set(taken)) == 2


def test_steps_and_answers_have_given_a_batch_up_when_they_ask_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its memory is there for what is streamed next."""
    gone, read = list[bool](), Resident.read

    def watched(feed: Resident, chunks: Any) -> Iterator[Any]:
        batches = [*read(feed, chunks)]
        while batches:
            place = weakref.ref(batches[0][0])
            yield batches.pop(0)
            gone.append(place() is None)

    monkeypatch.setattr(Resident, "read", watched)
    feed: Any = test_device.resident(tmp_path, CPU)
    for _ in zip(range(5), test_device.steps(feed, CPU, batch_size=32), strict=False):
        pass
    assert gone == [True] * 4
    normalise = Normaliser(Preprocessing(size=(8, 8), channels=3, mean=(0.3,) * 3, std=(0.3,) * 3), CPU)
    for shown in (feed, Sample(feed, 256)):
        gone.clear()
        answers(lambda x: x.mean((2, 3)), shown, normalise, size=(8, 8), classes=3, batch=32)
        assert gone == [True] * 8


def test_a_full_disk_is_told_once(source: Source) -> None:
    feed, resident = streamed(source), Resident(decode(source.splits["train"], FRAME), None, CPU)
    assert feed.lazy.cache is not None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40 * 360 + 30, before[1]))  # fails a write in the middle, as a full disk does
    try:
        with pytest.warns(UserWarning, match="no longer kept in .*; the others are decoded in every epoch"):
            first = list(feed.read(chunks(88, 30, 0)))
        again = list(feed.read(chunks(88, 30, 0)))  # warns no second time: a warning is an error here
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for ours, later, theirs in zip(first, again, resident.read(chunks(88, 30, 0)), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(later[0], theirs[0])


def test_a_sample_is_evenly_spread_over_its_feed() -> None:
    decoded = Decoded(
        images=np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), labels=np.arange(10), names=[], problems=(), kept=np.arange(10)
    )
    feed = Sample(Resident(decoded, np.arange(1, 10), torch.device("cpu")), 4)
    assert feed.labels.tolist() == [1, 3, 5, 7]
    ((pictures, labels, index),) = feed.read([np.array([3, 1])])
    assert pictures.flatten().tolist() == labels.tolist() == [7, 3]
    assert index.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("seconds", "time", "count", "late"),
    [(0.3, 2.0, 2000, 0.05), (0.3, 6.0, 6000, 0.05), (0.3, 76.0, 6000, 0), (9.0, 2.0, 500, 0.05), (0.0, 1.0, 6000, 0)],
)
def test_validation_takes_a_twentieth_of_the_time(seconds: float, time: float, count: int, late: float) -> None:
    """And ends later than told beforehand, unless it is so brief that every epoch has one."""
    decoded = Decoded(
        images=np.zeros((6000, 1, 1, 1), np.uint8), labels=np.zeros(6000, np.int64), names=[], problems=(), kept=np.arange(6000)
    )
    feed, reserved = in_time(Resident(decoded, None, torch.device("cpu")), seconds, time)
    assert len(feed) == count
    assert reserved == pytest.approx(seconds * count / 6000 + late)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (9, 7)])
def test_pictures_are_normalised_as_said_whatever_their_size(channels: int, shape: tuple[int, int]) -> None:
    stream = np.random.default_rng(4)
    mean, std = tuple(stream.random(channels * shape[0] * shape[1])), tuple(stream.uniform(0.1, 0.4, channels))
    prepared = Preprocessing(size=(9, 7), channels=channels, mean=mean, std=std)
    normalise, images = Normaliser(prepared, CPU), stream.integers(0, 256, (5, 11, 10, channels), np.uint8)
    exact = torch.from_numpy(prepared.normalise(images[:, 1:10, 2:9]))
    found = normalise(torch.from_numpy(images)[:, 1:10, 2:9])
    assert torch.allclose(found, exact, atol=2e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    whole = normalise(torch.from_numpy(images))
    assert whole.shape == (5, channels, 11, 10)
    if shape == (1, 1):
        assert torch.equal(whole[:, :, 1:10, 2:9], found)


def test_normalised_pictures_are_their_holder_s_alone_and_their_memory_is_taken_again() -> None:
    normalise = Normaliser(Preprocessing(size=(8, 8), channels=3, mean=(0.3,) * 3, std=(0.2,) * 3), CPU)
    black, white = torch.zeros(4, 8, 8, 3, dtype=torch.uint8), torch.full((4, 8, 8, 3), 255, dtype=torch.uint8)
    held, place = normalise(black)[1:], normalise(white).data_ptr()
    assert bool((held == held[0, 0, 0, 0]).all())
    assert float(held[0, 0, 0, 0]) < 0
    assert normalise(white).data_ptr() == place, "nobody held it"
    part = normalise(white)[2:]
    assert normalise(black).data_ptr() != place
    assert bool((part > 0).all())
