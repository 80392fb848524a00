"""What only a GPU shows: pictures and augmentation live on it, no step waits for it, and its runs end as the CPU's do, to rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import residual
from residual.backends import torch as backend
from residual.training.feed import Feed, Resident
from residual.training.machine import device_memory
from tests.training.test_device import CHANGES, resident, steps, streamed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize("changes", [*CHANGES, {"optimizer": "adamw"}, {"data_pruning": 0.3, "mixup": 0.0, "cutmix": 0.0}])
@pytest.mark.parametrize("feed", [resident, streamed])
def test_no_step_waits_for_the_device(feed: Callable[..., Feed], changes: dict[str, Any], tmp_path: Path) -> None:
    """PyTorch refuses whatever makes the host wait."""
    events = steps(feed(tmp_path, torch.device("cuda")), torch.device("cuda"), **changes)
    next(events)  # the first step allocates, picks kernels and brings the epoch's order there
    try:
        torch.cuda.set_sync_debug_mode("error")
        assert [next(events).step for _ in range(2)] == [2, 3]  # of streamed pictures an epoch has three
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("broken", [False, True])
def test_streamed_pictures_come_from_pinned_memory(broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From other memory a copy waits, whether it is asked to or not, and PyTorch does not say so."""
    feed, sent, to = streamed(tmp_path, torch.device("cuda")), list[bool](), torch.Tensor.to
    if broken:
        Path(feed.lazy.names[0]).write_bytes(b"no picture")

    def noted(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        sent.append(self.is_pinned())
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    batches = list(feed.read([np.arange(start, start + 16) for start in (0, 16, 32)]))
    assert sum(len(images) for images, _, _ in batches) == 48 - broken
    assert sent == [True] * 9


def test_pictures_lie_on_it_and_count_against_its_memory(tmp_path: Path) -> None:
    feed, free = resident(tmp_path, torch.device("cuda")), device_memory(torch.device("cuda"))
    assert isinstance(feed, Resident)
    assert feed.images.is_cuda
    assert free is not None
    assert 0 < free <= torch.cuda.get_device_properties(0).total_memory


def test_digits_train_on_it_and_are_classified_alike_on_the_cpu(tmp_path: Path) -> None:
    run = residual.train("digits", epochs=20, out=tmp_path / "run")
    assert run.record["machine"]["device"] == "cuda"
    assert run.record["result"]["test"]["top1"] > 0.9
    model = residual.load(run.folder)
    images = np.random.default_rng(0).standard_normal((8, model.plan.in_channels, 8, 8)).astype(np.float32)
    there = backend.forward(model.to("cuda"), images)["logits"]
    here = backend.forward(model.to("cpu"), images)["logits"]
    np.testing.assert_allclose(there, here, rtol=1e-2, atol=1e-2)  # convolutions there are TensorFloat-32: 10 bits


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # PyTorch's own, while it compiles
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
def test_a_compiled_run_ends_like_an_eager_one(tmp_path: Path) -> None:
    ends = [
        residual.train("digits", "cifar_resnet8", epochs=3, compile=compiled, precision="float32", out=tmp_path / str(compiled)).record[
            "result"
        ]
        for compiled in (False, True)
    ]
    assert ends[0]["train_loss"] == pytest.approx(ends[1]["train_loss"], rel=0.1)
