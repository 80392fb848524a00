"""torchvision's own nets, saved by its users' means, are read as they compute; what we write its nets load with strict=True."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import residual
from residual.conversion import torchvision as format_module
from residual.conversion.formats import read
from residual.variants import VARIANTS
from residual.weights import SavedModel, save
from tests.conversion.foreign import assert_alike, assert_reads, logits, pictures, randomised, saved_of
from tests.oracles import torchvision_models

NETS = ("resnet18", "resnet34", "resnet50", "resnet152", "wide_resnet50_2", "resnext50_32x4d")


@pytest.mark.parametrize("name", NETS)
def test_its_nets_are_read(name: str, tmp_path: Path) -> None:
    theirs = randomised(getattr(torchvision_models(), name)(num_classes=11))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    sides = ((64, 65),) if name == "resnet152" else ((64, 64), (65, 63))
    found = assert_reads(tmp_path / "weights.pth", theirs, sides=sides)
    assert found.format == "torchvision"
    assert found.architecture == replace(VARIANTS[name], num_classes=11)
    assert found.pairs["layer1.0.conv1.weight"] == "layer1.0.conv1.weight"
    assert any("v1.5" in note for note in found.notes) == (name not in ("resnet18", "resnet34"))


WRAPPED: dict[str, Any] = {
    "open": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "best_acc1": torch.tensor(7.0), "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}},
    "model_state": lambda state: {"model_state": state},
    "parallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    "half": lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrapped_as_training_scripts_do(wrap: str, legacy: bool, tmp_path: Path) -> None:
    theirs = randomised(torchvision_models().resnet18(num_classes=4))
    torch.save(WRAPPED[wrap](theirs.state_dict()), tmp_path / "a", _use_new_zipfile_serialization=not legacy)
    found = read(tmp_path / "a")
    assert found.format == "torchvision"
    for name, value in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert (found.weights[name] == (value.half() if wrap == "half" else value).float().numpy()).all()
    assert found.pairs["fc.bias"] == {"parallel": "module.fc.bias", "compiled": "module._orig_mod.fc.bias"}.get(wrap, "fc.bias")


def test_a_safetensors_file_whatever_it_is_called(tmp_path: Path) -> None:
    theirs = randomised(torchvision_models().resnet18(num_classes=4))
    save_file(theirs.bfloat16().state_dict(), tmp_path / "weights.pth")
    assert_reads(tmp_path / "weights.pth", theirs.float(), sides=((64, 65),))


def test_the_paper_s_stride_is_asked_for(tmp_path: Path) -> None:
    """The same tensors with the stride on the first 1x1: another function, which torchvision cannot hold."""
    theirs = torchvision_models().resnet50(num_classes=5)
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    randomised(theirs)
    torch.save(theirs.state_dict(), tmp_path / "v1.pth")
    images = pictures(3, 64, 65)
    residual.convert(tmp_path / "v1.pth", tmp_path / "v1.safetensors", "residual", stride_on="conv1")
    assert_alike(logits(residual.load(tmp_path / "v1.safetensors"), images), logits(theirs, images))
    assert (logits(residual.load(tmp_path / "v1.pth"), images) - logits(theirs, images)).abs().max() > 0.01
    with pytest.raises(ValueError, match="stride_on is 'conv1', and there it is always 'conv2'"):
        residual.convert(tmp_path / "v1.safetensors", tmp_path / "again.pth", "torchvision")
    with pytest.raises(ValueError, match="says itself where the stride is"):
        residual.convert(tmp_path / "v1.safetensors", tmp_path / "again.pth", "residual", stride_on="conv2")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("resnet18", ".pth"), ("resnet50", ".safetensors"), ("wide_resnet50_2", ".pth"), ("resnext50_32x4d", ".safetensors")],
)
def test_its_nets_load_what_is_written(name: str, suffix: str, tmp_path: Path) -> None:
    saved = saved_of(replace(VARIANTS[name], num_classes=6))
    path = tmp_path / f"out{suffix}"
    notes = format_module.write(saved, path)
    assert f"torchvision.models.{name}(num_classes=6)" in notes[0]
    theirs = getattr(torchvision_models(), name)(num_classes=6)
    theirs.load_state_dict(load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True), strict=True)
    assert_reads(path, theirs.eval(), sides=((64, 65),))


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("resnet50_v1", {}, "stride_on is 'conv1'"), ("cifar_resnet20", {}, "shortcut is 'pad'"), ("resnet50d", {}, "stem is 'deep'"),
        ("se_resnet50", {}, "se_reduction is 16"), ("preact_resnet18", {}, "order is 'preact'"),
        ("resnet18_d2l", {}, "shortcut_norm is False"),
        ("plain18", {}, "shortcut is 'none'"), ("resnet18", {"in_channels": 1}, "in_channels is 1"),
        ("resnet18", {"bn_epsilon": 1e-3}, "bn_epsilon is 0.001"), ("resnet50", {"inner_widths": (64, 128, 256, 256)}, "inner_widths is"),
        ("resnet18", {"groups": 2}, "groups is 2"),
        ("resnet18", {"conv_bias": True}, "conv_bias is True"), ("resnet18", {"strides": (1, 2, 2, 1)}, "strides is"),
        ("resnet18", {"stem_width": 32}, "stem_width is 32"), ("resnet50", {"depths": (1, 1, 1), "inner_widths": (64, 128, 256),
            "out_widths": (256, 512, 1024), "strides": (1, 2, 2)}, "strides is"),
    ],
)  # fmt: skip
def test_what_it_cannot_hold_is_refused_by_name(name: str, changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    saved = SavedModel(architecture=replace(VARIANTS[name], **changes), weights={})
    with pytest.raises(ValueError, match="torchvision cannot hold this network") as caught:
        format_module.write(saved, tmp_path / "out.pth")
    assert field in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_a_net_makes_no_use_of_is_no_obstacle(tmp_path: Path) -> None:
    """Basic blocks have no place for `stride_on`, and zeros around what a ReLU put out are as good as minus infinity."""
    arch = replace(VARIANTS["resnet18"], num_classes=3, stride_on="conv1", pool_padding="zero")
    save(tmp_path / "a.safetensors", saved_of(arch))
    found = residual.convert(tmp_path / "a.safetensors", tmp_path / "a.pth", "torchvision")
    assert found.difference <= 1e-4 * found.largest_logit
