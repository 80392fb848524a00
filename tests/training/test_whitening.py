"""The whitened first layer: what it puts out on the training pictures has no correlations, and training begins from it and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import residual
from residual.architecture import Stem
from residual.backends import torch as backend
from residual.data import Decoded
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.runs import open_run
from residual.training.experiment import begin, pause, proceed, resume
from residual.training.feed import Normaliser, Resident
from residual.training.whitening import whitened
from residual.variants import VARIANTS, architecture
from residual.weights import initialise, load

NET = replace(VARIANTS["cifar_resnet20"], depths=(1, 1, 1), num_classes=4, in_channels=1)
FIELDS = dict(epochs=1, batch_size=16, first_layer="whitened")


def smooth(count: int, channels: int = 1) -> np.ndarray:
    """Pictures N 12 14 C whose neighbouring pixels are alike."""
    noise = np.random.default_rng(0).normal(size=(count, 15, 17, channels))
    mean = sum(noise[:, i : i + 12, j : j + 14] for i in range(4) for j in range(4)) / 4
    return np.clip(mean * 40 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("stem", "channels", "width"), [("patch", 1, 16), ("patch", 1, 64), ("dense-patch", 1, 32), ("cifar", 3, 16), ("imagenet", 1, 16)]
)
def test_its_answers_are_uncorrelated(stem: Stem, channels: int, width: int) -> None:
    arch = replace(NET, stem=stem, in_channels=channels, stem_width=width, shortcut="projection")
    network, pictures = plan(arch), smooth(130, channels)
    feed = Resident(
        Decoded(images=pictures, labels=np.zeros(130, np.int64), names=(), problems=(), kept=np.arange(130)), None, torch.device("cpu")
    )
    clean = Preprocessing(size=(12, 14), channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels)
    normalise = Normaliser(clean, torch.device("cpu"))
    first = initialise(network, 3)
    found = whitened(first, network, feed, normalise)
    changed = {"conv1.weight", "bn1.running_mean", "bn1.running_var"}
    assert all(np.array_equal(found[name], first[name]) == (name not in changed) for name in first)
    filters = found["conv1.weight"]
    pairs = min(width // 2, filters[0].size)
    assert np.array_equal(filters[pairs : 2 * pairs], -filters[:pairs])
    assert np.array_equal(filters[2 * pairs :], first["conv1.weight"][2 * pairs :])
    x = normalise(torch.from_numpy(pictures))
    with torch.no_grad():  # as the net itself does it: with its strides, and zeros around
        answers = backend.build(network, weights=found).conv1(x).transpose(0, 1).flatten(1).double()
    assert found["bn1.running_mean"] == pytest.approx(answers.mean(1).numpy(), abs=1e-5)
    assert found["bn1.running_var"] == pytest.approx(answers.var(1, correction=0).clamp(min=0.01).numpy(), rel=1e-5)
    answers = answers[:pairs]
    products = (answers @ answers.T / answers.shape[1]).numpy()
    assert np.abs(products - np.diag(products.diagonal())).max() < 1e-3
    assert products.diagonal() == pytest.approx(np.ones(pairs), abs=0.1)
    assert (np.diff(products.diagonal()) < 1e-3).all()  # the strongest first: the weaker, the more the added variance takes


def test_a_net_without_batch_norm_behind_it() -> None:
    network = plan(architecture("cifar_preact_resnet110:preact_start=block", in_channels=1))
    feed = Resident(
        Decoded(images=smooth(9), labels=np.zeros(9, np.int64), names=(), problems=(), kept=np.arange(9)), None, torch.device("cpu")
    )
    clean = Preprocessing(size=(12, 14), channels=1, mean=(0.5,), std=(0.2,))
    first = initialise(network, 3)
    found = whitened(first, network, feed, Normaliser(clean, torch.device("cpu")))
    assert [name for name in first if not np.array_equal(first[name], found[name])] == ["conv1.weight"]


def test_training_begins_from_it_and_resumes(tmp_path: Path) -> None:
    data = smooth(64)[..., 0], np.arange(64) % 4
    experiment = begin(data, "default", {**FIELDS, "model": "cifar_resnet8", "ema": 0.9, "snapshots": True}, out=tmp_path / "run")
    now = backend.get_weights(experiment.state.model)  # type: ignore[arg-type]
    plain = begin(data, "default", {**FIELDS, "model": "cifar_resnet8", "first_layer": "random"}, out=tmp_path / "plain")
    then = backend.get_weights(plain.state.model)  # type: ignore[arg-type]
    changed = [name for name in now if not np.array_equal(now[name], then[name])]
    assert changed == ["conv1.weight", "bn1.running_mean", "bn1.running_var"]
    stop = load(tmp_path / "run/snapshots/epoch-0.safetensors").weights  # the averaged weights
    assert all(np.array_equal(now[name], stop[name]) for name in now)
    pause(experiment)
    again = backend.get_weights(resume(tmp_path / "run", data).state.model)  # type: ignore[arg-type]
    assert all(np.array_equal(now[name], again[name]) for name in now)


def test_a_frozen_first_layer_stays_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    data, fields = (smooth(64)[..., 0], np.arange(64) % 4), FIELDS | {"epochs": 2, "model": "cifar_resnet8", "first_layer": "frozen"}
    whole, broken = (begin(data, "default", fields, out=tmp_path / name) for name in ("whole", "broken"))
    first = backend.get_weights(whole.state.model)  # type: ignore[arg-type]
    list(proceed(whole))
    steps = proceed(broken)
    for _ in range(3):
        next(steps)
    pause(broken)
    again = resume(tmp_path / "broken", data)
    list(proceed(again))
    last, other = (backend.get_weights(run.state.model) for run in (whole, again))  # type: ignore[arg-type]
    frozen = {name for name in first if name.startswith(("conv1.", "bn1."))}
    assert len(frozen) == 5
    assert all(np.array_equal(last[name], first[name]) == (name in frozen) for name in first)
    assert all(np.array_equal(last[name], other[name]) for name in first)


def test_weights_to_start_from_are_left_alone(tmp_path: Path) -> None:
    data = smooth(64)[..., 0], np.arange(64) % 4
    run = residual.train(data, "cifar_resnet8", epochs=1, batch_size=16, out=tmp_path / "first")
    with pytest.raises(ValueError, match=r"first_layer is that of .*leave out first_layer='whitened'"):
        begin(data, "default", dict(FIELDS), out=tmp_path / "second", start=run.folder)
    experiment = begin(data, "default", {"epochs": 1}, out=tmp_path / "second", start=run.folder)
    now = backend.get_weights(experiment.state.model)  # type: ignore[arg-type]
    assert all(np.array_equal(now[name], value) for name, value in run.saved().weights.items())


def test_default_freezes_whitened_patches_of_its_own_nets(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (60, 28, 28)).astype(np.uint8), np.arange(60) % 3
    begin(data, "default", {"epochs": 1}, out=tmp_path / "run")
    record = open_run(tmp_path / "run").record
    assert record["architecture"]["stem"] == "patch"
    assert record["recipe"]["first_layer"] == "frozen"
    assert any("principal components" in reason and "not trained" in reason for reason in record["reasons"])
    begin(data, "default", {"epochs": 1, "first_layer": "random"}, out=tmp_path / "other")
    assert open_run(tmp_path / "other").record["recipe"]["first_layer"] == "random"
    colour = np.stack([data[0], 255 - data[0], data[0].swapaxes(1, 2)], 3), data[1]
    begin(colour, "default", {"epochs": 1}, out=tmp_path / "colour")
    assert open_run(tmp_path / "colour").record["recipe"]["first_layer"] == "frozen"
