"""What a training streams from: the cache is used, said, and changes nothing of what comes out."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data import Frame, memory, memory_plan, open_source
from residual.recipe import Recipe
from residual.training import prepare as prepare_module
from residual.training.experiment import begin, finish, pause, proceed, resume
from residual.training.feed import Streamed
from residual.training.loop import StepEnd
from residual.training.prepare import Prepared, prepare
from tests.data.makers import folder

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures that are taken not to fit into memory; one is broken."""
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare_module, "memory_plan", lambda count, frame, **_: memory_plan(count, frame, share=1e-9))
    root = folder(tmp_path / "data", {"a": 30, "b": 30})
    (root / "a" / "3.png").write_bytes(b"no picture")
    return root


def pictures(found: Prepared) -> list[torch.Tensor]:
    """Those of the training and of the validation feed."""
    feeds = (found.train, found.validation)
    assert all(isinstance(feed, Streamed) for feed in feeds)
    return [torch.cat([batch[0] for batch in feed.read([np.arange(len(feed))])]) for feed in feeds if feed is not None]


@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_a_later_run_reads_no_picture_file(data: Path, crop: float) -> None:
    """Before the second run every file loses its content but keeps its size and time; only the broken one is asked for."""
    recipe, source = Recipe(crop=crop, validation=0.2), open_source(data)
    first = prepare(source, recipe, (12, 12), 3, device=CPU)
    wanted = pictures(first)
    for file in data.rglob("*.png"):
        state = file.stat()
        file.write_bytes(bytes(state.st_size))
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = prepare(source, recipe, (12, 12), 3, device=CPU)
    for ours, theirs in zip(pictures(second), wanted, strict=True):
        assert torch.equal(ours, theirs)
    assert second.problems == first.problems
    assert [Path(problem.file).name for problem in first.problems] == ["3.png"]
    assert second.preprocessing == first.preprocessing
    assert second.split == first.split


def test_the_record_says_where_they_are_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = str(prepare(open_source(data), Recipe(), (12, 12), 3, device=CPU).plan)
    (folder_made,) = (tmp_path / "cache" / "pictures").iterdir()
    assert f"free memory; decoded ones are kept in {folder_made}, at most 25.3 KiB (RESIDUAL_CACHE=off keeps none)" in told
    monkeypatch.setenv("RESIDUAL_CACHE", "off")
    told = str(prepare(open_source(data), Recipe(), (12, 12), 3, device=CPU).plan)
    assert told.endswith("free memory; decoded ones are not kept on disk: RESIDUAL_CACHE is off")


def test_the_data_s_own_validation_split_is_kept_too(data: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for split, start in (("train", 0), ("validation", 50), ("test", 90)):
        folder(both / split, {"a": 10, "b": 10}, start)
    source = open_source(both)
    wanted = pictures(prepare(source, Recipe(), (12, 12), 3, device=CPU))
    assert len(list((tmp_path / "cache" / "pictures").iterdir())) == 2
    for ours, theirs in zip(pictures(prepare(source, Recipe(), (12, 12), 3, device=CPU)), wanted, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("crop", [1.0, 0.8])
def test_large_pictures_are_read_from_the_cache_as_they_would_be_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: float
) -> None:  # fmt: skip
    """Also the one that breaks in its middle is known before anything is cut or counted; small pictures stay in memory."""
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    root = folder(tmp_path / "data", {"a": 30, "b": 30})
    whole = (root / "a" / "3.png").read_bytes()
    (root / "a" / "3.png").write_bytes(whole[: len(whole) // 2] + whole[-12:])
    recipe, source = Recipe(crop=crop, validation=0.2), open_source(root)
    resident = prepare(source, recipe, (72, 72), 3, device=CPU)
    assert resident.plan.place == "memory"
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(memory, "_HELD", 0)
    cached = prepare(source, recipe, (72, 72), 3, device=CPU)
    assert cached.plan.place == "cache"
    assert "of pictures are read as they are needed and take none of it; decoded ones are kept in" in str(cached.plan)
    assert [Path(problem.file).name for problem in cached.problems] == ["3.png"]
    assert (cached.problems, cached.split, cached.preprocessing) == (resident.problems, resident.split, resident.preprocessing)
    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", lambda *_: pytest.fail("a picture was decoded again"))
        for ours, theirs in zip(pictures(cached), (resident.train, resident.validation), strict=True):
            assert theirs is not None
            assert torch.equal(ours, next(iter(theirs.read([np.arange(len(theirs))])))[0])
    monkeypatch.setenv("RESIDUAL_CACHE", "off")
    assert prepare(source, recipe, (72, 72), 3, device=CPU).plan.place == "memory"
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "another"))
    assert prepare(source, recipe, (24, 24), 3, device=CPU).plan.place == "memory"


def weights(data: Path, out: Path, *, stop_after: int | None = None) -> bytes:
    """The model file of a streamed training; stopped after so many steps and resumed."""
    fields = dict(model="cifar_resnet8", epochs=2, batch_size=8, image_size=16, crop_scale=(0.5, 1.0), flip="random")
    experiment = begin(str(data), "default", fields, out=out)
    assert isinstance(experiment.setting.train, Streamed)
    for event in proceed(experiment):
        if isinstance(event, StepEnd) and event.step == stop_after:
            pause(experiment)
            break
    if stop_after is not None:
        experiment = resume(out)
        for _ in proceed(experiment):
            pass
    finish(experiment)
    return (out / "model.safetensors").read_bytes()


def test_weights_are_the_same_with_without_and_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filling = weights(data, tmp_path / "filling")
    assert weights(data, tmp_path / "full") == filling
    assert weights(data, tmp_path / "resumed", stop_after=3) == filling
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "another"))
    assert weights(data, tmp_path / "resumed while filling", stop_after=3) == filling
    monkeypatch.setenv("RESIDUAL_CACHE", "off")
    assert weights(data, tmp_path / "without") == filling


def test_a_device_s_own_memory_counts_where_it_is_the_smaller() -> None:
    frame = Frame(size=(100, 100), channels=3)  # 1,000 of them take 30 MB, and two fifths of 64 MiB are 27
    small, large = (memory_plan(1000, frame, device_free=size) for size in (2**26, 2**60))
    assert str(small) == "28.6 MiB of pictures do not fit into 40% of 64.0 MiB free memory on the GPU"
    assert (small.place, large.place, large.where) == ("stream", "memory", "free memory")
