"""What only a GPU shows: pictures and augmentation live on it, no step waits for it, and its runs are as exact as the CPU's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import residual
from residual.backends import torch as backend
from residual.backends.torch_training import training_form
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.training.feed import Normaliser, Resident
from residual.training.loop import Setting, State, StepEnd, fit
from tests.training.test_loop import BASE, NET, decoded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def test_no_step_waits_for_the_device() -> None:
    """With every augmentation switched on, PyTorch refuses whatever makes the host wait."""
    device = torch.device("cuda")
    recipe = replace(BASE, flip="alternate", crop_padding=1, erasing=0.5, mixup=0.2, label_smoothing=0.1, ema=0.9, epochs=3)
    model = backend.build(plan(NET), 0).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.clone() for name, value in model.state_dict().items()}
    state = State(model=model, optimizer=backend.optimizer(model, recipe), average=average)
    feed, normalise = (
        Resident(decoded(256), None, device),
        Normaliser(Preprocessing(size=(8, 8), channels=1, mean=(0.3,), std=(0.3,)), device),
    )
    setting = Setting(
        recipe=recipe,
        train=feed,
        validation=None,
        normalise=normalise,
        size=(8, 8),
        device=device,
        half=True,
        call=training_form(model, half=True),
    )
    events = fit(state, setting)
    assert isinstance(next(events), StepEnd)  # the first step allocates and picks kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert all(isinstance(next(events), StepEnd) for _ in range(12))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert feed.images.is_cuda


def test_digits_train_on_it_and_are_classified_alike_on_the_cpu(tmp_path: Path) -> None:
    run = residual.train("digits", epochs=20, out=tmp_path / "run")
    assert run.record["machine"]["device"] == "cuda"
    assert run.record["result"]["test"]["top1"] > 0.9
    model = residual.load(run.folder)
    images = np.random.default_rng(0).standard_normal((8, model.plan.in_channels, 8, 8)).astype(np.float32)
    there = backend.forward(model.to("cuda"), images)["logits"]
    here = backend.forward(model.to("cpu"), images)["logits"]
    np.testing.assert_allclose(there, here, rtol=1e-2, atol=1e-2)  # convolutions there are TensorFloat-32: 10 bits


def test_a_compiled_run_ends_like_an_eager_one(tmp_path: Path) -> None:
    ends = [
        residual.train("digits", "cifar_resnet8", epochs=3, compile=compiled, precision="float32", out=tmp_path / str(compiled)).record[
            "result"
        ]
        for compiled in (False, True)
    ]
    assert ends[0]["train_loss"] == pytest.approx(ends[1]["train_loss"], rel=0.1)
