"""The CIFAR checkpoints of training scripts: option A without tensors, `linear` heads, `shortcut` names, 3x3 stems."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import residual
from residual.conversion.formats import read
from residual.variants import VARIANTS, architecture
from tests.conversion.foreign import assert_alike, assert_reads, logits, pictures, randomised

SHARED = Path(__file__).parents[3] / "shared"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class OptionA(nn.Module):
    """The block that the widespread files come from: every second pixel, a quarter of the new width of zeros on each side."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.stride, self.quarter = stride, width // 4

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.quarter, self.quarter))
        return F.relu(y + x)


class OptionB(nn.Module):
    """The block of the other widespread script: 1x1 shortcuts called `shortcut`, bottlenecks with the stride on the 3x3."""

    def __init__(self, before: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        after = width * expansion
        shapes = [(before, width, 3), (width, width, 3)] if expansion == 1 else [(before, width, 1), (width, width, 3), (width, after, 1)]
        self.count, strided = len(shapes), 0 if expansion == 1 else 1
        for number, (a, b, side) in enumerate(shapes):
            conv = nn.Conv2d(a, b, side, stride if number == strided else 1, side // 2, bias=False)
            self.add_module(f"conv{number + 1}", conv)
            self.add_module(f"bn{number + 1}", nn.BatchNorm2d(b))
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = F.relu(y) if number < self.count else y
        return F.relu(y + self.shortcut(x))


class Net(nn.Module):
    def __init__(self, stages: list[nn.Sequential], width: int, features: int, head: str) -> None:
        super().__init__()
        self.conv1, self.bn1, self.head = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), head
        self.depth = len(stages)
        for number, stage in enumerate(stages, 1):
            self.add_module(f"layer{number}", stage)
        self.add_module(head, nn.Linear(features, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for number in range(1, self.depth + 1):
            x = getattr(self, f"layer{number}")(x)
        return getattr(self, self.head)(x.mean((2, 3)))  # type: ignore[no-any-return]


def option_a(n: int) -> nn.Module:
    widths = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
    stages = [nn.Sequential(OptionA(a, b, s), *(OptionA(b, b, 1) for _ in range(n - 1))) for a, b, s in widths]
    return randomised(Net(stages, 16, 64, "linear"))


def option_b(expansion: int, head: str = "linear", first_width: int = 64) -> nn.Module:
    before, stages = first_width, []
    for factor, stride in ((1, 1), (2, 2), (4, 2), (8, 2)):
        width = first_width * factor
        first = OptionB(before, width, stride, expansion)
        before = width * expansion
        stages.append(nn.Sequential(first, OptionB(before, width, 1, expansion)))
    return randomised(Net(stages, first_width, before, head))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_option_a(n: int, tmp_path: Path) -> None:
    theirs = option_a(n)
    torch.save({"state_dict": nn.DataParallel(theirs).state_dict(), "best_prec1": 91.7}, tmp_path / "model.th")
    found = assert_reads(tmp_path / "model.th", theirs, sides=((32, 32), (33, 31)))
    assert found.format == "cifar"
    assert found.architecture == architecture(f"cifar_resnet{6 * n + 2}")
    assert found.pairs["fc.weight"] == "module.linear.weight"
    assert found.preprocessing
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(("expansion", "head"), [(1, "linear"), (4, "linear"), (1, "fc")])
def test_option_b(expansion: int, head: str, tmp_path: Path) -> None:
    theirs = option_b(expansion, head)
    torch.save({"net": theirs.state_dict(), "acc": 95.1, "epoch": 7}, tmp_path / "ckpt.pth")
    found = assert_reads(tmp_path / "ckpt.pth", theirs, sides=((32, 32), (33, 31)))
    base = VARIANTS["resnet18" if expansion == 1 else "resnet50"]
    assert found.architecture == replace(base, depths=(2, 2, 2, 2), stem="cifar", num_classes=10)
    assert found.preprocessing is None
    assert any("--mean" in note for note in found.notes)


def test_only_the_option_a_files_have_a_preprocessing_that_is_known(tmp_path: Path) -> None:
    torch.save(option_b(1, first_width=16).state_dict(), tmp_path / "b.pth")
    torch.save(option_a(1).state_dict(), tmp_path / "a.pth")
    assert read(tmp_path / "b.pth").preprocessing is None
    assert read(tmp_path / "a.pth").preprocessing is not None


def test_it_goes_into_our_format_and_nowhere_that_has_no_option_a(tmp_path: Path) -> None:
    theirs = option_a(1)
    torch.save(theirs.state_dict(), tmp_path / "model.th")
    found = residual.convert(tmp_path / "model.th", tmp_path / "m.safetensors", "residual", classes=CLASSES)
    assert found.classes == CLASSES
    images = pictures(3, 32, 32)
    assert_alike(logits(residual.load(tmp_path / "m.safetensors"), images), logits(theirs, images))
    for to in ("torchvision", "timm", "transformers"):
        with pytest.raises(ValueError, match=f"{to} cannot hold this network: shortcut is 'pad'"):
            residual.convert(tmp_path / "m.safetensors", tmp_path / "out.pth", to)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "m.safetensors.certificate.json", "model.th"]


@pytest.mark.slow
def test_the_published_resnet20_scores_what_it_scores(tmp_path: Path) -> None:
    weights, data = SHARED / "weights/cifar10-resnet20.th", SHARED / "data/cifar10-jpeg"
    if not weights.is_file() or not data.is_dir():
        pytest.skip(f"the published weights and pictures are not in {SHARED}")
    residual.convert(weights, tmp_path / "resnet20.safetensors", "residual", classes=CLASSES)
    found = residual.evaluate(tmp_path / "resnet20.safetensors", str(data))
    assert (found.count, round(found.top1, 4)) == (10_000, 0.8103)
