"""First values, and the one file: what is written is read back bit for bit, and a damaged file is refused by name."""

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from residual import weights as weights_module
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.variants import VARIANTS, architecture
from residual.weights import SavedModel, check, initialise, load, manifest, save, write_whole
from tests.nets import SMALL, random_weights, scaled_down

PREPROCESSING = Preprocessing(size=(8, 9), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3), crop=0.875)
CLASSES = ("bee", "cat", "dog", "é", "名")


@pytest.fixture
def saved() -> SavedModel:
    return SavedModel(architecture=SMALL, weights=random_weights(plan(SMALL)), classes=CLASSES, preprocessing=PREPROCESSING)


def test_a_file_comes_back_as_it_was(saved: SavedModel, tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", saved)
    found = load(tmp_path / "m.safetensors")
    assert replace(found, weights={}) == replace(saved, weights={})
    assert found.weights.keys() == saved.weights.keys()
    assert all((found.weights[name] == value).all() for name, value in saved.weights.items())
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("mapped", [1, 3000, 2**40])
def test_a_file_is_opened_anew_after_so_many_bytes(saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: int) -> None:
    opened, really = list[str](), weights_module.safe_open
    monkeypatch.setattr(weights_module, "_MAPPED", mapped)
    monkeypatch.setattr(weights_module, "safe_open", lambda *given, **named: opened.append("") or really(*given, **named))
    save(tmp_path / "a.safetensors", saved)
    found = load(tmp_path / "a.safetensors")
    assert list(found.weights) == sorted(saved.weights)
    for name, value in saved.weights.items():
        np.testing.assert_array_equal(found.weights[name], value)
    if mapped == 3000:
        assert 3 < len(opened) < 1 + len(saved.weights)
    else:
        assert len(opened) == 1 + (len(saved.weights) if mapped == 1 else 1)


def test_a_file_that_says_less(tmp_path: Path) -> None:
    save(tmp_path / "m.safetensors", SavedModel(architecture=SMALL, weights=initialise(plan(SMALL))))
    found = load(str(tmp_path / "m.safetensors"))
    assert (found.classes, found.preprocessing) == ((), None)


def _edited(path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Lets `edit` change the tensors and what the metadata says."""
    tensors = load_file(path)
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    told = json.loads(json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]["residual"])
    edit(tensors, told)
    save_file(tensors, path, {"residual": json.dumps(told)})


EDITS: list[tuple[str, Callable[[dict[str, Any], dict[str, Any]], None], str]] = [
    ("renamed", lambda t, m: t.update({"conv9.weight": t.pop("conv1.weight")}), "missing conv1.weight .*; extra conv9.weight"),
    ("missing", lambda t, m: t.pop("fc.bias"), r"missing fc.bias \(5,\)"),
    ("shape", lambda t, m: t.update({"fc.bias": np.zeros(6, np.float32)}), r"fc.bias has shape \(6,\) instead of \(5,\)"),
    ("NaN", lambda t, m: t["layer1.0.bn1.weight"].fill(np.nan), "layer1.0.bn1.weight holds NaN"),
    ("infinity", lambda t, m: t["fc.weight"].fill(-np.inf), "fc.weight holds NaN or infinity"),
    ("version", lambda t, m: m.update(format_version=2), "its format version is 2, this residual reads 1"),
    ("no version", lambda t, m: m.pop("format_version"), "its format version is None"),
    ("no architecture", lambda t, m: m.pop("architecture"), "'architecture'"),
    ("field", lambda t, m: m["architecture"].update(colour="red"), "no field 'colour'"),
    ("value", lambda t, m: m["architecture"].update(depths=[1, "2"]), "depths is"),
    ("huge", lambda t, m: m["architecture"].update(depths=[10**9, 1]), "at most 10000 blocks"),
    ("list", lambda t, m: m.update(architecture=[1]), "not a model file"),
    ("classes", lambda t, m: m["classes"].pop(), "4 class names for a network of 5 outputs"),
    ("preprocessing", lambda t, m: m["preprocessing"].pop("std"), "preprocessing is incomplete: 'std'"),
    ("channels", lambda t, m: m["preprocessing"].update(channels=1, mean=[0], std=[1]), "gives 1 channels to a network that takes 3"),
]


@pytest.mark.parametrize(("edit", "words"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_a_file_with_wrong_contents(
    saved: SavedModel, tmp_path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], None], words: str
) -> None:
    path = tmp_path / "wrong.safetensors"
    save(path, saved)
    _edited(path, edit)
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


BYTES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("empty", lambda content: b""),
    ("text", lambda content: b"this is not a model\n" * 50),
    ("cut in the header", lambda content: content[:100]),
    ("cut in the tensors", lambda content: content[:-7]),
    ("longer", lambda content: content + b"more"),
    ("header length", lambda content: b"\xff" * 8 + content[8:]),
    ("header damaged", lambda content: content[:20] + b"\x00" * 20 + content[40:]),
    ("zeros", lambda content: bytes(len(content))),
]


@pytest.mark.parametrize("damage", [row[1] for row in BYTES], ids=[row[0] for row in BYTES])
def test_a_damaged_file(saved: SavedModel, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "damaged.safetensors"
    save(path, saved)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"damaged.safetensors is not a model file that can be read: "):
        load(path)


def test_metadata_that_is_no_json_and_none_at_all(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    tensors = initialise(plan(SMALL))
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"foreign.safetensors .* was not written by residual.save"):
        load(path)
    save_file(tensors, path, {"residual": "{"})
    with pytest.raises(ValueError, match=r"foreign.safetensors is not a model file"):
        load(path)


def test_no_file_and_no_place(saved: SavedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no model file .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        save(tmp_path / "nowhere" / "m.safetensors", saved)
    with pytest.raises(ValueError, match=r"that is a folder"):
        save(tmp_path, saved)


def test_nothing_wrong_is_written(saved: SavedModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(path, saved)
    before = path.read_bytes()
    saved.weights["fc.bias"][0] = np.nan
    with pytest.raises(ValueError, match=r"fc.bias holds NaN"):
        save(path, saved)
    assert path.read_bytes() == before


def test_write_whole_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_check_names_every_fault() -> None:
    network = plan(SMALL)
    weights = initialise(network)
    weights["extra.weight"] = weights.pop("conv1.weight")
    weights["fc.weight"] = weights["fc.weight"].T
    with pytest.raises(ValueError, match=r"missing conv1.weight \(4, 3, 3, 3\); extra extra.weight; fc.weight has shape \(7, 5\)"):
        check(network, weights)


def test_first_values_depend_on_seed_and_name_alone() -> None:
    first, again, other = (initialise(plan(SMALL), seed) for seed in (0, 0, 1))
    grown = initialise(plan(replace(SMALL, depths=(1, 3))))
    assert (first["layer1.0.conv1.weight"] != first["layer1.0.conv2.weight"]).any()
    for name, value in first.items():
        assert (value == again[name]).all()
        assert (value == grown[name]).all()
        assert "bn" in name or "downsample.1" in name or (value != other[name]).any(), name


def test_first_values_have_the_papers_spread() -> None:
    """He: deviation sqrt(2 / fan out); Xavier: uniform within sqrt(6 / (fan in + fan out)); torchvision's and the chapter's."""
    he = initialise(plan(VARIANTS["resnet18"]))
    assert he["layer4.1.conv1.weight"].std() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert he["layer4.0.conv1.weight"].std() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert he["conv1.weight"].std() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.03)
    assert np.abs(he["fc.weight"]).max() == pytest.approx(512**-0.5, rel=0.001)
    assert 0.9 * 512**-0.5 < np.abs(he["fc.bias"]).max() <= 512**-0.5
    xavier = initialise(plan(VARIANTS["resnet18_d2l"]))
    assert np.abs(xavier["layer4.1.conv1.weight"]).max() == pytest.approx((6 / (2 * 512 * 9)) ** 0.5, rel=0.001)
    assert np.abs(xavier["fc.weight"]).max() == pytest.approx((6 / 522) ** 0.5, rel=0.01)
    assert np.abs(xavier["layer4.1.conv1.bias"]).max() == pytest.approx((512 * 9) ** -0.5, rel=0.01)


def test_zero_last_gamma() -> None:
    for name, last in (("resnet18", "bn2"), ("resnet50", "bn3")):
        found = initialise(plan(architecture(name, zero_last_gamma=True)))
        zero = {key for key, value in found.items() if key.endswith("weight") and value.ndim == 1 and not value.any()}
        assert zero == {f"layer{s + 1}.{b}.{last}.weight" for s, n in enumerate(VARIANTS[name].depths) for b in range(n)}


def test_manifest_is_what_is_initialised() -> None:
    for arch in VARIANTS.values():
        small = plan(scaled_down(arch))
        assert [(name, value.shape) for name, value in initialise(small).items()] == list(manifest(small).items())
    assert manifest(plan(SMALL))["layer2.0.downsample.0.weight"] == (7, 4, 1, 1)


def test_the_metadata_is_plain_json(saved: SavedModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(path, saved)
    seen: dict[str, Any] = {}
    _edited(path, lambda tensors, told: seen.update(told))
    assert seen["architecture"] == json.loads(json.dumps(asdict(SMALL)))
    assert seen["classes"] == list(CLASSES)
