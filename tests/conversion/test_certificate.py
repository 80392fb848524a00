"""A conversion is proved before its target appears, and a target that computes something else never does."""

import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import residual
from residual.conversion import convert, torchvision
from residual.conversion.certificate import certify
from residual.conversion.formats import read
from residual.conversion.libraries import computed
from residual.preprocessing import Preprocessing
from residual.variants import VARIANTS, architecture
from residual.weights import SavedModel, save
from tests.conversion.foreign import saved_of
from tests.oracles import timm, torchvision_models

CLEANED = Preprocessing(size=(48, 40), channels=3, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ours with a small net that torchvision, timm and transformers can hold."""
    torchvision_models()
    timm()
    path = tmp_path_factory.mktemp("source") / "net.safetensors"
    arch = replace(VARIANTS["resnet18"], depths=(1, 2, 1, 1), num_classes=3)
    save(path, replace(saved_of(arch), classes=("a", "b", "c"), preprocessing=CLEANED))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("to", "name"), [("torchvision", "net.pth"), ("timm", "net.safetensors"), ("residual", "net.safetensors"), ("transformers", "net")]
)
def test_what_it_says(to: str, name: str, source: Path, tmp_path: Path) -> None:
    found = convert(source, tmp_path / name, to)
    assert names(tmp_path) == [name, f"{name}.certificate.json"]
    told = json.loads((tmp_path / f"{name}.certificate.json").read_text())
    assert told == json.loads(json.dumps(found.as_dict()))
    assert (told["source"], told["target"], told["source_format"], told["target_format"]) == (
        str(source),
        str(tmp_path / name),
        "residual",
        to,
    )
    assert told["difference"] <= told["tolerance"] * told["largest_logit"]
    assert set(told["stages"]) == {"layer1", "layer2", "layer3", "layer4"}
    assert told["library"].startswith("" if to == "residual" else f"{to} ")
    assert bool(told["library"]) == (to != "residual")
    assert told["library_difference"] is None or told["library_difference"] <= told["tolerance"] * told["largest_logit"]
    assert told["preprocessing"]["mean"] == [0.1, 0.2, 0.3]
    assert told["classes"] == ["a", "b", "c"]
    assert told["versions"]["torch"] == importlib.metadata.version("torch")
    assert (
        len(told["tensors"])
        == len(residual.load(source).state_dict()) - 15 - sum("tracked" in n for n in residual.load(source).state_dict()) + 15
    )
    pair = next(row for row in told["tensors"] if row["ours"] == "layer2.0.downsample.0.weight")
    theirs = "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight" if to == "transformers" else pair["ours"]
    assert pair == {"ours": pair["ours"], "source": pair["ours"], "target": theirs, "shape": [128, 64, 1, 1]}
    assert all(row["target"] for row in told["tensors"])
    again = read(tmp_path / name)
    assert all((again.weights[key] == value).all() for key, value in read(source).weights.items())


def test_what_the_user_says_goes_into_the_target(source: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.pth"
    torchvision.write(read(source).saved(), theirs)
    assert read(theirs).preprocessing is None
    found = convert(theirs, tmp_path / "ours.safetensors", "residual", classes=["x", "y", "z"], preprocessing=CLEANED)
    assert not any("--mean" in note for note in found.notes)
    saved = residual.models.read(tmp_path / "ours.safetensors")
    assert (saved.classes, saved.preprocessing) == (("x", "y", "z"), CLEANED)
    with pytest.raises(ValueError, match="2 class names for a network of 3 outputs"):
        convert(theirs, tmp_path / "no.safetensors", "residual", classes=["x", "y"])


def test_what_the_user_says_replaces_what_a_config_beside_the_file_says(source: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.pth"
    torchvision.write(read(source).saved(), theirs)
    cleaned = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": cleaned}))
    assert any("was read from the config.json" in note for note in convert(theirs, tmp_path / "a.safetensors", "residual").notes)
    found = convert(theirs, tmp_path / "b.safetensors", "residual", preprocessing=CLEANED)
    assert not any("pictures are prepared" in note for note in found.notes)
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {**cleaned, "input_size": [3, float("inf"), 32]}}))
    assert read(theirs).preprocessing is None


def test_no_certificate_of_another_file_is_left_beside_a_target(source: Path, tmp_path: Path) -> None:
    """Where it cannot be removed, the target stays as it is."""
    (tmp_path / "net.pth").write_bytes(b"what was there before")
    (tmp_path / "net.pth.certificate.json").mkdir()
    with pytest.raises(OSError, match="certificate"):
        convert(source, tmp_path / "net.pth")
    assert (tmp_path / "net.pth").read_bytes() == b"what was there before"
    assert names(tmp_path) == ["net.pth", "net.pth.certificate.json"]


def test_a_target_of_other_numbers_is_refused(source: Path, tmp_path: Path) -> None:
    """Every kind of tensor, a little off: the logits, or a stage, must show it."""
    found = read(source)
    for name in ("layer2.0.downsample.0.weight", "layer4.0.bn2.running_var", "fc.bias"):
        weights = {key: value.copy() for key, value in found.weights.items()}
        weights[name] *= 1.01
        torchvision.write(SavedModel(architecture=found.architecture, weights=weights), tmp_path / "off.pth")
        with pytest.raises(
            ValueError, match=r"T was not written: read back, its logits differ from those of S by .* more than the tolerance"
        ):
            certify(found, tmp_path / "off.pth", "torchvision", names=("S", "T"), tolerance=1e-4, notes=())


def test_a_writer_that_errs_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torchvision.write

    def erring(saved: SavedModel, path: Path) -> tuple[str, ...]:
        weights = {**saved.weights, "fc.weight": saved.weights["fc.weight"][::-1]}
        return honest(replace(saved, weights=weights), path)

    (tmp_path / "net.pth").write_bytes(b"what was there before")
    monkeypatch.setattr(torchvision, "write", erring)
    with pytest.raises(ValueError, match=r"net.pth was not written: read back"):
        convert(source, tmp_path / "net.pth")
    assert names(tmp_path) == ["net.pth"]
    assert (tmp_path / "net.pth").read_bytes() == b"what was there before"
    with pytest.raises(ValueError, match="torchvision cannot hold"):
        convert_cifar(tmp_path)
    assert names(tmp_path) == ["c.safetensors", "net.pth"]


def convert_cifar(folder: Path) -> None:
    save(folder / "c.safetensors", saved_of(architecture("cifar_resnet8")))
    convert(folder / "c.safetensors", folder / "net.pth")


def test_the_library_itself_has_a_say(source: Path, tmp_path: Path) -> None:
    """A file that our reader takes and the library's strict loading does not: the tensors lie under a key."""
    found = read(source)
    torch.save({"state_dict": {name: torch.from_numpy(value) for name, value in found.weights.items()}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"torchvision does not take the file written for it: .*Missing key"):
        certify(found, tmp_path / "a.pth", "torchvision", names=("S", "T"), tolerance=1e-4, notes=())


def test_transformers_must_have_no_remark(source: Path, tmp_path: Path) -> None:
    """from_pretrained only warns of a tensor too many; here it counts."""
    convert(source, tmp_path / "net", "transformers")
    tensors = load_file(tmp_path / "net/model.safetensors")
    save_file({**tensors, "resnet.gate": np.zeros(3, np.float32)}, tmp_path / "net/model.safetensors", {"format": "pt"})
    images = np.zeros((1, 3, 64, 64), np.float32)
    with pytest.raises(ValueError, match=r"transformers does not take the file written for it: .*resnet.gate"):
        computed("transformers", tmp_path / "net", read(source).architecture, images)


def test_the_input_is_always_the_same(source: Path, tmp_path: Path) -> None:
    first, second = (convert(source, tmp_path / f"{number}.pth") for number in (1, 2))
    assert first.input_shape == (2, 3, 64, 65)
    assert (first.largest_logit, first.difference) == (second.largest_logit, second.difference)
    images = np.random.default_rng(first.seed).standard_normal(first.input_shape, np.float32)
    with torch.inference_mode():
        assert float(residual.load(source)(torch.from_numpy(images)).abs().max()) == pytest.approx(first.largest_logit, rel=1e-5)


def test_places_where_nothing_can_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("here")
    (tmp_path / "empty").mkdir()
    for target, to, words in (
        (source, "timm", "is the source itself"),
        (tmp_path / "full", "transformers", "is there already"),
        (tmp_path / "full/file", "transformers", "is there already"),
        (tmp_path / "full", "residual", "is a folder"),
        (tmp_path / "none/net.pth", "timm", "there is no folder"),
        (tmp_path / "net.onnx", "timm", "must end in one of .pth"),
        (tmp_path / "net.pth", "torchvison", "Did you mean 'torchvision'"),
        (tmp_path / "net.pth", "chapter", "no format that can be written"),
    ):
        with pytest.raises(ValueError, match=words):
            convert(source, target, to)
    for tolerance in (0.0, -1.0, float("nan"), 1.0):
        with pytest.raises(ValueError, match="tolerance is"):
            convert(source, tmp_path / "net.pth", tolerance=tolerance)
    with pytest.raises(ValueError, match="stride_on is 'conv3'"):
        convert(source, tmp_path / "net.pth", stride_on="conv3")  # type: ignore[arg-type]
    assert names(tmp_path) == ["empty", "full"]
    assert convert(source, tmp_path / "empty", "transformers").target_format == "transformers"


def test_a_run_is_a_source(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8), np.arange(40) % 2
    run = residual.train((images, labels), "cifar_resnet8", out=tmp_path / "run", epochs=1, batch_size=8)
    found = convert(run.folder, tmp_path / "net.safetensors", "residual")
    assert found.classes == run.saved().classes
    assert found.preprocessing == run.saved().preprocessing
