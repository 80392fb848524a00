"""A whole training in another framework than PyTorch, on 48 pictures of two kinds, as `residual train --backend` does it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import residual
from residual.runs import open_run
from residual.training import experiment
from residual.weights import load

FIELDS: dict[str, Any] = {
    "model": "cifar_resnet8", "epochs": 3, "batch_size": 8, "learning_rate": 0.05, "flip": "random", "crop_padding": 1, "validation": 0.2,
}  # fmt: skip


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Bright above or bright below, N 10 10 3."""
    stream = np.random.default_rng(5)
    labels = np.arange(48) % 2
    images = stream.integers(0, 120, (48, 10, 10, 3), np.uint8)
    images[labels == 0, :5] += 100
    images[labels == 1, 5:] += 100
    return images, labels


def check_a_run(backend: str, folder: Path) -> None:
    """The run folder is whole, and the model in it scores the same in `backend` and in PyTorch."""
    data = pictures()
    run = residual.train(data, backend=backend, out=folder / "whole", **FIELDS)
    record = open_run(run.folder).record
    assert (record["backend"], record["status"], len(record["test_openings"])) == (backend, "finished", 1)
    assert [end.epoch for end in run.events()] == [1, 2, 3]
    assert all(end.validation_accuracy is not None and len(end.losses) == end.steps / end.epoch for end in run.events())
    for name in ("model.safetensors", "checkpoint/last.safetensors", "evaluation-test.json", "tensorboard"):
        assert (run.folder / name).exists(), name
    here = residual.evaluate(run, data, split="train", backend=backend)
    there = residual.evaluate(run, data, split="train", backend="torch")
    assert here.top1 == there.top1 > 0.6
    assert here.loss == pytest.approx(there.loss, rel=1e-5)
    told = [residual.predict(run, data[0][:4], backend=name) for name in (backend, "torch")]
    assert [prediction.classes for prediction in told[0]] == [prediction.classes for prediction in told[1]]


def check_a_resumed_run(backend: str, folder: Path) -> None:
    """Stopped after its first epoch and resumed, a training ends in the very weights of the unbroken one."""
    data = pictures()
    whole = residual.train(data, backend=backend, out=folder / "whole", **FIELDS)
    begun = experiment.begin(data, "default", FIELDS, backend=backend, out=folder / "parts")
    next(experiment.proceed(begun))
    experiment.pause(begun)
    resumed = experiment.resume(folder / "parts", data)
    assert resumed.state.epoch == 1
    assert [event.epoch for event in experiment.proceed(resumed)] == [2, 3]
    experiment.finish(resumed)
    wanted, found = (load(path / "model.safetensors").weights for path in (whole.folder, folder / "parts"))
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
