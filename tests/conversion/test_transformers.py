"""ResNets of transformers, written by save_pretrained, are read as they compute; from_pretrained loads what we write without a remark."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual.conversion import transformers as format_module
from residual.conversion.formats import read
from residual.preprocessing import Preprocessing
from residual.variants import VARIANTS
from residual.weights import SavedModel
from tests.conversion.foreign import assert_alike, assert_reads, logits, pictures, randomised, saved_of
from tests.oracles import torchvision_models

CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "basic": ({"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}, {}),
    "bottleneck": ({"depths": [1, 2, 1, 1]}, {"depths": (1, 2, 1, 1)}),
    "v1": ({"depths": [1, 2, 1, 1], "downsample_in_bottleneck": True}, {"depths": (1, 2, 1, 1), "stride_on": "conv1"}),
    "first stage": (
        {"layer_type": "basic", "depths": [1, 2, 1], "hidden_sizes": [32, 48, 64], "embedding_size": 32, "downsample_in_first_stage": True},
        {
            "depths": (1, 2, 1), "inner_widths": (32, 48, 64), "out_widths": (32, 48, 64), "strides": (2, 2, 2), "stem_width": 32,
            "block": "basic",
        },
    ),
    "first bottleneck stage": (
        {"depths": [2, 1], "hidden_sizes": [64, 128], "embedding_size": 16, "downsample_in_first_stage": True},
        {"depths": (2, 1), "inner_widths": (16, 32), "out_widths": (64, 128), "strides": (2, 2), "stem_width": 16},
    ),
    "grey": ({"depths": [1, 1, 1, 1], "num_channels": 1}, {"depths": (1, 1, 1, 1), "in_channels": 1}),
}  # fmt: skip


@pytest.fixture(scope="module")
def library() -> ModuleType:
    torchvision_models()  # or its import fails where torchvision is another build's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports
        return pytest.importorskip("transformers", reason="transformers is an oracle that `make test` installs")


@pytest.mark.parametrize("name", CONFIGS)
def test_its_nets_are_read_and_written_back(name: str, library: ModuleType, tmp_path: Path) -> None:
    given, changes = CONFIGS[name]
    config = library.ResNetConfig(**given, num_labels=5, id2label={i: f"kind {i}" for i in range(5)})
    theirs = randomised(library.ResNetForImageClassification(config))
    theirs.save_pretrained(tmp_path / "theirs")
    found = assert_reads(tmp_path / "theirs", theirs, channels=config.num_channels)
    base = VARIANTS["resnet18" if given.get("layer_type") == "basic" else "resnet50"]
    assert found.architecture == replace(base, **{"num_classes": 5, **changes})
    assert found.classes == tuple(f"kind {i}" for i in range(5))
    assert not any("v1.5" in note for note in found.notes)
    format_module.write(found.saved(), tmp_path / "ours")
    again, told = library.ResNetForImageClassification.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told.values()), told
    images = pictures(config.num_channels, 65, 64)
    assert torch.equal(logits(again.eval(), images), logits(theirs, images))
    assert again.config.id2label == config.id2label
    assert read(tmp_path / "ours").architecture == found.architecture


def test_a_bin_file_is_read_too(library: ModuleType, tmp_path: Path) -> None:
    theirs = randomised(library.ResNetForImageClassification(library.ResNetConfig(depths=[1, 1, 1, 1])))
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert assert_reads(tmp_path, theirs, sides=((64, 65),)).classes == ()


@pytest.mark.parametrize(
    "cleaned",
    [
        Preprocessing(size=(224, 224), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875),
        Preprocessing(size=(64, 96), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
        Preprocessing(size=(384, 384), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
    ],
    ids=["square", "oblong", "large"],
)
def test_its_processor_prepares_pictures_as_ours_do(cleaned: Preprocessing, library: ModuleType, tmp_path: Path) -> None:
    arch = replace(VARIANTS["resnet18"], num_classes=2)
    saved = SavedModel(architecture=arch, weights=saved_of(arch).weights, classes=("cat", "dog"), preprocessing=cleaned)
    format_module.write(saved, tmp_path / "out")
    assert read(tmp_path / "out").preprocessing == cleaned
    processor = library.AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    height, width = (round(side / cleaned.crop) for side in cleaned.size)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    top, left = (height - cleaned.size[0]) // 2, (width - cleaned.size[1]) // 2
    cut = pixels[top : top + cleaned.size[0], left : left + cleaned.size[1]]
    wanted = cleaned.normalise(cut[None])
    got = np.asarray(processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"])
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-5


def test_a_processor_that_cannot_be_followed_is_said(library: ModuleType, tmp_path: Path) -> None:
    library.ResNetForImageClassification(library.ResNetConfig(depths=[1, 1, 1, 1])).save_pretrained(tmp_path)
    told = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 40},
        "image_mean": [0.5] * 3,
        "image_std": [0.2] * 3,
    }
    for change, words, size in (
        ({}, "squeezes pictures", (32, 40)),
        ({"do_normalize": False}, "squeezes pictures", (32, 40)),
        ({"rescale_factor": 1.0}, "rescale_factor 1.0 is not 1/255", None),
        ({"size": {"longest": 3}}, "was not understood", None),
        ({"size": [32, 40]}, "was not understood", None),
        ({"size": {"height": float("inf"), "width": 3}}, "was not understood", None),
        ({"image_std": [0.0] * 3}, "was not understood", None),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(told | change))
        found = read(tmp_path)
        assert any(words in note for note in found.notes), change
        assert (found.preprocessing.size if found.preprocessing else None) == size
        if "do_normalize" in change:
            assert found.preprocessing
            assert found.preprocessing.mean == (0.0,) * 3


EDITS: list[tuple[dict[str, Any], str]] = [
    ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    ({"depths": [1, 1, 1, 2]}, r"depths=\[1, 1, 1, 2\], but the tensors show"),
    ({"hidden_sizes": [1, 2, 3, 4]}, "hidden_sizes="),
    ({"depths": "many"}, "depths='many'"),
    ({"depths": [1] * 3}, "strides is"),
    ({"id2label": {"0": "a"}, "label2id": {}}, "id2label"),
    ({"layer_type": "basic"}, "layer_type='basic'"),
]


@pytest.mark.parametrize(("edit", "words"), EDITS)
def test_a_config_that_lies_is_refused(edit: dict[str, Any], words: str, tmp_path: Path) -> None:
    format_module.write(saved_of(replace(VARIANTS["resnet50"], depths=(1, 1, 1, 1), num_classes=3)), tmp_path / "m")
    told = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps(told | edit))
    with pytest.raises(ValueError, match=words) as caught:
        read(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


def test_a_folder_without_weights_and_one_in_parts(tmp_path: Path) -> None:
    format_module.write(saved_of(replace(VARIANTS["resnet18"], num_classes=3)), tmp_path / "m")
    (tmp_path / "m/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"neither model.safetensors nor pytorch_model.bin"):
        read(tmp_path / "m")
    (tmp_path / "m/model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="in several files"):
        read(tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("cifar_resnet20", {}, "shortcut is 'pad'"), ("resnext50_32x4d", {}, "groups is 32"), ("wide_resnet50_2", {}, "inner_widths is"),
        ("resnet50d", {}, "stem is 'deep'"), ("preact_resnet18", {}, "order is 'preact'"),
        ("resnet18", {"bn_epsilon": 1e-3}, "bn_epsilon is"),
        ("se_resnet50", {}, "se_reduction is 16"), ("resnet18_d2l", {}, "shortcut_norm is False"),
        ("resnet18", {"stem": "cifar"}, "stem is"),
    ],
)  # fmt: skip
def test_what_it_cannot_hold_is_refused_by_name(name: str, changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="transformers cannot hold this network") as caught:
        format_module.write(SavedModel(architecture=replace(VARIANTS[name], **changes), weights={}), tmp_path / "out")
    assert field in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_2015_paper_s_net_travels(library: ModuleType, tmp_path: Path) -> None:
    """What torchvision refuses: the stride on the first 1x1."""
    saved = saved_of(replace(VARIANTS["resnet50_v1"], num_classes=4))
    residual.save(residual.create(saved.architecture, seed=3), tmp_path / "v1.safetensors")
    found = residual.convert(tmp_path / "v1.safetensors", tmp_path / "folder", "transformers")
    assert found.library.startswith("transformers 5")
    theirs = library.ResNetForImageClassification.from_pretrained(tmp_path / "folder").eval()
    assert theirs.config.downsample_in_bottleneck
    images = pictures(3, 64, 65)
    assert_alike(logits(residual.load(tmp_path / "v1.safetensors"), images), logits(theirs, images))
