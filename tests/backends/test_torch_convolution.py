"""The convolution that trains by matrix products gives what a convolution gives, and stands aside everywhere else."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends import torch as backend
from residual.backends.torch_convolution import Conv2d
from residual.plan import plan
from residual.variants import architecture

ROUNDING = 2**-6  # of the largest value; bfloat16 keeps 8 bits


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
    ("channels", "kernel", "stride", "padding", "sides"),
    [
        ((8, 12), 3, 1, 1, (4, 5)), ((8, 12), 3, 2, 1, (7, 10)), ((8, 12), 1, 2, 0, (7, 12)), ((5, 3), 1, 1, 0, (3, 3)),
        ((7, 9), 3, 2, 0, (9, 12)), ((256, 32), 3, 1, 1, (3, 3)), ((256, 32), 3, 2, 1, (6, 5)),
        ((256, 16), 1, 2, 0, (5, 6)), ((260, 16), 3, 1, 1, (1, 2)),
    ],
)  # fmt: skip
def test_it_gives_what_a_convolution_gives(
    channels: tuple[int, int], kernel: int, stride: int, padding: int, sides: tuple[int, int], last: bool
) -> None:
    torch.manual_seed(0)
    conv = Conv2d(*channels, kernel, stride, padding, bias=False)
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(3, channels[0], *sides).bfloat16().float().contiguous(memory_format=layout)
    with torch.no_grad():
        conv.weight.copy_(conv.weight.bfloat16().float())
    conv = conv.to(memory_format=layout)  # type: ignore[call-overload]
    *found, made = results(conv, x, half=True)
    exact = nn.Conv2d(*channels, kernel, stride, padding, bias=False).double()
    exact.load_state_dict(conv.state_dict())
    assert made.name() == "_ProductBackward"
    for mine, wanted in zip(found, results(exact, x.double(), half=False)[:3], strict=True):
        assert mine.shape == wanted.shape
        assert (mine.double() - wanted).abs().max() <= ROUNDING * wanted.abs().max()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # the compiler does so itself
@pytest.mark.parametrize(("channels", "sides"), [((8, 12), (4, 5)), ((256, 16), (3, 2))])
def test_the_compiler_traces_it_whole(channels: tuple[int, int], sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = Conv2d(*channels, 3, padding=1, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(3, channels[0], *sides).contiguous(memory_format=torch.channels_last)
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


def by_product(conv: Conv2d, side: int, *, half: bool = True) -> bool:
    x = torch.randn(2, conv.in_channels, side, side, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        made = conv(x).grad_fn
    return bool(made.name() == "_ProductBackward")


def test_it_stands_aside_where_a_convolution_is_as_fast() -> None:
    conv = Conv2d(4, 6, 3, padding=1, bias=False)
    assert by_product(conv, 6)
    assert not by_product(conv, 7), "49 places"
    assert not by_product(conv, 6, half=False)
    assert not by_product(Conv2d(4, 6, 3, padding=1), 6), "with a bias"
    assert not by_product(Conv2d(4, 6, 3, padding=1, groups=2, bias=False), 6)
    assert not by_product(Conv2d(4, 6, 3, padding=2, dilation=2, bias=False), 6)
    assert not by_product(Conv2d(4, 6, 3, padding="same", bias=False), 6)
    assert not by_product(Conv2d(4, 6, (3, 1), padding=1, bias=False), 6)
    conv.weight.requires_grad_(False)
    assert not by_product(conv, 6), "no gradient of the weights is asked for"
    conv.weight.requires_grad_()
    assert not by_product(conv.eval(), 6)


def test_a_net_trains_the_same_steps_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of every tensor of a net points where it does with plain convolutions in bfloat16."""
    network = plan(replace(architecture("resnet18", num_classes=4), in_channels=1))
    x, labels = torch.rand(8, 1, 64, 64), torch.arange(8) % 4
    gradients = []
    for places in (36, 0):
        monkeypatch.setattr("residual.backends.torch_convolution._FEW", places)
        model = backend.build(network).train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad.double().flatten() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, mine in gradients[0].items():
        assert F.cosine_similarity(mine, gradients[1][name], dim=0) > 0.9, name
