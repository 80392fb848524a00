"""A training that starts from a model: its weights are there at the first step, its preprocessing too; what does not fit is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import residual
from residual.architecture import Architecture
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.training import experiment
from residual.weights import SavedModel, save
from tests.nets import random_weights

ARCH = Architecture(
    depths=(1, 1), inner_widths=(8, 16), out_widths=(8, 16), strides=(1, 2), stem="cifar", stem_width=8, in_channels=1, num_classes=10
)
DIGITS = tuple("0123456789")
CLEANED = Preprocessing(size=(8, 8), channels=1, mean=(0.25,), std=(0.5,))


def _file(folder: Path, saved: SavedModel) -> Path:
    save(folder / "start.safetensors", saved)
    return folder / "start.safetensors"


def _saved(arch: Architecture = ARCH, classes: tuple[str, ...] = DIGITS) -> SavedModel:
    return SavedModel(architecture=arch, weights=random_weights(plan(arch)), classes=classes, preprocessing=CLEANED)


@pytest.mark.parametrize("fields", [{}, {"ema": 0.9}])
def test_weights_and_preprocessing_are_the_model_s(fields: dict[str, float], tmp_path: Path) -> None:
    saved = _saved()
    begun = experiment.begin("digits", "default", {"epochs": 1, **fields}, out=tmp_path / "r", start=_file(tmp_path, saved))
    found = experiment.backend_of(begun.state.model).get_weights(begun.state.model)
    for name, value in saved.weights.items():
        np.testing.assert_array_equal(found[name], value)
        if fields:
            np.testing.assert_array_equal(begun.state.average[name].numpy(), value)  # type: ignore[union-attr, index]
    assert begun.architecture == ARCH
    assert (begun.preprocessing.mean, begun.preprocessing.std) == ((0.25,), (0.5,))
    assert begun.run.record["start"].endswith("start.safetensors")


def test_a_run_goes_on_where_another_ended(tmp_path: Path) -> None:
    first = residual.train("digits", out=tmp_path / "a", epochs=4, model="cifar_resnet8", views="one", seed=0)
    second = residual.train("digits", out=tmp_path / "b", epochs=1, learning_rate=1e-6, start=tmp_path / "a", views="one", seed=0)
    ended, went_on = list(first.events())[-1].validation_accuracy, list(second.events())[-1].validation_accuracy
    fresh = residual.train("digits", out=tmp_path / "c", epochs=1, learning_rate=1e-6, model="cifar_resnet8", views="one", seed=0)
    assert ended is not None
    assert went_on == pytest.approx(ended, abs=0.03)
    assert (list(fresh.events())[-1].validation_accuracy or 0) < ended - 0.3
    assert residual.load(tmp_path / "b").plan.architecture == residual.load(tmp_path / "a").plan.architecture


@pytest.mark.parametrize(
    ("saved", "fields", "sentence"),
    [
        (_saved(), {"model": "resnet18"}, "leave out model='resnet18'"),
        (_saved(), {"image_size": 16}, "leave out image_size=16"),
        (_saved(classes=tuple("abcdefghij")), {}, "the data has the class '0'"),
        (_saved(classes=DIGITS[::-1]), {}, "in another order"),
        (_saved(replace(ARCH, num_classes=4), classes=()), {}, "has 4 outputs, but the data has 10 classes"),
        (
            replace(_saved(), architecture=replace(ARCH, in_channels=3), weights=random_weights(plan(replace(ARCH, in_channels=3))),
                    preprocessing=None),
            {}, "takes pictures of 3 channel",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(saved: SavedModel, fields: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        experiment.begin("digits", "default", {"epochs": 1, **fields}, out=tmp_path / "r", start=_file(tmp_path, saved))
    assert not (tmp_path / "r").exists()


def test_a_start_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        experiment.begin("digits", "default", {"epochs": 1}, out=tmp_path / "r", start=tmp_path / "nothing.safetensors")
