"""`residual reproduce`: counted, trained, killed and gone on with, studied, read from runs; and mistakes in one sentence."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residual.architecture import Architecture
from residual.cli import main
from residual.recipe import EpochEnd
from residual.runs import open_run
from residual.study import degradation, store
from residual.study.targets import TARGETS
from residual.weights import Weights, initialise
from tests.examples.runs import sample
from tests.launched import Launched

FIG7 = ["reproduce", "fig7", "--small", "--data", "digits"]


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the small figure 7 was made on digits."""
    place = tmp_path_factory.mktemp("fig7")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(FIG7) == 0
    return place


def test_help_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in TARGETS)


def test_table_1_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "table1"]) == 0
    said = capsys.readouterr().out
    assert "Verdict: differs." in said
    assert main(["reproduce", "table1", "--json", "--out", "other"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["what"]: row for row in told["result"]["rows"]}
    assert rows["ResNet-18, option A, multiply-adds"]["verdict"] == "agrees"
    assert rows["ResNet-50, multiply-adds"]["values"] == pytest.approx([3.857973248])
    assert {name for name, row in rows.items() if row["verdict"] == "differs"} == {
        "ResNet-34, option B, multiply-adds", "ResNet-50, multiply-adds",
    }  # fmt: skip
    assert rows["conv4_x, output side"]["values"] == [14.0] * 7
    assert rows["ResNet-152, parameters"]["verdict"] == "agrees"
    assert told["scaled_down"] == []
    page = (tmp_path / "results/table1/result.md").read_text()
    assert "| ResNet-50, multiply-adds | 3.8 billion | 3.858 billion | 1 | differs |" in page
    assert store.load(tmp_path / "results/table1").result == store.load(tmp_path / "other").result
    assert not (tmp_path / "runs").exists()


def test_a_killed_reproduction_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed in the training of the second seed: the first is not trained again, the second one is resumed."""
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "d2l", "--small", "--data", str(sample(tmp_path / "some")), "--seeds", "2"]
    work = tmp_path / "runs/reproduce/d2l-small-some"
    second = work / "runs/resnet18_d2l-seed1/run.json"
    process, end = Launched(command, tmp_path / "said.txt"), time.monotonic() + 300
    while not second.is_file() and process.runs and time.monotonic() < end:
        time.sleep(0.02)
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL, process.said
    assert open_run(second.parent).record["status"] == "training"
    assert not (tmp_path / "results").exists()
    before = {path: path.stat().st_mtime_ns for path in work.glob("parts/*.json")}
    began = json.loads(second.read_text())["began"]
    assert len(before) == 2  # the settings and the first seed
    assert main(command) == 0
    assert json.loads(second.read_text())["began"] == began
    assert {path: path.stat().st_mtime_ns for path in before} == before
    finding = store.load(tmp_path / "results/d2l")
    rows = {row.what.partition(", ")[2]: row for row in finding.result.rows}
    tests = [open_run(work / f"runs/resnet18_d2l-seed{seed}").record["result"]["test"]["top1"] for seed in (0, 1)]
    assert rows["test accuracy"].values == tuple(tests)
    assert rows["test accuracy"].lacks == ("too few seeds", "scaled down", "other data")
    assert finding.result.told == "too few seeds / scaled down / other data to tell"
    assert any("1 epochs instead of 10" in sentence and "32 instead of 96" in sentence for sentence in finding.scaled_down)
    assert any("some (256 and 64 pictures) instead of fashion-mnist" in sentence for sentence in finding.scaled_down)
    assert capsys.readouterr().out.startswith("The chapter's ResNet-18 on Fashion-MNIST")


def test_figure_7_has_the_verdicts_of_its_study(figure: Path) -> None:
    finding = store.load(figure / "results/fig7")
    work = figure / "runs/reproduce/fig7-small-digits"
    study = store.load(work / "study-of-4")
    assert finding.result.claims == study.result.claims
    assert [model.trained for model in study.result.models] == [True] * 4
    assert {curve.net for curve in finding.result.curves} == {"ResNet-8", "plain-8", "ResNet-14", "plain-14"}
    assert [len(curve.train) for curve in finding.result.curves] == [2] * 4
    assert set(finding.result.lacks) >= {"too few seeds", "scaled down", "other data"}
    assert all(name in " ".join(finding.scaled_down) for name in ("2 epochs", "side 16", "1000 of 12"))
    page = (figure / "results/fig7/result.md").read_text()
    assert all(claim.reason in page for claim in finding.result.claims)
    run = open_run(work / "runs/cifar_plain8-seed0")
    assert [opening["by"] for opening in run.record["test_openings"]] == ["train"]  # the study looked at training pictures


def test_the_runs_of_a_landscape(figure: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(figure)
    runs = [f"runs/reproduce/fig7-small-digits/runs/cifar_{kind}8-seed0" for kind in ("resnet", "plain")]
    assert main(["reproduce", "landscape", "--small", "--run", *runs]) == 0
    capsys.readouterr()
    result = store.load(figure / "results/landscape").result
    assert result.mode == "runs"
    assert len(result.claims) == 4
    assert "too few to tell" not in [claim.verdict for claim in result.claims]  # three planes for each net
    assert all(row.verdict == "cannot tell" for row in result.rows)
    assert main(["reproduce", "landscape", "--run", runs[0], runs[0]]) == 2
    assert "Two of the runs are ResNet-8 from seed 0" in capsys.readouterr().err


def test_an_unfinished_run_says_so(figure: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from residual.training.experiment import begin, pause, proceed

    fields = {"image_size": 32, "epochs": 2, "batch_size": 1024}
    stopped = begin(str(sample(tmp_path / "some")), "d2l", fields, out=tmp_path / "stopped")
    next(event for event in proceed(stopped) if isinstance(event, EpochEnd))
    pause(stopped)
    assert main(["reproduce", "d2l", "--run", str(tmp_path / "stopped"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "the run is not finished, 1 of 2 epochs are done" in said
    assert "Not measured: ResNet-18 of the chapter, test accuracy." in said
    assert open_run(tmp_path / "stopped").record["test_openings"] == []
    assert main(["reproduce", "table6", "--run", str(tmp_path / "stopped"), "--out", str(tmp_path / "out")]) == 2
    assert "is a resnet18_d2l, which table6 has not" in capsys.readouterr().err


def degrading(folder: Path) -> Path:
    """A result of the study of degradation, from trainings whose errors are made up: plain nets get worse, residual ones better."""

    def train(arch: Architecture, seed: int) -> tuple[list[EpochEnd], Weights]:
        deeper = sum(arch.depths) / 100 * (1 if arch.shortcut == "none" else -1)
        from residual.plan import plan

        end = EpochEnd(
            epoch=1, steps=1, train_loss=1.0, train_accuracy=0.5 - deeper - seed / 1000, validation_accuracy=0.25, seconds=2.0
        )  # fmt: skip
        return [end], initialise(plan(arch), seed)

    def norms(network: Any, weights: Weights) -> dict[str, float]:
        return {name: float(np.abs(value).mean()) + 1 for name, value in weights.items() if name.endswith("conv1.weight")}

    grid = degradation.Grid(depths=(8, 20), widths=(2, 2, 2), seeds=3, in_channels=3, num_classes=10)
    data = {"name": "/far/away/letters", "count": 10, "of": 20, "split": "train", "seed": 0}
    scaled = ("Depths 8-20 instead of 20-32.", "/far/away/letters instead of CIFAR-10.")
    degradation.study(train, norms, grid, settings={}, data=data, scaled_down=scaled, out=folder)
    return folder


def test_figure_6_is_read_from_its_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", "fig6", "--run", str(degrading(tmp_path / "study")), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["result"]["told"] == "agrees (scaled down, other data)"
    assert "Plain nets: the deepest is worse" in told["result"]["claims"][0]["claim"]
    assert told["result"]["curves"][0]["net"] == "plain-8"
    assert told["scaled_down"] == ["Depths 8-20 instead of 20-32.", "letters instead of CIFAR-10."]
    assert told["data"]["name"] == "letters"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "needs a TARGET: table1, table6"),
        (["tabel6"], "There is no target 'tabel6' to reproduce. Did you mean 'table6'?"),
        (["fig-7"], "Did you mean 'fig7'?"),
        (["table1", "--data", "digits"], "table1 is counted, not trained"),
        (["table1", "--run", "gone"], "table1 is counted, not trained"),
        (["fig7", "--small", "--full"], "two protocols: choose one"),
        (["fig7", "--small", "--seeds", "-1"], "seeds is -1, but must be at least 1"),
        (["fig7", "--small", "--seeds", "two"], "--seeds is 'two', but must be a whole number"),
        (["fig7", "--small", "--data", "digit"], "Did you mean 'digits'"),
        (["d2l", "--small", "--run", "gone"], "There is no run folder gone"),
        (["d2l", "--small", "--run", "gone", "--data", "digits"], "leave out --data and --seeds"),
        (["fig6", "--small", "--run", "gone"], "There is no study's result in gone"),
        (["fig6", "--small", "--run", "a", "b"], "one result of `residual study degradation`, not from 2"),
        (["fig7", "--smal"], "Did you mean '--small'?"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert not (tmp_path / "results").exists()
