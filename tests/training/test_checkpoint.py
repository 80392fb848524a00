"""Checkpoints: a training that stops anywhere, a killed process included, ends in the very bits of the unbroken one."""

import hashlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from residual.recipe import EpochEnd
from residual.runs import open_run
from residual.training import checkpoint
from residual.training.loop import fit
from tests.launched import Launched

from .test_loop import BASE, setup, steps_of

HARD = replace(
    BASE, epochs=3, flip="alternate", crop_padding=1, erasing=0.3, mixup=0.3, cutmix=0.5, ema=0.95, warmup_rate=0.01, momentum=0.9
)
COMMAND = ["train", "digits", "--epochs", "40", "--batch-size", "64", "--model", "cifar_resnet8", "--ema", "0.99", "--no-report"]

PRUNED = {"mixup": 0.0, "cutmix": 0.0, "data_pruning": 0.8, "pruning_from": 1}


@pytest.mark.parametrize(
    ("changes", "stop"),
    [({"optimizer": name}, stop) for name in ("sgd", "adamw", "muon") for stop in (1, 3, 4, 7, 11)]
    + [(PRUNED, stop) for stop in (1, 4, 5, 7)],
    ids=str,
)
def test_resumed_weights_are_bit_identical(tmp_path: Path, stop: int, changes: dict[str, Any]) -> None:
    recipe = replace(HARD, **changes)
    whole, setting = setup(recipe)
    ends = [event for event in fit(whole, setting) if isinstance(event, EpochEnd)]
    first, setting = setup(recipe)
    list(steps_of(first, setting, stop))
    checkpoint.save(tmp_path, first)
    second, setting = setup(recipe, seed=5)  # other first values: all must come from the checkpoint
    checkpoint.restore(tmp_path, second)
    resumed = [event for event in fit(second, setting) if isinstance(event, EpochEnd)]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert whole.average is not None
    assert second.average is not None
    assert all(torch.equal(value, second.average[name]) for name, value in whole.average.items())
    assert resumed[-1].losses == ends[-1].losses
    assert resumed[-1].train_accuracy == ends[-1].train_accuracy


def test_a_checkpoint_with_whole_counts_goes_on(tmp_path: Path) -> None:
    """Those written before counts could be weighed."""
    state, setting = setup(HARD)
    list(steps_of(state, setting, 2))
    state.right = state.right.to(torch.int64)
    checkpoint.save(tmp_path, state)
    other, setting = setup(HARD)
    checkpoint.restore(tmp_path, other)
    assert [event.step for event in steps_of(other, setting, 3)] == [3]


def test_checkpoint_keeps_channels_last_momentum(tmp_path: Path) -> None:
    state, setting = setup(HARD)
    state.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    list(steps_of(state, setting, 2))
    checkpoint.save(tmp_path, state)
    other, _ = setup(HARD)
    other.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint.restore(tmp_path, other)
    for parameter in other.model.parameters():
        assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


@pytest.mark.parametrize("damage", ["truncated", "text", "other net", "missing"])
def test_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    state, _ = setup(HARD)
    checkpoint.save(tmp_path, state)
    path = tmp_path / checkpoint.CHECKPOINT
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "missing":
        path.unlink()
    else:
        from .test_loop import NET

        state, _ = setup(HARD, arch=replace(NET, num_classes=5))
    with pytest.raises(ValueError, match="checkpoint") as error:
        checkpoint.restore(tmp_path, state)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def begun(run: Path, threads: int = 1) -> Launched:
    return Launched([*COMMAND, "--out", str(run)], run.with_name("said.txt"), threads=threads)


def resumed(run: Path, threads: int = 1) -> Launched:
    return Launched(["train", "--resume", str(run), "--no-report"], run.with_name("said.txt"), threads=threads)


Unbroken = Callable[[int], Path]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """Number of threads -> a run that nothing stopped."""

    @cache
    def run_with(threads: int) -> Path:
        run = tmp_path_factory.mktemp("unbroken") / "run"
        process = begun(run, threads)
        assert process.ended() == 0, process.said
        return run

    return run_with


def epochs_of(run: Path) -> int:
    file = run / "events.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def saved_step(run: Path) -> int:
    with safe_open(run / checkpoint.CHECKPOINT, framework="pt") as file:
        return int(json.loads(file.metadata()["state"])["step"])


def kill_when(process: Launched, run: Path, epochs: int) -> None:
    """SIGKILL in the midst of the epoch after `epochs` of them were written, and after a checkpoint of one of them was."""
    deadline = time.monotonic() + 120
    while process.runs and time.monotonic() < deadline:
        if (run / "run.json").exists() and epochs_of(run) >= epochs and (saved_step(run) > 0) >= (epochs > 0):
            break
        time.sleep(0.01)
    time.sleep(0.05)
    process.signal(signal.SIGKILL)
    assert process.ended() in (-signal.SIGKILL, 0), process.said


@pytest.mark.parametrize(
    ("threads", "epochs"),
    [(1, 0), (1, 3), pytest.param(2, 2, marks=pytest.mark.slow)],  # two wait for each other on a busy machine
)
def test_killed_process_resumes_to_the_same_bits(tmp_path: Path, unbroken: Unbroken, threads: int, epochs: int) -> None:
    """SIGKILL within an epoch, again one epoch after resuming, then to the end."""
    run = tmp_path / "run"
    kill_when(begun(run, threads), run, epochs)
    assert open_run(run).record["status"] != "finished"
    kill_when(resumed(run, threads), run, epochs_of(run) + 1)
    if open_run(run).record["status"] != "finished":
        process = resumed(run, threads)
        assert process.ended() == 0, process.said
    assert digest(run) == digest(unbroken(threads))
    strip = [(end.epoch, end.losses, end.validation_accuracy) for end in open_run(run).events()]
    assert strip == [(end.epoch, end.losses, end.validation_accuracy) for end in open_run(unbroken(threads)).events()]


def test_interrupt_keeps_the_state_and_says_how_to_resume(tmp_path: Path, unbroken: Unbroken) -> None:
    run = tmp_path / "run"
    process = begun(run)
    deadline = time.monotonic() + 120
    while not (run / "events.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.signal(signal.SIGINT)
    assert process.ended() == 130, process.said
    assert f"residual train --resume {run}" in process.said
    process = resumed(run)
    assert process.ended() == 0, process.said
    assert "Resuming after step" in process.said
    assert digest(run) == digest(unbroken(1))
