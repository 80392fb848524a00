"""What goes through the fast form at a time: so little that it takes no more memory than it must, and gives the same answers."""

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from residual.architecture import Architecture
from residual.backends import torch_fused, torch_inference, torch_parts, torch_winograd
from residual.backends.torch_fused import Convolution, fused_works
from residual.backends.torch_inference import form_of, inference_form
from residual.backends.torch_parts import Parts, parts
from residual.plan import plan
from residual.variants import architecture
from tests.backends.test_torch_inference import assert_close, made, native, pictures
from tests.nets import SMALL, random_weights

STEM = replace(SMALL, stem_width=16)  # whose stem puts out the largest layer
LARGEST = 16 * 12 * 9 * 4.0  # bytes of it
MANY = 16  # pictures of which the steps after the first block, which takes all of it, put out twice as much


@pytest.fixture(autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not fused_works(torch.float32), reason="without oneDNN's fused convolutions no weights are laid out")
@pytest.mark.parametrize("count", [1, 7, 40])
@pytest.mark.parametrize("heavy", [True, False])
def test_large_weights_are_laid_out_by_way_of_one_picture(monkeypatch: pytest.MonkeyPatch, count: int, heavy: bool) -> None:
    """Once, before parts of many pictures go through, and as is best for those. Small ones when the first part does."""
    seen, pack = list[tuple[int, int]](), Convolution._pack

    def packed(self: Convolution, x: Tensor) -> None:
        if not self.packed:
            seen.append((len(x), self.expected))
        pack(self, x)

    monkeypatch.setattr(Convolution, "_pack", packed)
    monkeypatch.setattr(torch_parts, "_HEAVY", 0 if heavy else 1e6)
    monkeypatch.setattr(torch_parts, "_CACHED", 2 * LARGEST)
    model, x = made(STEM), pictures(STEM, count)
    form = inference_form(model)
    for _ in range(2):
        assert_close(form(x), native(model, x))
    convolutions, before = sum(isinstance(module, nn.Conv2d) for module in model.modules()), 1 + 3  # the stem's and the first block's
    few, many = min(count, 2), -(-count // -(-count // MANY))
    few, many = ((1, few), (1, min(count, MANY))) if heavy else ((few, 0), (many, 0))
    assert seen == [few] * before + [many] * (convolutions - before)


def test_the_first_steps_see_few_pictures_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, through = list[tuple[int, int]](), torch_parts.through
    monkeypatch.setattr(torch_parts, "_CACHED", 2 * LARGEST)
    model, x = made(STEM), pictures(STEM, 2 * MANY + 3)
    form = inference_form(model)
    form(x)
    monkeypatch.setattr(torch_parts, "through", lambda steps, x: (taken.append((len(steps), len(x))), through(steps, x))[1])
    assert_close(form(x), native(model, x))
    assert [count for steps, count in taken if steps == 2] == [2] * 17 + [1]
    assert [count for steps, count in taken if steps > 2] == [12, 12, 11], "as equal as they can be"


@pytest.mark.parametrize(
    ("variant", "size", "itemsize", "wanted"),
    [
        ("resnet50", 224, 4, Parts(5, 2, 8)),  # the stem, three blocks, and the one that takes what they make: 3.2 MB a picture
        ("resnet50", 224, 2, Parts(5, 4, 16)),
        ("resnet50", 448, 4, Parts(5, 1, 2)),
        ("resnet18", 224, 4, Parts(1, 2, 16)),
        ("cifar_resnet20", 32, 4, Parts(5, 99, 396)),
    ],
)
def test_parts_are_sized_by_the_largest_layers(variant: str, size: int, itemsize: int, wanted: Parts) -> None:
    assert parts(plan(architecture(variant)), (size, size), itemsize, 1) == wanted


def test_every_thread_has_a_picture() -> None:
    assert parts(plan(architecture("resnet50")), (1024, 1024), 4, 3) == Parts(5, 3, 3)


def test_the_number_of_threads_may_change() -> None:
    form: Any = inference_form(made(STEM))
    assert form.sizes(1024, 1024, 7).few == 7
    assert form.sizes(1024, 1024, 8).few == 8


@pytest.mark.parametrize("rows", [1, 100, 2**18])
def test_weights_are_folded_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """The model's own stay as they are, and later changes of them do not reach the form."""
    monkeypatch.setattr(torch_fused, "_ROWS", rows)
    model, x = made(STEM), pictures(STEM)
    wanted, form = native(model, x), inference_form(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert_close(form(x), wanted)


@pytest.mark.parametrize("heavy", [True, False])
def test_threads_may_share_a_form_from_the_first_call_on(monkeypatch: pytest.MonkeyPatch, heavy: bool) -> None:
    """Winograd's convolutions too, whose weights take the place of others."""
    monkeypatch.setattr(torch_parts, "_HEAVY", 0 if heavy else 1e9)
    monkeypatch.setattr(torch_winograd, "_CHANNELS", 1)
    monkeypatch.setattr(torch_winograd, "_TILES", 1)
    for _ in range(5):
        model, x = made(STEM), pictures(STEM, 4)
        form, wanted = inference_form(model), native(model, x)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(form, [x] * 8):
                assert_close(found, wanted)


def test_weights_are_made_and_laid_out_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = list[str]()

    @contextmanager
    def noted(name: str) -> Iterator[None]:
        entered.append(name)
        yield

    monkeypatch.setattr(torch_inference, "blocks_apart", lambda: noted("made"))
    monkeypatch.setattr(torch_parts, "blocks_apart", lambda: noted("laid out"))
    monkeypatch.setattr(torch_parts, "_HEAVY", 0)
    form = inference_form(made(STEM))
    assert entered == ["made"]
    if not fused_works(torch.float32):
        pytest.skip("without oneDNN's fused convolutions no weights are laid out")
    for _ in range(2):
        form(pictures(STEM))
    assert entered == ["made", "laid out", "laid out"], "once for the steps of few pictures, once for those of many"


@pytest.mark.parametrize("arch", [SMALL, replace(SMALL, block="bottleneck", se_reduction=2)])
def test_a_form_of_tensors_takes_them_over(arch: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody else holds them their memory is free again, so that a network and its form never take it together."""
    living, ready = list[int](), Convolution.ready

    def counted(self: Convolution, *given: Any, **named: Any) -> None:
        ready(self, *given, **named)
        living.append(sum(place() is not None for place in held.values()))

    network, weights = plan(arch), random_weights(plan(arch))
    x, wanted = pictures(arch), inference_form(made(arch))
    held = {name: weakref.ref(value) for name, value in weights.items() if value.ndim > 1}
    tensors = {name: torch.from_numpy(weights.pop(name)) for name in [*weights]}
    with monkeypatch.context() as patch:
        patch.setattr(Convolution, "ready", counted)
        form = form_of(network, tensors)
    assert len(held) - 1 == living[0] >= living[-1] + 5
    assert not tensors
    assert len(held) > 5
    assert not [name for name, place in held.items() if place() is not None]
    assert torch.equal(form(x), wanted(x))
