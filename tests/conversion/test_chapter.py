"""The chapter's nets, built as it prints them, in the forms that readers have saved; the classes here follow its published text."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import residual
from residual.conversion.formats import read
from residual.variants import VARIANTS
from tests.conversion.foreign import assert_reads, randomised


class Residual(nn.Module):
    """The residual block of the chapter: two 3x3 convolutions with biases, and with `use_1x1conv` a 1x1 on the shortcut."""

    def __init__(self, input_channels: int, num_channels: int, use_1x1conv: bool = False, strides: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_channels, num_channels, kernel_size=3, padding=1, stride=strides)
        self.conv2 = nn.Conv2d(num_channels, num_channels, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(input_channels, num_channels, kernel_size=1, stride=strides) if use_1x1conv else None
        self.bn1, self.bn2 = nn.BatchNorm2d(num_channels), nn.BatchNorm2d(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.conv3:
            x = self.conv3(x)
        return F.relu(y + x)


def resnet_block(input_channels: int, num_channels: int, count: int, first_block: bool = False) -> nn.Sequential:
    blocks = []
    for number in range(count):
        if number == 0 and not first_block:
            blocks.append(Residual(input_channels, num_channels, use_1x1conv=True, strides=2))
        else:
            blocks.append(Residual(num_channels, num_channels))
    return nn.Sequential(*blocks)


def b1(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )  # fmt: skip


STAGES = ((64, 64), (64, 128), (128, 256), (256, 512))


def sequential(channels: int = 1, depth: int = 2) -> nn.Module:
    """The form of the first edition: net = nn.Sequential(b1, ..., b5, pool, flatten, linear)."""
    stages = [resnet_block(a, b, depth, first_block=number == 0) for number, (a, b) in enumerate(STAGES)]
    return nn.Sequential(b1(channels), *stages, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 10))


class ResNet(nn.Module):
    """The form of the later edition: self.net with b2 to b5 and last."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(b1(channels))
        for number, (a, b) in enumerate(STAGES):
            self.net.add_module(f"b{number + 2}", resnet_block(a, b, 2, first_block=number == 0))
        self.net.add_module("last", nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(512, 10)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


class Wrapped(nn.Module):
    """The plain form under self.net."""

    def __init__(self) -> None:
        super().__init__()
        self.net = sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]


def small_pictures() -> nn.Module:
    """The chapter on several GPUs: a 3x3 stem without a pool, and named blocks."""
    net = nn.Sequential(nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1), nn.BatchNorm2d(64), nn.ReLU())
    for number, (a, b) in enumerate(STAGES):
        net.add_module(f"resnet_block{number + 1}", resnet_block(a, b, 2, first_block=number == 0))
    net.add_module("global_avg_pool", nn.AdaptiveAvgPool2d((1, 1)))
    net.add_module("fc", nn.Sequential(nn.Flatten(), nn.Linear(512, 10)))
    return net


D2L = VARIANTS["resnet18_d2l"]
FORMS = {
    "sequential": (sequential, D2L), "class": (ResNet, D2L), "wrapped": (Wrapped, D2L),
    "deeper": (lambda: sequential(3, 3), replace(D2L, in_channels=3, depths=(3, 3, 3, 3))),
    "small pictures": (small_pictures, replace(D2L, stem="cifar", in_channels=3)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_its_nets_are_read(form: str, tmp_path: Path) -> None:
    make, arch = FORMS[form]
    theirs = randomised(make())
    torch.save(theirs.state_dict(), tmp_path / "resnet.params")
    found = assert_reads(tmp_path / "resnet.params", theirs, channels=arch.in_channels)
    assert found.format == "chapter"
    assert found.architecture == arch


def test_its_shortcut_is_its_conv3(tmp_path: Path) -> None:
    torch.save(ResNet().state_dict(), tmp_path / "a.pth")
    found = read(tmp_path / "a.pth")
    assert found.pairs["layer2.0.downsample.0.bias"] == "net.b3.0.conv3.bias"
    assert found.pairs["fc.weight"] == "net.last.2.weight"


def test_a_batch_norm_on_its_shortcut_is_another_net(tmp_path: Path) -> None:
    net = sequential()
    net[2][0].bn3 = nn.BatchNorm2d(128)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    tensors = sum("num_batches_tracked" not in name for name in net.state_dict())
    with pytest.raises(ValueError, match=rf"a.pth holds {tensors} tensors .* no network that is known"):
        read(tmp_path / "a.pth")


def test_no_library_takes_it(tmp_path: Path) -> None:
    torch.save(randomised(sequential()).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="transformers cannot hold this network: shortcut_norm is False"):
        residual.convert(tmp_path / "a.pth", tmp_path / "out", "transformers")
