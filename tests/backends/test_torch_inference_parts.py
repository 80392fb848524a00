"""What goes through the fast form at a time: so little that it takes no more memory than it must, and gives the same answers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from residual.backends import torch_fused, torch_inference
from residual.backends.torch_fused import Convolution, fused_works
from residual.backends.torch_inference import inference_form
from tests.backends.test_torch_inference import assert_close, made, native, pictures
from tests.nets import SMALL

STEM = replace(SMALL, stem_width=16)  # whose stem puts out the largest layer
LARGEST = 16 * 12 * 9 * 4.0  # bytes of it


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
    monkeypatch.setattr(torch_inference, "_HEAVY", 0 if heavy else 1e6)
    monkeypatch.setattr(torch_inference, "_CACHED", 8 * LARGEST)
    model, x = made(STEM), pictures(STEM, count)
    form = inference_form(model)
    for _ in range(2):
        assert_close(form(x), native(model, x))
    stem, rest = ((1, min(count, 8)),) * 2 if heavy else ((min(count, 2), 0), (min(count, 8), 0))
    assert seen == [stem] + [rest] * (sum(isinstance(module, nn.Conv2d) for module in model.modules()) - 1)


def test_the_stem_sees_a_quarter_of_the_pictures_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, through = list[tuple[object, int]](), torch_inference._through
    monkeypatch.setattr(torch_inference, "_CACHED", 8 * LARGEST)
    model, x = made(STEM), pictures(STEM, 19)
    form = inference_form(model)
    form(x)
    monkeypatch.setattr(torch_inference, "_through", lambda steps, x: (taken.append((steps, len(x))), through(steps, x))[1])
    assert_close(form(x), native(model, x))
    stem = [count for steps, count in taken if steps is form.stem]  # type: ignore[attr-defined]
    rest = [count for steps, count in taken if steps is form.rest]  # type: ignore[attr-defined]
    assert stem == [2] * 8 + [2, 1]
    assert rest == [8, 8, 3]


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


def test_threads_may_share_a_form_from_the_first_call_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_inference, "_HEAVY", 0)
    for _ in range(5):
        model, x = made(STEM), pictures(STEM, 4)
        form, wanted = inference_form(model), native(model, x)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(form, [x] * 8):
                assert_close(found, wanted)
