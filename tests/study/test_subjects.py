"""What a study's model can be: a run, a file of ours or another library's, a variant; and what makes two models a pair."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import residual
from residual.backends import torch as backend
from residual.plan import plan
from residual.study.subjects import depth_of, distinct, family, is_twin, open_subject
from residual.variants import VARIANTS, architecture
from tests.nets import random_weights
from tests.report.conftest import made_run

NET = architecture("cifar_resnet8")


def test_a_run_a_file_and_a_foreign_file(tmp_path: Path) -> None:
    run = made_run(tmp_path / "mine")
    subject = open_subject(run.folder)
    assert (subject.label, subject.trained, subject.kind, subject.depth) == ("mine", True, "residual", 8)
    assert subject.classes == run.classes
    assert subject.preprocessing is not None
    assert subject.run is not None
    assert all((subject.weights[name] == value).all() for name, value in run.saved().weights.items())

    model = residual.create("cifar_plain8", seed=3)
    residual.save(model, tmp_path / "plain.safetensors")
    plain = open_subject(str(tmp_path / "plain.safetensors"))
    assert (plain.label, plain.trained, plain.kind, plain.preprocessing, plain.run) == ("plain", True, "plain", None, None)

    arch = VARIANTS["resnet18"]
    state = backend.build(plan(arch), seed=2).state_dict()
    torch.save(state, tmp_path / "theirs.pth")
    theirs = open_subject(tmp_path / "theirs.pth")
    assert (theirs.label, theirs.depth, theirs.trained) == ("theirs", 18, True)
    assert (theirs.weights["fc.weight"] == state["fc.weight"].numpy()).all()


def test_a_variant_starts_from_the_seed_and_fits_the_data() -> None:
    first, same, other = (open_subject("cifar_resnet8", seed=seed, channels=1, num_classes=4) for seed in (0, 0, 1))
    assert (first.trained, first.network.in_channels, first.network.num_classes) == (False, 1, 4)
    assert first.digest() == same.digest() != other.digest()
    assert [subject.label for subject in distinct((first, same, other))] == ["cifar_resnet8", "cifar_resnet8 (2)", "cifar_resnet8 (3)"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet51", "Did you mean 'resnet50'"),
        ("cifar_resnet21", "6n \\+ 2 layers"),
        ("runs/gone", "no run, model file or variant 'runs/gone'"),
        (".", "is a folder, but no run"),
    ],
)
def test_a_model_that_is_not_there(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_subject(name)


@pytest.mark.parametrize(
    ("name", "depth"),
    [("cifar_resnet20", 20), ("cifar_plain56", 56), ("resnet50", 50), ("plain18", 18), ("resnet152", 152), ("preact_resnet50", 50)],
)
def test_the_depth_is_the_one_in_the_name(name: str, depth: int) -> None:
    assert depth_of(plan(VARIANTS[name])) == depth


def test_twins_differ_in_nothing_but_shortcuts() -> None:
    resnet, plain = VARIANTS["cifar_resnet20"], VARIANTS["cifar_plain20"]
    assert is_twin(resnet, plain)
    assert is_twin(replace(resnet, zero_last_gamma=True, drop_path=0.1, shortcut="projection"), plain)
    assert not is_twin(plain, resnet)
    assert not is_twin(plain, plain)
    assert not is_twin(resnet, VARIANTS["cifar_plain32"])
    assert not is_twin(resnet, replace(plain, stem_width=8))
    assert family(resnet) == family(VARIANTS["cifar_resnet56"]) != family(plain)


def test_the_digest_sees_every_weight() -> None:
    subject = open_subject("cifar_resnet8")
    for name in ("conv1.weight", "fc.bias", "layer1.0.bn1.running_var"):
        changed = {key: value.copy() for key, value in subject.weights.items()}
        changed[name].flat[-1] += 1e-3
        assert replace(subject, weights=changed).digest() != subject.digest()
    assert replace(subject, weights=random_weights(subject.network)).digest() != subject.digest()
