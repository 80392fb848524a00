"""Winograd's convolution gives what a convolution gives, within whole nets too, and is taken only where it pays."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from residual.backends import torch as backend
from residual.backends import torch_winograd
from residual.backends.torch_fused import Convolution, fused_works
from residual.backends.torch_inference import inference_form
from residual.backends.torch_winograd import Winograd, pays
from residual.layers import Conv
from residual.plan import plan
from residual.reference import forward as reference
from tests.nets import DISTINCT, images, random_weights

KINDS = [torch.float64, torch.float32]  # of the first the products are PyTorch's convolution, of the second oneDNN's
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")  # type: ignore[no-untyped-call]


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Of the largest value, as in `test_float32_keeps_its_precision`."""
    return bool((found.double() - wanted).abs().max() <= (1e-12 if found.dtype == torch.float64 else 2e-5) * wanted.abs().max())


def test_what_is_tried_first_works() -> None:
    """Where it fails the plain convolution stands in, without a word: no other test would tell."""
    assert fused_works(torch.float32)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 3, 4, 4), (3, 4, 14, 13), (2, 1, 1, 1), (1, 2, 3, 17), (1, 4, 28, 28)])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_it_gives_what_a_convolution_gives(shape: tuple[int, int, int, int], last: bool, biased: bool, dtype: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=stream, dtype=torch.float64) for size in (shape, (6, shape[1], 3, 3), (6,)))
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    found = Winograd(weight.to(dtype), bias.to(dtype) if biased else None, x.shape)(x.to(dtype))
    assert near(found, F.conv2d(x, weight, bias if biased else None, padding=1))
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("most", "parts"), [(128, [5]), (8, [2, 2, 1]), (1, [1] * 5)])
def test_many_pictures_are_done_in_parts(monkeypatch: pytest.MonkeyPatch, most: int, parts: list[int]) -> None:
    """Of four tiles each."""
    taken, whole = list[int](), Winograd._of
    monkeypatch.setattr(Winograd, "_of", lambda self, x: (taken.append(len(x)), whole(self, x))[1])
    monkeypatch.setattr(torch_winograd, "_PART", most)
    x, weight = torch.randn(5, 3, 7, 8, dtype=torch.float64), torch.randn(6, 3, 3, 3, dtype=torch.float64)
    found = Winograd(weight, None, x.shape)(x)
    assert taken == parts
    assert torch.allclose(found, F.conv2d(x, weight, padding=1), rtol=0, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_float32_keeps_its_precision() -> None:
    stream = torch.Generator().manual_seed(0)
    x, weight = torch.randn(8, 256, 14, 14, generator=stream), torch.randn(256, 256, 3, 3, generator=stream) / 48
    wanted = F.conv2d(x.double(), weight.double(), padding=1)
    for found in (Winograd(weight, None, x.shape)(x), F.conv2d(x, weight, padding=1)):
        assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max()


@pytest.mark.parametrize(
    ("channels", "shape", "wanted"),
    [
        ((128, 128), (2, 128, 14, 14), True),
        ((127, 128), (2, 128, 14, 14), False),
        ((128, 127), (2, 127, 14, 14), False),
        ((512, 512), (8, 512, 7, 7), False),
        ((512, 256), (8, 256, 7, 7), True),
        ((512, 256), (7, 256, 7, 7), False),  # 28 tiles
        ((128, 128), (99, 128, 5, 6), False),  # four tiles for 30 places
        ((128, 128), (99, 128, 3, 3), True),
        ((128, 128), (99, 128, 2, 2), False),
    ],
)
def test_it_is_taken_where_it_pays(channels: tuple[int, int], shape: tuple[int, int, int, int], wanted: bool) -> None:
    assert pays(torch.empty(*channels, 3, 3), torch.Size(shape)) is wanted


@pytest.mark.parametrize(
    ("changes", "dtype", "wanted"),
    [
        ({}, torch.float32, True),
        ({"stride": 2}, torch.float32, False),
        ({"groups": 2}, torch.float32, False),
        ({"kernel": 1, "padding": 0}, torch.float32, False),
        ({"padding": 0}, torch.float32, False),
        ({}, torch.bfloat16, False),
    ],
)
def test_other_convolutions_are_left_alone(changes: dict[str, int], dtype: torch.dtype, wanted: bool) -> None:
    if not fused_works(dtype):
        pytest.skip("oneDNN's fused convolutions do not take this type of number on this processor")
    layer = replace(Conv(name="tried", in_channels=128, out_channels=128, kernel=3, stride=1, padding=1, groups=1, bias=False), **changes)
    weight = torch.randn(128, 128 // layer.groups, layer.kernel, layer.kernel)
    conv = Convolution(layer, weight, None)
    conv.ready(dtype, fused=True)
    x = torch.randn(8, 128, 9, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = conv(x)
    assert (conv.tiled is not None) is wanted
    exact = F.conv2d(x.double(), weight.to(dtype).double(), None, layer.stride, layer.padding, 1, layer.groups)
    assert (y - exact).abs().max() <= (0.02 if dtype == torch.bfloat16 else 2e-5) * exact.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "preact_resnet50", "cifar_resnet20", "resnet18_d2l", "se_resnet50"])
def test_whole_nets_equal_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Additions, ReLUs and other sizes of pictures and of batches after the first too."""
    monkeypatch.setattr(torch_winograd, "_CHANNELS", 1)
    monkeypatch.setattr(torch_winograd, "_TILES", 1)
    taken, plain = [], Winograd._of
    monkeypatch.setattr(Winograd, "_of", lambda self, x: taken.append(1) or plain(self, x))  # type: ignore[func-returns-value]
    network = plan(DISTINCT[name])
    model = backend.build(network, weights=random_weights(network))
    form = inference_form(model)
    for count, height, width in ((3, 41, 56), (1, 41, 56), (2, 33, 48)):
        x = images(network, height, width, count)
        wanted = torch.from_numpy(reference(network, backend.get_weights(model), x)["logits"])
        assert (form(torch.from_numpy(x)) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert taken


CHILDREN = [torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined]


@pytest.fixture
def settings() -> Iterator[None]:
    yield
    for setting in (torch.backends, torch.backends.mkldnn, *CHILDREN):
        setting.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("allow", ["highest", "medium", "conv", "matmul", "mkldnn", "all"])
@pytest.mark.parametrize("half", [False, True])
def test_its_products_are_exact_whatever_is_allowed_around_it(allow: str, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the older setting or the newer ones, of which one hands down to the next. Not every processor rounds where it may, so that what
    is allowed inside is looked at too."""
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(4, 128, 9, 9, generator=stream)
    conv, inside, grouped = Winograd(torch.randn(16, 128, 3, 3, generator=stream), None, x.shape), [], Winograd._grouped
    wanted = conv(x)
    monkeypatch.setattr(Winograd, "_grouped", lambda self, x: (inside.extend(c.fp32_precision for c in CHILDREN), grouped(self, x))[1])
    if allow in ("highest", "medium"):
        torch.set_float32_matmul_precision(allow)
    else:
        newer = dict(zip(("conv", "matmul", "mkldnn", "all"), (*CHILDREN, torch.backends.mkldnn, torch.backends), strict=True))
        newer[allow].fp32_precision = "bf16"  # type: ignore[attr-defined]
    before = [child.fp32_precision for child in CHILDREN]
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        assert torch.equal(conv(x), wanted)
    assert set(inside) <= {"ieee", "none"}
    assert [child.fp32_precision for child in CHILDREN] == before
    if allow == "mkldnn":  # what was handed down has not become their own
        torch.backends.mkldnn.fp32_precision = "ieee"  # type: ignore[attr-defined]
        assert [child.fp32_precision for child in CHILDREN] == ["ieee"] * 2


@pytest.mark.usefixtures("settings")
def test_the_last_of_several_threads_gives_back_what_is_allowed() -> None:
    CHILDREN[1].fp32_precision = "bf16"
    first, second = torch_winograd._exactly(), torch_winograd._exactly()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert CHILDREN[1].fp32_precision == "ieee"
    second.__exit__(None, None, None)
    assert CHILDREN[1].fp32_precision == "bf16"


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(1, 3, 7, 8), (3, 3, 7, 8), (11, 3, 7, 8), (2, 3, 30, 30), (1, 3, 3, 3)])
def test_products_are_always_of_as_many_tiles_as_the_weights_were_laid_out_for(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    """oneDNN would lay them out again for another number, in each call. Here for two pictures of four tiles."""
    seen, grouped = list[int](), Winograd._grouped
    monkeypatch.setattr(Winograd, "_grouped", lambda self, x: (seen.append(x.shape[3]), grouped(self, x))[1])
    weight, bias, x = (torch.randn(size, dtype=torch.float64) for size in ((6, 3, 3, 3), (6,), shape))
    conv = Winograd(weight.to(dtype), bias.to(dtype), torch.Size((2, 3, 7, 8)))
    assert near(conv(x.to(dtype)), F.conv2d(x, weight, bias, padding=1))
    assert set(seen) == {8}


def test_they_are_never_of_more_tiles_than_belong_together() -> None:
    assert Winograd(torch.randn(6, 3, 3, 3), None, torch.Size((2, 3, 128, 128))).rows == 128


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (2, 5, 8, 8)])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("most", [128, 6, 1])
def test_an_addition_goes_into_what_is_added_to(
    shape: tuple[int, int, int, int], relu: bool, most: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_winograd, "_PART", most)
    x, weight = torch.randn(shape, dtype=torch.float64), torch.randn(6, 5, 3, 3, dtype=torch.float64)
    other = torch.randn(shape[0], 6, *shape[2:], dtype=dtype).contiguous(memory_format=torch.channels_last)
    exact, conv = F.conv2d(x, weight, padding=1), Winograd(weight.to(dtype), None, x.shape)
    wanted = exact + other
    assert near(conv(x.to(dtype), relu=relu), exact.relu() if relu else exact)
    found = conv.added(x.to(dtype), other, relu=relu)
    assert found is other
    assert near(other, wanted.relu() if relu else wanted)


def test_no_pictures() -> None:
    conv, none = Winograd(torch.randn(6, 4, 3, 3), torch.randn(6), torch.Size((2, 4, 7, 9))), torch.zeros(0, 4, 7, 9)
    assert conv(none).shape == (0, 6, 7, 9)
    assert conv.added(none, torch.zeros(0, 6, 7, 9), relu=True).shape == (0, 6, 7, 9)
