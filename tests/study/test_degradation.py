"""Constructed errors give the verdicts they must; a real study is killed, goes on, and computes nothing twice."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from residual.architecture import Architecture
from residual.cli import main
from residual.cli.degradation import PAPER, SMALL, recipe_of, scaled_down
from residual.layers import Network
from residual.plan import plan
from residual.recipe import EpochEnd
from residual.study.degradation import Grid, Result, Train, architecture, study
from residual.study.store import load
from residual.variants import architecture as variant
from residual.weights import Weights, initialise
from tests.launched import Launched

GRID = Grid(depths=(8, 14, 20), widths=(4, 8, 16), seeds=3, in_channels=3, num_classes=10)
Error = Callable[[str, int, int], float]


def _train(error: Error, calls: list[tuple[str, int, int]] | None = None) -> Train:
    """Two epochs whose last training error is `error(kind, depth, seed)`; validation is 5 % worse."""

    def train(arch: Architecture, seed: int) -> tuple[Sequence[EpochEnd], Weights]:
        kind, depth = "plain" if arch.shortcut == "none" else "residual", 2 * sum(arch.depths) + 2
        if calls is not None:
            calls.append((kind, depth, seed))
        ends = [
            EpochEnd(epoch=n, steps=n, train_loss=wrong, train_accuracy=1 - wrong, validation_accuracy=0.95 - wrong, seconds=n)
            for n, wrong in ((1, 0.9), (2, error(kind, depth, seed)))
        ]
        return ends, initialise(plan(arch), seed)

    return train


def _norms(network: Network, weights: Weights) -> dict[str, float]:
    return {name: float(np.linalg.norm(value)) for name, value in weights.items() if value.ndim > 1}


def _study(error: Error, grid: Grid = GRID, out: Path | None = None, calls: list[tuple[str, int, int]] | None = None) -> Result:
    result: Result = study(_train(error, calls), _norms, grid, settings={"a": 1}, data={}, out=out).result
    return result


def _paper(kind: str, depth: int, seed: int) -> float:
    """Plain nets get worse by 0.5 % a layer, residual ones better; the seeds lie within 2 %."""
    return 0.3 + (0.005 if kind == "plain" else -0.005) * depth + 0.01 * seed


@pytest.mark.parametrize(
    ("error", "seeds", "verdicts", "words"),
    [
        (_paper, 3, ("agrees", "agrees", "agrees"), "Shown."),
        (
            lambda kind, depth, seed: _paper("residual" if kind == "plain" else "plain", depth, seed),
            3,
            ("differs",) * 3,
            "Not shown, the opp",
        ),
        (lambda kind, depth, seed: _paper(kind, depth, 20 * seed), 3, ("within the spread",) * 3, "Not shown, the seeds overlap."),
        (_paper, 2, ("too few to tell",) * 3, "Too few seeds to tell (at least 3 are needed)."),
    ],
)
def test_the_verdicts_follow_the_errors(error: Error, seeds: int, verdicts: tuple[str, ...], words: str) -> None:
    grid = Grid(depths=GRID.depths, widths=GRID.widths, seeds=seeds, in_channels=3, num_classes=10)
    found = _study(error, grid)
    assert tuple(claim.verdict for claim in found.claims[:3]) == verdicts
    assert all(claim.reason.startswith(words) for claim in found.claims[:2])


def test_a_step_that_goes_the_other_way_is_not_hidden_by_the_ends() -> None:
    """Among residual nets 14 layers are the best and 20 worse again, though better than 8; the plain nets are the paper's."""
    bent = {8: 0.3, 14: 0.1, 20: 0.2}
    found = _study(lambda kind, depth, seed: _paper(kind, depth, seed) if kind == "plain" else bent[depth] + 0.01 * seed)
    assert [claim.verdict for claim in found.claims] == ["agrees", "agrees", "agrees", "agrees", "agrees", "differs"]
    assert found.claims[5].reason == "Training error of 20 below 14 layers: differs; 14 below 8 layers: agrees."
    assert [claim.verdict for claim in _study(_paper).claims] == ["agrees"] * 6


def test_errors_by_epoch_with_their_spread() -> None:
    found = _study(_paper)
    assert [(net.kind, net.depth) for net in found.nets] == [(kind, depth) for kind in ("plain", "residual") for depth in GRID.depths]
    net = found.nets[0]
    assert [value.mean for value in net.train_error] == pytest.approx([0.9, 0.35])
    assert (net.final_train.low, net.final_train.high, net.final_train.count) == (pytest.approx(0.34), pytest.approx(0.36), 3)
    assert net.final_validation.mean == pytest.approx(0.40)
    curve = found.curves[0]
    expected = _norms(plan(architecture(GRID, "plain", 8)), initialise(plan(architecture(GRID, "plain", 8)), 0))
    assert dict(zip(curve.layers, curve.gradients_first, strict=True)) == pytest.approx(expected)
    assert found.claims[3].verdict == "agrees"


