"""`residual grow`, and going on with `residual train --start`: the real commands, and mistakes in one sentence."""

from pathlib import Path

import numpy as np
import pytest

import residual
from residual.cli import main
from residual.plan import plan
from residual.variants import architecture
from residual.weights import SavedModel, load, save
from tests.nets import images, random_weights


def _model(folder: Path, name: str = "cifar_resnet8") -> Path:
    arch = architecture(name, in_channels=1)
    save(folder / f"{name}.safetensors", SavedModel(architecture=arch, weights=random_weights(plan(arch)), classes=tuple("0123456789")))
    return folder / f"{name}.safetensors"


def test_a_model_grows_and_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["grow", str(_model(tmp_path)), "--to", "cifar_resnet20"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("cifar_resnet8: from 8 to 20 layers; 6 new blocks: layer1.1, layer1.2, layer2.1")
    assert said[1].startswith("Logits of old and new differ by at most ")
    assert said[2] == "Written: cifar_resnet8-grown.safetensors. Train it on: residual train DATA --start cifar_resnet8-grown.safetensors"
    grown = load(tmp_path / "cifar_resnet8-grown.safetensors")
    assert grown.architecture == architecture("cifar_resnet20", in_channels=1)
    assert grown.classes == tuple("0123456789")
    x = images(plan(grown.architecture), 8, 8)
    logits = [residual.backends.open_backend("torch").forward(residual.load(tmp_path / name), x)["logits"]
              for name in ("cifar_resnet8.safetensors", "cifar_resnet8-grown.safetensors")]  # fmt: skip
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)
    assert main(["train", "digits", "--start", "cifar_resnet8-grown.safetensors", "--epochs", "1", "--out", "run", "--no-report"]) == 0
    assert residual.load("run").plan.architecture.depths == (3, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["grow"], "needs RUN_OR_MODEL"),
        (["grow", "x.safetensors", "--to", "resnet34"], "no run, model file or variant 'x.safetensors'"),
        (["grow", "resnet18", "--to", "resnet34"], "resnet18 is a variant with first values"),
        (["grow", "MODEL", "--to", "cifar_resnet21"], "Did you mean 'cifar_resnet20'"),
        (["grow", "MODEL", "--to", "resnet34"], "cannot grow into resnet34"),
        (["grow", "MODEL", "--to", "cifar_resnet8"], "nothing to grow"),
        (["grow", "PLAIN", "--to", "cifar_plain20"], "A plain network cannot grow"),
        (["grow", "MODEL", "--to", "cifar_resnet20", "--out", "nowhere/a.safetensors"], "there is no folder nowhere"),
        (["train", "--resume", "r", "--start", "MODEL"], "leave out everything beside"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": str(_model(tmp_path)), "PLAIN": str(_model(tmp_path, "cifar_plain8"))}
    there = sorted(tmp_path.iterdir())
    assert main([names.get(argument, argument) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == there
