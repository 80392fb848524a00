"""timm's own nets are read as they compute; what we write its nets load with strict=True."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from residual.conversion import timm as format_module
from residual.conversion.formats import read
from residual.preprocessing import Preprocessing
from residual.variants import VARIANTS
from residual.weights import SavedModel
from tests.conversion.foreign import assert_reads, randomised, saved_of
from tests.oracles import timm

_V2 = {"preact_start": "block", "shortcut_norm": False}
NETS = {
    "resnet50d": VARIANTS["resnet50d"],
    "resnet26d": replace(VARIANTS["resnet50d"], depths=(2, 2, 2, 2)),
    "resnet18d": replace(VARIANTS["resnet18"], stem="deep", shortcut_pool=True),
    "resnet50c": VARIANTS["resnet50c"],
    "seresnet50": VARIANTS["se_resnet50"],
    "seresnext50_32x4d": replace(VARIANTS["resnext50_32x4d"], se_reduction=16),
    "resnetv2_18": replace(VARIANTS["preact_resnet18"], **_V2),
    "resnetv2_50": replace(VARIANTS["preact_resnet50"], **_V2),
    "resnetv2_152": replace(VARIANTS["preact_resnet152"], **_V2),
    "resnetv2_50d": replace(VARIANTS["preact_resnet50"], stem="deep", shortcut_pool=True, **_V2),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_its_nets_are_read(name: str, tmp_path: Path) -> None:
    theirs = randomised(timm().create_model(name, pretrained=False, num_classes=9))
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    sides = ((64, 65),) if name.endswith("152") else ((64, 64), (65, 63))
    found = assert_reads(tmp_path / "weights.safetensors", theirs, sides=sides)
    assert found.format == "timm"
    assert found.architecture == replace(NETS[name], num_classes=9)


def test_grey_pictures_and_a_training_checkpoint(tmp_path: Path) -> None:
    theirs = randomised(timm().create_model("resnet18d", pretrained=False, num_classes=3, in_chans=1))
    torch.save({"epoch": 1, "arch": "resnet18d", "state_dict": theirs.state_dict(), "metric": 0.5}, tmp_path / "last.pth.tar")
    assert assert_reads(tmp_path / "last.pth.tar", theirs, channels=1).architecture.in_channels == 1


@pytest.mark.parametrize("name", ["resnetv2_50x1_bit", "resnetv2_50d_gn", "resnetv2_50d_evos"])
def test_other_norms_are_refused_by_name(name: str, tmp_path: Path) -> None:
    save_file(timm().create_model(name, pretrained=False, num_classes=3).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights.safetensors holds a ResNetV2 of timm without batch norm \(BiT"):
        read(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", ["resnet50", "resnetv2_50", "resnet50d"])
def test_the_preprocessing_is_timm_s(name: str, tmp_path: Path) -> None:
    """Without a config.json the library's default for such nets; with one, what it says."""
    theirs = timm().create_model(name, pretrained=False)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    found = read(tmp_path / "model.safetensors")
    assert found.preprocessing
    assert (found.preprocessing.mean, found.preprocessing.std) == (theirs.default_cfg["mean"], theirs.default_cfg["std"])
    cfg = {**theirs.default_cfg, "input_size": (3, 160, 176), "crop_pct": 0.95, "mean": (0.1, 0.2, 0.3)}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": cfg}, default=str))
    found = read(tmp_path / "model.safetensors")
    assert found.preprocessing == Preprocessing(size=(160, 176), channels=3, mean=(0.1, 0.2, 0.3), std=cfg["std"], crop=0.95)
    for text in ("{", "[1]", '{"pretrained_cfg": {"input_size": [3, 1]}}', '{"pretrained_cfg": {"input_size": "big"}}'):
        (tmp_path / "config.json").write_text(text)
        assert read(tmp_path / "model.safetensors").preprocessing != found.preprocessing


def test_a_net_that_blurs_is_told_by_its_config(tmp_path: Path) -> None:
    theirs = timm().create_model("resnetblur50", pretrained=False, num_classes=3)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnetblur50"}))
    with pytest.raises(ValueError, match=r"model.safetensors belongs to timm's resnetblur50"):
        read(tmp_path / "model.safetensors")


UNKNOWN = {
    "ecaresnet50d": "layer1.0.se.conv.weight is not a tensor of this net",
    "resnet50t": "deep stem begins with 24 channels and ends with 64",
    "resnetrs50": "maxpool.0.weight is not a tensor of this net", "legacy_seresnet18": "no network that is known",
    "vit_tiny_patch16_224": "no network that is known",
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_nets_that_are_not_known_are_refused(name: str, tmp_path: Path) -> None:
    save_file(timm().create_model(name, pretrained=False, num_classes=3).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights.safetensors holds .*known") as caught:
        read(tmp_path / "weights.safetensors")
    assert UNKNOWN[name] in str(caught.value)


@pytest.mark.parametrize("name", [*NETS, "wide"])
def test_its_nets_load_what_is_written(name: str, tmp_path: Path) -> None:
    arch = NETS.get(name, VARIANTS["wide_resnet50_2"])
    if "18" not in name:
        arch = replace(arch, depths=(1, 2, 1, 1))
    saved = saved_of(replace(arch, num_classes=6, in_channels=1))
    suffix = ".pth" if "50" in name else ".safetensors"
    path = tmp_path / f"out{suffix}"
    notes = format_module.write(saved, path)
    built, arguments = format_module.model_arguments(saved.architecture)
    assert built in notes[0]
    theirs = timm().create_model(built, pretrained=False, **arguments)
    theirs.load_state_dict(load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True), strict=True)
    assert_reads(path, theirs.eval(), channels=1, sides=((64, 65),))
    found = read(path).architecture
    assert replace(found, shortcut_norm=True) == replace(saved.architecture, shortcut_norm=True)


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("resnet50_v1", {}, "stride_on is 'conv1'"), ("cifar_resnet20", {}, "shortcut is 'pad'"),
        ("se_resnet50", {"se_reduction": 4}, "se_reduction is 4"), ("preact_resnet50", {}, "preact_start is 'stem'"),
        ("resnet18", {"se_reduction": 16}, "squeezed widths are multiples of 8"), ("resnet18", {"conv_bias": True}, "conv_bias is True"),
        ("preact_resnet50", {"preact_start": "block", "stride_on": "conv1"}, "stride_on is 'conv1'"),
        ("preact_resnet50", {"preact_start": "block", "groups": 32}, "groups is 32"), ("resnet18", {"stem_width": 32}, "stem_width is 32"),
        ("resnet18", {"order": "bn-after-addition"}, "order is 'bn-after-addition'"), ("resnet18", {"stem": "cifar"}, "stem is 'cifar'"),
    ],
)  # fmt: skip
def test_what_it_cannot_hold_is_refused_by_name(name: str, changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    saved = SavedModel(architecture=replace(VARIANTS[name], **changes), weights={})
    with pytest.raises(ValueError, match="timm cannot hold this network") as caught:
        format_module.write(saved, tmp_path / "out.pth")
    assert field in str(caught.value)
    assert not list(tmp_path.iterdir())