def test_a_vanishing_gradient_is_seen() -> None:
    def vanishing(network: Network, weights: Weights) -> dict[str, float]:
        return {name: 1e-4 if name == "conv1.weight" else 1.0 for name in _norms(network, weights)}

    found = study(_train(_paper), vanishing, GRID, settings={}, data={}).result
    assert found.claims[3].verdict == "differs"
    assert "8 layers 0% before training" in found.claims[3].reason


def test_nets_are_the_paper_s() -> None:
    grid = Grid(depths=(20, 56), widths=(16, 32, 64), seeds=1, in_channels=3, num_classes=10)
    assert architecture(grid, "plain", 20) == variant("cifar_plain20")
    assert architecture(grid, "residual", 56) == variant("cifar_resnet56")


def test_a_stopped_study_goes_on_and_takes_more_seeds(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []

    def stopping(kind: str, depth: int, seed: int) -> float:
        if len(calls) == 5:
            raise KeyboardInterrupt
        return _paper(kind, depth, seed)

    with pytest.raises(KeyboardInterrupt):
        _study(stopping, out=tmp_path, calls=calls)
    done = calls[:4]
    calls.clear()
    found = _study(_paper, out=tmp_path, calls=calls)
    assert len(calls) == 18 - 4
    assert not set(done) & set(calls)
    assert found == _study(_paper)
    assert load(tmp_path).result == found
    calls.clear()
    more = Grid(depths=(8, 14, 20, 26), widths=GRID.widths, seeds=4, in_channels=3, num_classes=10)
    _study(_paper, more, out=tmp_path, calls=calls)
    assert len(calls) == 2 * 4 * 4 - 18
    with pytest.raises(ValueError, match="another a"):
        study(_train(_paper), _norms, GRID, settings={"a": 2}, data={}, out=tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"depths": (8, 21)}, "depths has 21, but a CIFAR net has 6n \\+ 2 layers .* Did you mean 20"),
        ({"depths": (8,)}, "at least two different numbers that rise"),
        ({"depths": (20, 8)}, "depths is 20,8"),
        ({"widths": (8, 16)}, "must be three numbers"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_a_grid_that_cannot_be(changes: dict[str, tuple[int, ...]], sentence: str) -> None:
    values = {"depths": (8, 20), "widths": (4, 8, 16), "seeds": 1, "in_channels": 3, "num_classes": 10, **changes}
    with pytest.raises(ValueError, match=sentence):
        Grid(**values)  # type: ignore[arg-type]


def test_what_is_scaled_down_is_said() -> None:
    data = {"name": "cifar10", "count": 50_000, "of": 50_000, "size": [32, 32], "held_out": 5000}
    assert scaled_down(PAPER, data) == ()
    assert recipe_of(PAPER, small=False).epochs == 182
    told = scaled_down(SMALL, data | {"name": "x", "count": 4000, "size": [16, 16]})
    assert len(told) == 6
    assert "4,000 of 50,000 pictures" in " ".join(told)


REAL = ["study", "degradation", "digits", "--small", "--depths", "8,14", "--widths", "4,4,4", "--epochs", "1", "--seeds", "2",
        "--count", "300", "--side", "8"]  # fmt: skip


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums have another order on two threads: the same numbers are asked for in two processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_real_study_is_killed_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r"
    arguments = [*REAL, "--out", str(out)]
    process = Launched(arguments, tmp_path / "said.txt")
    parts: list[Path] = []
    while process.runs and len(parts) < 2:
        time.sleep(0.02)
        parts = sorted(out.glob("parts/*seed*.json"))
    process.signal(signal.SIGKILL)
    assert process.ended() == -signal.SIGKILL, process.said
    before = {path: path.stat().st_mtime_ns for path in parts}
    assert before
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(out.glob("parts/*seed*.json"))) == 8
    whole = tmp_path / "whole"
    assert main([*REAL, "--out", str(whole), "--json"]) == 0
    fresh = json.loads(capsys.readouterr().out)
    for one, other in zip(told["result"]["curves"], fresh["result"]["curves"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("300 of 1,438 pictures of the train split of digits (seed 0)\n")
    assert "Too few seeds to tell" in said
    assert "Scaled down: Depths 8-14 instead of 20-32-44-56." in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--depths", "8,x"], "--depths is '8,x', but must be whole numbers"),
        (["--depths", "8,21"], "Did you mean 20"),
        (["--count", "10"], "count is 10, but must be 0"),
        (["--epochs", "0"], "epochs is 0"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*REAL[:4], *arguments, "--out", str(tmp_path / "r")]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "r").exists()
