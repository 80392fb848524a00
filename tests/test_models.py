"""create, save and load give back the model that was meant, and refuse the rest in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch

import residual
from residual.backends import torch as backend
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.runs import Run
from residual.weights import load as read
from tests.nets import SMALL, images, random_weights


def test_create_by_name_and_by_architecture() -> None:
    by_name = residual.create("cifar_resnet8", num_classes=3, in_channels=1)
    arch = residual.architecture("cifar_resnet8", num_classes=3, in_channels=1)
    by_arch = residual.create(arch)
    assert isinstance(by_name, torch.nn.Module)
    assert by_name.plan.architecture == by_arch.plan.architecture == arch
    assert not by_name.training
    assert by_name(torch.zeros(2, 1, 9, 9)).shape == (2, 3)
    assert residual.create(arch, num_classes=4).plan.num_classes == 4


def test_the_seed_fixes_the_first_values() -> None:
    first, again, other = (residual.create(SMALL, seed=seed).conv1.weight for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = residual.create(SMALL)
    backend.set_weights(model, random_weights(plan(SMALL)))
    model.train()
    cleaned = Preprocessing(size=(8, 8), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    residual.save(model, tmp_path / "m.safetensors", classes=list("abcde"), preprocessing=cleaned)
    found = residual.load(tmp_path / "m.safetensors")
    x = torch.from_numpy(images(plan(SMALL), 9, 8))
    assert not found.training
    assert model.training
    assert torch.equal(found(x), model.eval()(x))
    assert read(tmp_path / "m.safetensors").classes == tuple("abcde")
    assert read(tmp_path / "m.safetensors").preprocessing == cleaned


def test_a_run_is_loaded_by_its_folder(tmp_path: Path) -> None:
    model = residual.create(SMALL, seed=8)
    run = Run(folder=tmp_path, record={"data": {}})
    run.write()
    residual.save(model, tmp_path / "model.safetensors")
    for place in (tmp_path, str(tmp_path), run):
        assert torch.equal(residual.load(place).fc.weight, model.fc.weight)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: residual.create("resent50"), "Did you mean 'resnet50'"),
        (lambda: residual.create("resnet50", backend="pytorch"), "Did you mean 'torch'"),
        (lambda: residual.create("resnet50", backend="tensorflw"), "Did you mean 'tensorflow'"),
        (lambda: residual.create("resnet50", clases=10), "no field 'clases'"),
        (lambda: residual.create(SMALL, num_classes=0), "num_classes is 0"),
        (lambda: residual.create(50), "not from 50"),  # type: ignore[arg-type]
        (lambda: residual.load("nowhere.safetensors"), "no model file nowhere.safetensors"),
        (lambda: residual.load("nowhere.safetensors", backend="jaxx"), "Did you mean 'jax'"),
    ],
)
def test_mistakes(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    model = residual.create(SMALL)
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match=r"unwrapped, but this is a torch.nn.modules.container.Sequential"):
        residual.save(torch.nn.Sequential(model), path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"2 class names for a network of 5 outputs"):
        residual.save(model, path, classes=["a", "b"])
    model.fc = torch.nn.Linear(7, 2)
    with pytest.raises(ValueError, match=r"fc.weight has shape \(2, 7\) instead of \(5, 7\)"):
        residual.save(model, path)
    broken = residual.create(SMALL)
    with torch.no_grad():
        broken.conv1.weight[0] = torch.nan
    with pytest.raises(ValueError, match=r"conv1.weight holds NaN"):
        residual.save(broken, path)
    assert not path.exists()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a run"):
        residual.load(tmp_path)


def test_the_surface() -> None:
    for name in ("VARIANTS", "architecture", "plan", "cost", "create", "save", "load", "Architecture", "Network", "Cost", "Run"):
        assert name in dir(residual)
        assert getattr(residual, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'creat'"):
        _ = residual.creat
