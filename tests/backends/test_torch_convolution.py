"""The convolution that trains otherwise than oneDNN gives what a convolution gives, and stands aside everywhere else."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends import torch as backend
from residual.backends import torch_convolution, torch_ways
from residual.backends.torch_convolution import Conv2d, in_layout
from residual.backends.torch_ways import Dense, Geometry, joined, parted, side_by_side, visible_taps, way_of
from residual.plan import plan
from residual.variants import architecture

ROUNDING = 2**-6  # of the largest value; bfloat16 keeps 8 bits


@pytest.fixture(autouse=True)
def matrix_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way is tried, whatever this processor is."""
    monkeypatch.setattr(torch_ways, "AMX", True)


def results(conv: nn.Conv2d, x: Tensor, *, half: bool) -> tuple[Tensor, Tensor, Tensor, Any]:
    """Output, gradients of the pictures and of the weights, and what computed them."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = conv(x)
    direction = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).sin().reshape(y.shape)
    y.backward(direction.to(y.dtype))
    assert x.grad is not None
    assert conv.weight.grad is not None
    return y.detach(), x.grad, conv.weight.grad, y.grad_fn


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    ("way", "shape", "conv"),  # of the pictures, and output channels, kernel, stride, padding
    [
        ("Joined", (8, 48, 4, 5), (56, 3, 1, 1)), ("Joined", (8, 32, 7, 10), (64, 3, 2, 1)), ("Joined", (6, 32, 16, 13), (64, 3, 2, 1)),
        ("Joined", (3, 64, 5, 4), (32, 5, 1, 2)), ("Joined", (12, 32, 13, 12), (64, 3, 1, 1)), ("Joined", (4, 32, 11, 9), (64, 5, 3, 2)),
        ("Joined", (32, 64, 2, 10), (64, 3, 2, 1)), ("Pointwise", (3, 8, 7, 12), (12, 1, 2, 0)),
        ("Pointwise", (3, 5, 3, 3), (3, 1, 1, 0)), ("Pointwise", (2, 4, 40, 31), (6, 1, 3, 0)),
        ("Product", (3, 256, 3, 3), (32, 3, 1, 1)), ("Product", (3, 256, 6, 5), (32, 3, 2, 1)),
        ("Product", (2, 256, 7, 8), (8, 3, 3, 1)), ("Product", (2, 256, 3, 2), (8, 5, 1, 2)), ("Product", (2, 256, 5, 5), (8, 5, 3, 2)),
        ("Product", (3, 260, 6, 7), (16, 3, 2, 0)), ("Product", (3, 260, 1, 9), (16, 3, 1, 1)), ("Dense", (5, 12, 2, 2), (7, 3, 1, 1)),
        ("Dense", (4, 6, 4, 3), (9, 3, 2, 1)), ("Dense", (3, 5, 4, 4), (4, 3, 1, 0)), ("Dense", (3, 300, 1, 1), (8, 3, 1, 1)),
        ("Dense", (2, 4, 2, 8), (3, 5, 4, 2)),
    ],
)  # fmt: skip
def test_it_gives_what_a_convolution_gives(way: str, shape: tuple[int, int, int, int], conv: tuple[int, int, int, int], last: bool) -> None:
    torch.manual_seed(0)
    mine = Conv2d(shape[1], *conv, bias=False)
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(shape).bfloat16().float().contiguous(memory_format=layout)
    with torch.no_grad():
        mine.weight.copy_(mine.weight.bfloat16().float())
    mine = mine.to(memory_format=layout)  # type: ignore[call-overload]
    *found, made = results(mine, x, half=True)
    exact = nn.Conv2d(shape[1], *conv, bias=False).double()
    exact.load_state_dict(mine.state_dict())
    assert made.way.__name__ == way
    for value, wanted in zip(found, results(exact, x.double(), half=False)[:3], strict=True):
        assert value.shape == wanted.shape
        assert (value.double() - wanted).abs().max() <= ROUNDING * wanted.abs().max()


@pytest.mark.parametrize(
    ("size", "period", "count"), [(128, 8, 8), (128, 4, 16), (128, 5, 16), (128, 3, 16), (128, 13, 4), (6, 8, 2), (7, 8, 1), (64, 60, 1)]
)
def test_pictures_are_joined_to_rows_of_about_64_places(size: int, period: int, count: int) -> None:
    assert side_by_side(size, period) == count
    x = torch.arange(1.0, 1 + size * 2 * 3 * min(period, 4)).reshape(size, 2, 3, -1)
    rows = joined(x, count, period)
    assert rows.shape == (size // count, 2, 3, count * period)
    assert rows.sum() == x.sum()
    assert torch.equal(rows[0, :, :, : x.shape[3]], x[0])
    assert torch.equal(rows[0, :, :, (count - 1) * period : (count - 1) * period + x.shape[3]], x[count - 1])
    assert torch.equal(parted(rows, count, x.shape[3]), x)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does so itself
@pytest.mark.parametrize(
    ("channels", "kernel", "sides"), [((32, 64), 3, (4, 5)), ((256, 16), 3, (3, 3)), ((8, 12), 1, (9, 8)), ((8, 12), 3, (2, 2))]
)
def test_the_compiler_traces_it_whole(channels: tuple[int, int], kernel: int, sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = Conv2d(*channels, kernel, padding=kernel // 2, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, channels[0], *sides).contiguous(memory_format=torch.channels_last)
    traced: Any = torch.compile(conv, backend="aot_eager", fullgraph=True)
    wanted, found = [], []
    for call, kept in ((conv, wanted), (traced, found)):
        shown = x.clone().requires_grad_()
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = call(shown)
        y.float().square().sum().backward()
        kept += [y.detach(), shown.grad, conv.weight.grad]
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine - theirs).abs().max() <= ROUNDING * theirs.abs().max()


def test_a_picture_is_one_row_only_where_it_has_few_places() -> None:
    def way(height: int, width: int, after: int, before: int, stride: int) -> object:
        return way_of(torch.Size((2, before, height, width)), torch.Size((after, before, 3, 3)), stride, 1)[0]

    assert way(2, 2, 256, 256, 1) is Dense
    assert way(4, 4, 256, 128, 2) is Dense
    assert way(2, 8, 8, 8, 4) is Dense
    assert way(4, 4, 64, 64, 1) is not Dense, "16 places of an output"
    assert way(3, 6, 64, 64, 3) is not Dense, "18 places of a picture"
    assert way(2, 2, 512, 512, 1) is not Dense, "four million numbers"


def way(conv: Conv2d, side: int, *, half: bool = True) -> str:
    """What computes the gradients of `conv` for pictures of side x side; "" where oneDNN's convolution does."""
    x = torch.randn(2, conv.in_channels, side, side, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        made = conv(x).grad_fn
    return made.way.__name__ if made.name() == "_ByBackward" else ""


@pytest.mark.parametrize(("amx", "wanted"), [(True, "Joined"), (False, "")])
def test_rows_are_joined_for_a_matrix_unit_or_a_stride(amx: bool, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_ways, "AMX", amx)
    assert way(Conv2d(32, 64, 3, padding=1, bias=False), 12) == wanted
    assert way(Conv2d(32, 64, 3, 2, padding=1, bias=False), 16) == "Joined"
    assert way(Conv2d(256, 8, 3, padding=1, bias=False), 4) == ("Joined" if amx else "Product"), "16 places"
    assert way(Conv2d(256, 8, 3, padding=1, bias=False), 5) == wanted, "25 places"


@pytest.mark.parametrize(
    ("size", "at", "seen"),
    [
        ((3, 3), Geometry(3, 1, 1, (3, 3)), 49), ((2, 2), Geometry(3, 1, 1, (2, 2)), 16), ((4, 4), Geometry(3, 1, 1, (4, 4)), 100),
        ((6, 6), Geometry(3, 2, 1, (3, 3)), 64), ((1, 9), Geometry(3, 1, 1, (1, 9)), 25), ((7, 5), Geometry(3, 2, 0, (3, 2)), 54),
    ],
)  # fmt: skip
def test_taps_look_at_pictures_and_not_at_what_is_around(size: tuple[int, int], at: Geometry, seen: int) -> None:
    """As many products for a picture as pairs of a place and a pixel, each once, that a kernel laid on the picture has."""
    pairs = [
        (row, column, i, j, y, x)
        for row, column, (rows, columns), (ys, xs) in visible_taps(torch.Size((1, 1, *size)), at)
        for i, y in zip(range(at.places[0])[rows], range(size[0])[ys], strict=True)
        for j, x in zip(range(at.places[1])[columns], range(size[1])[xs], strict=True)
    ]
    assert len(pairs) == len(set(pairs)) == seen
    assert all((i * at.stride + row - at.padding, j * at.stride + column - at.padding) == (y, x) for row, column, i, j, y, x in pairs)


def test_it_stands_aside_where_a_convolution_is_as_fast() -> None:
    conv = Conv2d(32, 64, 3, padding=1, bias=False)
    assert way(conv, 12) == "Joined"
    assert way(conv, 13) == "", "13 places a row"
    assert way(Conv2d(32, 64, 3, 2, padding=1, bias=False), 16) == "Joined"
    assert way(Conv2d(32, 64, 3, 2, padding=1, bias=False), 17) == "", "a row of 9 from 17"
    assert way(Conv2d(32, 63, 3, padding=1, bias=False), 12) == "", "too few channels"
    assert way(Conv2d(32, 64, 3, bias=False), 6) == "", "too little around it"
    assert way(Conv2d(256, 8, 3, padding=1, bias=False), 3) == "Product"
    assert way(Conv2d(256, 8, 3, padding=1, bias=False), 4) == "Joined", "16 places"
    assert way(Conv2d(255, 9, 3, padding=1, bias=False), 3) == "Joined"
    assert way(Conv2d(4, 6, 1, bias=False), 40) == "Pointwise"
    assert way(Conv2d(4, 6, 1, padding=1, bias=False), 40) == ""
    assert way(conv, 6, half=False) == ""
    assert way(Conv2d(32, 64, 3, padding=1), 6) == "", "with a bias"
    assert way(Conv2d(64, 64, 3, padding=1, groups=2, bias=False), 6) == ""
    assert way(Conv2d(32, 64, 3, padding=2, dilation=2, bias=False), 6) == ""
    assert way(Conv2d(32, 64, 3, padding="same", bias=False), 6) == ""
    assert way(Conv2d(32, 64, (3, 1), padding=1, bias=False), 6) == ""
    conv.weight.requires_grad_(False)
    assert way(conv, 6) == "", "no gradient of the weights is asked for"
    conv.weight.requires_grad_()
    assert way(conv.eval(), 6) == ""


def test_a_net_trains_the_same_steps_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of every tensor of a net points where it does with plain convolutions in bfloat16."""
    network = plan(replace(architecture("resnet18", num_classes=4), in_channels=1))
    x, labels = torch.rand(8, 1, 64, 64), torch.arange(8) % 4
    gradients = []
    ways = set[Any]()

    def noted(*given: Any) -> Any:
        found = way_of(*given)
        ways.add(found[0])
        return found

    monkeypatch.setattr(torch_convolution, "way_of", noted)
    for plain in (False, True):
        if plain:
            assert {way.__name__ for way in ways - {None}} == {"Pointwise", "Product", "Joined"}
            monkeypatch.setattr(Conv2d, "forward", nn.Conv2d.forward)
        model = backend.build(network).train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad.double().flatten() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, mine in gradients[0].items():
        assert F.cosine_similarity(mine, gradients[1][name], dim=0) > 0.9, name


@pytest.mark.parametrize(("channels", "kernel", "side"), [((8, 12), 1, 6), ((32, 64), 3, 6), ((256, 8), 3, 3), ((8, 12), 3, 2)])
def test_gradients_of_gradients(channels: tuple[int, int], kernel: int, side: int) -> None:
    torch.manual_seed(0)
    conv, x = Conv2d(*channels, kernel, padding=kernel // 2, bias=False), torch.randn(2, channels[0], side, side)
    found = []
    for call in (Conv2d.forward, nn.Conv2d.forward):
        shown = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = call(conv, shown)
        firsts = torch.autograd.grad(y.float().square().sum(), [shown, conv.weight], create_graph=True)
        found.append(torch.autograd.grad(sum(first.float().square().sum() for first in firsts), [shown, conv.weight]))
    for mine, wanted in zip(*found, strict=True):
        assert (mine - wanted).abs().max() <= 2 * ROUNDING * wanted.abs().max()


@pytest.mark.parametrize(("channels", "kernel", "side"), [((8, 12), 1, 6), ((32, 64), 3, 6), ((256, 8), 3, 3), ((8, 12), 3, 2)])
def test_no_pictures_and_double_precision(channels: tuple[int, int], kernel: int, side: int) -> None:
    conv = Conv2d(*channels, kernel, padding=kernel // 2, bias=False)
    *found, _ = results(conv, torch.zeros(0, channels[0], side, side), half=True)
    assert found[0].shape == (0, channels[1], side, side)
    assert not found[2].any()
    with torch.autocast("cpu", torch.bfloat16):
        assert conv.double()(torch.randn(2, channels[0], side, side, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("was_last", [True, False])
def test_the_layout_of_pictures_is_that_of_all_that_follows(channels: int, last: bool, was_last: bool) -> None:
    """Pictures of one channel lie in both layouts alike; by their strides a convolution answers in the wrong one."""
    x = torch.rand(2, 6, 5, channels).permute(0, 3, 1, 2) if was_last else torch.rand(2, channels, 6, 5)
    found = in_layout(x, channels_last=last)
    assert torch.equal(found, x)
    answer = torch.nn.functional.conv2d(found, torch.rand(4, channels, 3, 3))
    assert answer.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [(4, 7), (3, 8), (8, 16), (16, 31)])
def test_float32_gradients_of_1x1_are_exact_each_time(channels: tuple[int, int], stride: int, last: bool) -> None:
    """Where oneDNN has AVX2 only, its own are wrong in one of ten calls for 4 and 7 channels."""
    conv = Conv2d(*channels, 1, stride, bias=False).train()
    x = in_layout(torch.randn(4, channels[0], 8, 8), channels_last=last)
    conv = conv.to(memory_format=torch.channels_last) if last else conv  # type: ignore[call-overload]
    exact = nn.Conv2d(*channels, 1, stride, bias=False).double()
    exact.load_state_dict(conv.state_dict())
    wanted = results(exact, x.double(), half=False)[:3]
    for _ in range(50):
        for found, right in zip(results(conv, x, half=False)[:3], wanted, strict=True):
            assert (found - right).abs().max() <= 1e-5 * right.abs().max()
