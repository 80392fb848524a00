"""Whole trainings on real pictures: what a run folder holds, who may open the test set, and data that does not fit into memory."""

import json
import os
import platform
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual.backends import allocator
from residual.data import memory_plan, open_source
from residual.plan import plan
from residual.recipe import EpochEnd
from residual.runs import open_run
from residual.training import prepare as prepare_module
from residual.training.experiment import begin, finish, pause, proceed, resume
from residual.training.prepare import prepare, splits
from residual.training.recipes import recipe
from residual.weights import initialise, load

FIELDS = dict(model="cifar_resnet8", epochs=3, batch_size=8)


def pictures(root: Path, count: int = 24, size: tuple[int, int] = (40, 30)) -> Path:
    """Two classes, red and blue, as JPEG files; one file is broken."""
    stream = np.random.default_rng(0)
    for name, channel in (("blue", 2), ("red", 0)):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = stream.integers(0, 90, (*size, 3)).astype(np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(root / name / f"{index:03}.jpg")
    (root / "blue" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a jpeg")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> residual.Run:
    root = tmp_path_factory.mktemp("experiment")
    return residual.train(str(pictures(root / "pictures")), out=root / "run", **FIELDS)  # type: ignore[arg-type]


def test_run_folder_holds_everything(run: residual.Run) -> None:
    for name in ("run.json", "events.jsonl", "model.safetensors", "checkpoint/last.safetensors", "evaluation-test.json", "tensorboard"):
        assert (run.folder / name).exists(), name
    record = open_run(run.folder).record
    assert record["status"] == "finished"
    assert record["model"] == "cifar_resnet8"
    assert record["data"]["classes"] == ["blue", "red"]
    assert [Path(problem["file"]).name for problem in record["data"]["problems"]] == ["broken.jpg"]
    assert len(record["split"]["hash"]) == 64
    assert {"torch", "numpy", "python", "residual"} <= set(record["versions"])
    assert len(list(run.events())) == 3
    assert not list(run.folder.rglob("*.part"))


def test_red_and_blue_are_told_apart(run: residual.Run) -> None:
    assert run.record["result"]["test"] == {"count": 10, "top1": 1.0, "top5": 1.0}


def test_counts_add_up(run: residual.Run) -> None:
    split = run.record["split"]
    assert split["train"] + split["validation"] + 10 == 48  # the broken one is in none of them


def test_memory_is_kept_once_a_step_is_done(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    data = (stream.integers(0, 256, (40, 16, 16, 1), np.uint8), np.arange(40) % 2)
    experiment = begin(data, "default", {**FIELDS, "epochs": 1}, out=tmp_path / "run")
    kept = [allocator._keeping for _ in proceed(experiment)]
    if platform.libc_ver()[0] != "glibc" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        assert not any(kept), "malloc is left alone"
    else:
        assert set(kept) == {1}
    assert allocator._keeping == 0


def test_test_set_is_opened_once_and_every_opening_is_logged(run: residual.Run) -> None:
    assert [opening["by"] for opening in open_run(run.folder).record["test_openings"]] == ["train"]
    residual.evaluate(run.folder)
    assert [opening["by"] for opening in open_run(run.folder).record["test_openings"]] == ["train", "evaluate"]
    residual.evaluate(run.folder, split="validation")
    assert len(open_run(run.folder).record["test_openings"]) == 2


def test_test_pictures_are_read_by_nobody_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the test split are unreadable until training is over: nothing notices."""
    root = pictures(tmp_path / "pictures")
    held = set(open_source(root).splits["test"].names)
    experiment = begin(str(root), "default", FIELDS, out=tmp_path / "run")
    hidden = {name: Path(name).read_bytes() for name in held}
    for name in held:
        Path(name).unlink()
    for _ in proceed(experiment):
        pass
    for name, content in hidden.items():
        Path(name).write_bytes(content)
    assert finish(experiment).count == 10


def test_validation_cut_is_recomputed_exactly(run: residual.Run) -> None:
    source = open_source(run.record["data"]["source"])
    found = splits(source, run.recipe, [problem["file"] for problem in run.record["data"]["problems"]])
    assert len(found["validation"]) == run.record["split"]["validation"]
    assert not set(found["train"].names) & set(found["validation"].names)
    assert not set(found["train"].names) & set(found["test"].names)
    accuracy = residual.evaluate(run.folder, split="validation").top1
    assert accuracy == pytest.approx(run.record["result"]["validation_accuracy"])


def test_streamed_training_sees_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that does not fit is decoded by worker processes, and gives the same batches as data in memory."""
    source = open_source(pictures(tmp_path / "pictures"))
    fields = recipe("default", image_size=24, batch_size=8)
    resident = prepare(source, fields, (24, 24), 3, device=torch.device("cpu"))
    monkeypatch.setattr(prepare_module, "memory_plan", lambda count, frame, **_: memory_plan(count, frame, share=1e-9))
    streamed = prepare(source, fields, (24, 24), 3, device=torch.device("cpu"))
    assert (resident.plan.place, streamed.plan.place) == ("memory", "stream")
    assert resident.split["hash"] == streamed.split["hash"]
    assert resident.problems == streamed.problems
    assert resident.preprocessing == streamed.preprocessing
    chunks = [np.array([3, 1, 4]), np.array([15, 9])]
    for ours, theirs in zip(streamed.train.read(chunks), resident.train.read(chunks), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert streamed.validation is not None
    assert len(streamed.validation) == len(resident.validation)  # type: ignore[arg-type]


def test_picture_that_breaks_late_is_left_out_of_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(pictures(tmp_path / "pictures"))
    monkeypatch.setattr(prepare_module, "memory_plan", lambda count, frame, **_: memory_plan(count, frame, share=1e-9))
    feed = prepare(source, recipe("default", validation=0.0), (24, 24), 3, device=torch.device("cpu")).train
    victim = feed.lazy.names[2]  # type: ignore[attr-defined]
    Path(victim).write_bytes(b"gone bad")
    images, labels, index = next(iter(feed.read([np.array([1, 2, 5])])))
    assert index.tolist() == [1, 5]
    assert len(images) == len(labels) == 2
    assert list(feed.problems) == [victim]  # type: ignore[attr-defined]


def test_best_epoch_is_kept_where_the_recipe_says_so(tmp_path: Path) -> None:
    run = residual.train(
        "digits", "cifar_resnet8", out=tmp_path / "run", epochs=4, batch_size=64, keep="best", learning_rate=0.5, precision="float32"
    )
    ends = list(run.events())
    best = max(end.validation_accuracy or 0 for end in ends)
    assert run.record["result"]["validation_accuracy"] == best
    assert residual.evaluate(run, split="validation").top1 == pytest.approx(best)


def test_snapshots_are_the_path_to_the_kept_model(tmp_path: Path) -> None:
    experiment = begin(
        "digits", "default", {"model": "cifar_resnet8", "batch_size": 128, "snapshots": True, "epochs": 3, "ema": 0.9}, out=tmp_path / "run"
    )
    first = initialise(plan(experiment.architecture), experiment.setting.recipe.seed)
    for event in proceed(experiment):
        if isinstance(event, EpochEnd) and event.epoch == 2:
            break
    pause(experiment)
    for _ in proceed(resume(tmp_path / "run")):
        pass
    files = [tmp_path / "run/snapshots" / f"epoch-{number}.safetensors" for number in range(4)]
    assert sorted((tmp_path / "run/snapshots").iterdir()) == files
    stops = [load(file).weights for file in files]
    for name, value in load(tmp_path / "run/model.safetensors").weights.items():
        assert np.array_equal(stops[0][name], first[name]), name
        assert np.array_equal(stops[-1][name], value), name
    assert not any(np.array_equal(one["fc.weight"], two["fc.weight"]) for one, two in pairwise(stops))


def test_averaged_weights_are_what_is_saved_and_measured(tmp_path: Path) -> None:
    """In float32, as `evaluate` does it: a picture on the border may fall to the other side in bfloat16."""
    run = residual.train("digits", "cifar_resnet8", out=tmp_path / "run", epochs=2, batch_size=64, ema=0.9, precision="float32")
    assert residual.evaluate(run, split="validation").top1 == pytest.approx(list(run.events())[-1].validation_accuracy)


def test_resume_refuses_other_data_and_continues_on_its_own(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (60, 9, 8)).astype(np.uint8), np.arange(60) % 3
    experiment = begin((images, labels), "default", FIELDS, out=tmp_path / "run")
    next(iter(proceed(experiment)))
    pause(experiment)
    with pytest.raises(ValueError, match="is not what the run"):
        resume(tmp_path / "run", (255 - images, labels))
    again = resume(tmp_path / "run", (images, labels))
    assert again.state.step == 1
    for _ in proceed(again):
        pass
    assert finish(again).count == 12
    with pytest.raises(ValueError, match="is finished"):
        resume(tmp_path / "run", (images, labels))


def test_data_with_its_own_validation_split_uses_it(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        pictures(tmp_path / "data" / name, count=8)
    run = residual.train(str(tmp_path / "data"), out=tmp_path / "run", **FIELDS)  # type: ignore[arg-type]
    assert run.record["split"]["rule"] == "the data's own"
    assert (run.record["split"]["train"], run.record["split"]["validation"]) == (16, 16)


def test_saved_model_travels(run: residual.Run, tmp_path: Path) -> None:
    """The one file predicts what the run predicts, wherever it lies."""
    moved = tmp_path / "model.safetensors"
    moved.write_bytes((run.folder / "model.safetensors").read_bytes())
    files = sorted(Path(run.record["data"]["source"]).rglob("00*.jpg"))[:4]
    ours, theirs = residual.predict(run, files), residual.predict(moved, files)
    assert [p.probabilities for p in ours] == [p.probabilities for p in theirs]


def test_events_are_plain_json_lines(run: residual.Run) -> None:
    for line in (run.folder / "events.jsonl").read_text().splitlines():
        assert {"epoch", "train_loss", "validation_accuracy", "learning_rate", "losses"} <= set(json.loads(line))
