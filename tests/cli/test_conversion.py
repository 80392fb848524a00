"""`residual convert`: what it prints, what it writes, and one sentence with exit code 2 for every mistake."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import residual
from residual.cli import main
from residual.conversion import torchvision
from residual.variants import VARIANTS
from tests.conversion.foreign import saved_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of torchvision, of ours, of a CIFAR script and of nobody."""
    root = tmp_path_factory.mktemp("convert")
    torchvision.write(saved_of(replace(VARIANTS["resnet50"], depths=(1, 1, 1, 1), num_classes=3)), root / "theirs.pth")
    residual.save(residual.create("cifar_resnet8"), root / "ours.safetensors")
    state = residual.create("cifar_resnet8").state_dict()
    torch.save({f"module.{name.replace('fc.', 'linear.')}": value for name, value in state.items()}, root / "script.th")
    (root / "text.pth").write_text("hello")
    (root / "folder").mkdir()
    return root


def test_it_prints_its_proof(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", f"{place}/theirs.pth", f"{tmp_path}/net", "--to", "transformers"]) == 0
    out = capsys.readouterr().out
    assert f"{place}/theirs.pth (torchvision) -> {tmp_path}/net (transformers)" in out
    assert "conv1.weight -> resnet.embedder.embedder.convolution.weight  64x3x7x7" in out
    for words in ("layer4", "logits", "tolerance 0.0001", "v1.5", "--mean", "Certificate: ", "more tensors"):
        assert words in out
    assert json.loads((tmp_path / "net.certificate.json").read_text())["architecture"]["stride_on"] == "conv2"


def test_options_and_json(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--to residual --stride-on conv1 --classes ant bee cat --mean 0.1 0.2 0.3 --std 0.4 0.5 0.6 --image-size 64x96 --json"
    assert main(["convert", f"{place}/theirs.pth", f"{tmp_path}/net.safetensors", *words.split()]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["architecture"]["stride_on"] == "conv1"
    assert told["classes"] == ["ant", "bee", "cat"]
    wanted = {"size": [64, 96], "channels": 3, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop": 1.0, "views": "one"}
    assert told["preprocessing"] == wanted
    assert residual.load(tmp_path / "net.safetensors").plan.architecture.stride_on == "conv1"


def test_a_part_of_the_preprocessing_changes_that_part(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", f"{place}/script.th", f"{tmp_path}/n.safetensors", "--to", "residual", "--std", "1", "1", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["preprocessing"]
    assert (told["size"], told["mean"], told["std"]) == ([32, 32], [0.485, 0.456, 0.406], [1.0, 1.0, 1.0])


MISTAKES = [
    ("convert", "needs SOURCE"),
    ("convert {}/theirs.pth", "needs TARGET"),
    ("convert {}/absent.pth out.pth", "no model file"),
    ("convert {}/text.pth out.pth", "text.pth"),
    ("convert {}/folder out.pth", "is not a run"),
    ("convert {}/theirs.pth out.pth --to torchvison", "Did you mean 'torchvision'"),
    ("convert {}/theirs.pth out.xyz", "must end in one of"),
    ("convert {}/theirs.pth none/out.pth", "no folder"),
    ("convert {}/theirs.pth out.pth --stride-on conv3", "--stride-on is 'conv3'"),
    ("convert {}/theirs.pth out.pth --stride-on conv1", "stride_on is 'conv1', and there it is always 'conv2'"),
    ("convert {}/ours.safetensors out.pth --stride-on conv1", "stride_on does not apply"),
    ("convert {}/ours.safetensors out.pth --to timm", "shortcut is 'pad'"),
    ("convert {}/ours.safetensors out.params --to gluon", "'pad'"),
    ("convert {}/script.th out --to transformers", "shortcut is 'pad'"),
    ("convert {}/theirs.pth out.pth --classes a b", "2 class names for a network of 3"),
    ("convert {}/theirs.pth out.pth --mean 0.5", "--mean, --std and --image-size together"),
    ("convert {}/theirs.pth out.pth --mean 0.5 --std 0.5 --image-size 32", "gives 1 channels to a network that takes 3"),
    ("convert {}/theirs.pth out.pth --mean 0.5 --std 0 --image-size 32", "above 0"),
    ("convert {}/theirs.pth out.pth --image-size big", "--image-size is 'big'"),
    ("convert {}/theirs.pth out.pth --tolerance 2", "tolerance is 2"),
    ("convert {}/theirs.pth out.pth --tolerance none", "--tolerance is 'none'"),
    ("convert {}/theirs.pth {}/theirs.pth", "is the source itself"),
]


@pytest.mark.parametrize(("command", "said"), MISTAKES, ids=[command.replace("{}/", "") for command, _ in MISTAKES])
def test_mistakes(
    command: str, said: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    code = main([part.replace("{}", str(place)) for part in command.split()])
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert err.startswith("residual: ")
    assert err.count("\n") == 1
    assert err.rstrip().endswith((".", "?"))
    assert said in err
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before
    assert list(tmp_path.iterdir()) == []


def test_the_other_commands_read_foreign_files(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    assert main(["predict", f"{place}/script.th", f"{tmp_path}/red.png", "--top-k", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["classes"]) == 2
    assert main(["predict", f"{place}/theirs.pth", f"{tmp_path}/red.png"]) == 2
    assert "does not say how pictures are prepared" in capsys.readouterr().err
