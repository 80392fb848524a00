"""A run's folder is read back as it was written, also after a process was killed while writing."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from residual.plan import plan
from residual.recipe import EpochEnd, Recipe, adjusted
from residual.runs import Run, open_run
from residual.weights import SavedModel, initialise, save
from tests.nets import SMALL


def end(epoch: int, accuracy: float = 0.5) -> EpochEnd:
    return EpochEnd(epoch=epoch, steps=7 * epoch, train_loss=1.5, train_accuracy=accuracy, losses=(2.0, 1.0), seconds=0.5)


def test_the_record_comes_back(tmp_path: Path) -> None:
    recipe = adjusted(Recipe(), {"epochs": 3, "milestones": (0.1, 0.2)})
    Run(folder=tmp_path, record={"recipe": asdict(recipe), "data": {"classes": ["a", "é"]}, "test_openings": []}).write()
    found = open_run(str(tmp_path))
    assert found.folder == tmp_path
    assert found.recipe == recipe
    assert found.classes == ("a", "é")
    assert found.record.keys() == {"recipe", "data", "test_openings"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_events_come_back_in_order(tmp_path: Path) -> None:
    run = Run(folder=tmp_path)
    assert list(run.events()) == []
    for epoch in (1, 2, 3):
        run.append(end(epoch))
    assert list(run.events()) == [end(1), end(2), end(3)]


def test_events_are_sorted_by_epoch(tmp_path: Path) -> None:
    run = Run(folder=tmp_path)
    for epoch in (2, 10, 1):
        run.append(end(epoch))
    assert [event.epoch for event in run.events()] == [1, 2, 10]


def test_an_epoch_that_was_run_again_counts_once(tmp_path: Path) -> None:
    run = Run(folder=tmp_path)
    for event in (end(1), end(2, 0.1), end(3, 0.2), end(2, 0.8)):
        run.append(event)
    assert list(run.events()) == [end(1), end(2, 0.8), end(3, 0.2)]


@pytest.mark.parametrize("cut", [1, 20, 5000])
def test_a_line_that_was_being_written_costs_only_itself(tmp_path: Path, cut: int) -> None:
    run = Run(folder=tmp_path)
    run.append(end(1))
    run.append(end(2))
    path = tmp_path / "events.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    kept = second[: max(len(second) - 1 - cut, 1)]
    path.write_bytes(first + kept)
    assert list(run.events()) == [end(1)]
    run.append(end(2, 0.9))
    run.append(end(3))
    assert list(run.events()) == [end(1), end(2, 0.9), end(3)]


def test_the_model(tmp_path: Path) -> None:
    weights = initialise(plan(SMALL), 5)
    save(tmp_path / "model.safetensors", SavedModel(architecture=SMALL, weights=weights))
    assert (Run(folder=tmp_path).saved().weights["fc.weight"] == weights["fc.weight"]).all()


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run folder .*nowhere"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not a run: it has no run.json"):
        open_run(tmp_path)
    with pytest.raises(ValueError, match=r"There is no model file"):
        Run(folder=tmp_path).saved()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"format_version": 99}), "\x00"])
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json (is damaged|was not written by this version)"):
        open_run(tmp_path)
