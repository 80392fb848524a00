"""What a GPU would wait for, seen without one: PyTorch's meta device has shapes and no numbers, so that whatever reads one fails there,
and what goes to it from the CPU is seen on its way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from residual.backends import torch as backend
from residual.backends.torch_training import training_form
from residual.data import Decoded, Frame, Lazy, open_source
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.training.augment import colour_noise
from residual.training.feed import Feed, Normaliser, Resident, Streamed
from residual.training.loop import Setting, State, StepEnd, fit
from residual.training.pruning import unpruned
from tests.training.test_loop import BASE, NET

META = torch.device("meta")
EVERYTHING = replace(
    BASE, flip="alternate", crop_padding=1, erasing=0.5, mixup=0.2, cutmix=1.0, lighting=0.1, label_smoothing=0.1, ema=0.9, epochs=3
)  # fmt: skip

CHANGES = [{}, {"accumulate": 2}, {"crop_scale": (0.3, 1.0)}, {"flip": "random", "crop_mode": "reflect"}, {"optimizer": "muon"}]


class Sent(TorchDispatchMode):
    """Notes what goes from the CPU to another device: whether its sender goes on meanwhile. A number of the CPU's that an operation takes
    beside tensors of the device is told with the operation, and is no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        if func.overloadpacket not in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            given = [value for value in given if value.ndim]
        made = [value for value in tree_leaves(answer) if isinstance(value, torch.Tensor)]
        if len({value.device.type for value in given + made}) > 1:
            self.found.append(bool(kwargs.get("non_blocking") or (len(args) > 2 and args[2])))
        return answer


class Made(TorchFunctionMode):
    """Counts the tensors made from Python's numbers on a device: a copy too, which `Sent` does not see."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and answer.device.type != "cpu":
            self.count += 1
        return answer


@contextmanager
def written_for_meta() -> Iterator[None]:
    """A scope in which the optimizer's fused step, the one operation without shapes of its own, does nothing on that device."""
    with torch.library._scoped_library("aten", "IMPL", "Meta") as library:
        library.impl("_fused_sgd_", lambda *_, **__: None)
        yield


def resident(tmp_path: Path, device: torch.device = META) -> Feed:
    images = np.random.default_rng(0).integers(0, 255, (256, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(256, dtype=np.int64) % 3
    names = [str(number) for number in labels]
    return Resident(Decoded(images=images, labels=labels, names=names, problems=(), kept=np.arange(256)), None, device)


def streamed(tmp_path: Path, device: torch.device = META) -> Feed:
    for number in range(60):  # a fifth is set aside as a test set: 48 to train on
        folder = tmp_path / "pictures" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    records = open_source(tmp_path / "pictures").splits["train"]
    return Streamed(Lazy(records=records, frame=Frame(size=(8, 8), channels=3)), None, device, 2)


def steps(feed: Feed, device: torch.device = META, **changes: Any) -> Iterator[StepEnd]:
    """Steps with every augmentation switched on; on a GPU as `residual train` takes them."""
    recipe = replace(EVERYTHING, **changes)
    model = backend.build(plan(replace(NET, in_channels=3)), 0).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.clone() for name, value in model.state_dict().items()}
    normalise = Normaliser(Preprocessing(size=(8, 8), channels=3, mean=(0.3,) * 3, std=(0.3,) * 3), device)
    call = training_form(model, half=True) if device.type == "cuda" else model
    setting = Setting(
        recipe=recipe, train=feed, validation=None, normalise=normalise, size=(8, 8), device=device, half=False, call=call
    )  # fmt: skip
    pruning = unpruned(len(feed), device) if recipe.data_pruning else None
    state = State(model=model, optimizer=backend.optimizer(model, recipe), average=average, pruning=pruning)
    return (event for event in fit(state, setting) if isinstance(event, StepEnd))


@pytest.mark.parametrize("changes", CHANGES)
def test_a_step_neither_reads_from_the_device_nor_sends_to_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    with written_for_meta():
        events = steps(resident(tmp_path), **changes)
        next(events)  # brings the epoch's order and the augmentation's constants there
        with Sent() as sent, Made() as made:
            assert [next(events).step for _ in range(8)] == [*range(2, 10)]
        assert (sent.found, made.count) == ([], 0)


def test_streamed_batches_are_sent_without_waiting(tmp_path: Path) -> None:
    feed = streamed(tmp_path)
    with written_for_meta(), Sent() as sent:
        events = steps(feed)
        sent.found.clear()
        assert [next(events).step for _ in range(2)] == [1, 2]
    assert sent.found == [True] * 6  # pictures, labels and places of two batches


@pytest.mark.parametrize(
    "waits",
    [
        pytest.param(lambda x: float(x.sum()), id="a number read"),
        pytest.param(lambda x: x[x > 0], id="as many as there are"),
        pytest.param(lambda x: x.cpu(), id="a copy to the CPU"),
    ],
)
def test_the_device_without_numbers_refuses_what_a_gpu_would_wait_for(waits: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises((NotImplementedError, RuntimeError)):
        waits(torch.zeros(3, device=META))


def test_what_goes_to_the_device_is_seen() -> None:
    with Sent() as sent, Made() as made:
        torch.zeros(3).to(META)
        torch.zeros(3).to(META, non_blocking=True)
        torch.zeros(()).to(META)
        there = torch.zeros(3, device=META).copy_(torch.zeros(()))
        there.copy_(torch.zeros(3), non_blocking=True)
        assert (there + torch.zeros(())).device == META
        torch.tensor([1.0], device=META)
        there.new_tensor([1.0])
    assert (sent.found, made.count) == ([False, True, False, False, True], 2)


def test_colour_noise_brings_its_constants_once() -> None:
    colour_noise(2, 0.1, META)
    with Made() as made:
        assert colour_noise(5, 0.1, META).shape == (5, 3, 1, 1)
    assert made.count == 0
