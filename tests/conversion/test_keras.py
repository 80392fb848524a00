"""Keras Applications itself saves what is read here and loads what is written here; its own preprocessing is part of the comparison."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import residual
from residual.backends import torch as backend
from residual.conversion import keras as conversion
from residual.conversion.found import Found
from residual.conversion.libraries import computed
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.variants import VARIANTS
from residual.weights import SavedModel, save
from tests.conversion.applications import NAMES, SAVES, application, logits, opened, pixels, prepared, randomised, small
from tests.nets import LOOKALIKES, SMALL, random_weights

TOLERANCE = 1e-4  # of the largest logit
# TensorFlow's tensors lack a keyword that NumPy 2 asks them for
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


@pytest.fixture(autouse=True)
def _keras() -> None:
    opened()


def our_logits(saved: SavedModel | Found, images: np.ndarray) -> np.ndarray:
    """Of uint8 pictures N H W C, through the preprocessing that belongs to the weights."""
    assert saved.preprocessing is not None
    model = backend.build(plan(saved.architecture), weights=saved.weights)
    return backend.forward(model, saved.preprocessing.normalise(images))["logits"]


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert np.ptp(theirs) > 1e-3
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


# The deeper ones differ in the number of blocks alone, and take half a minute in all: by hand.
@pytest.mark.parametrize("name", [name if "50" in name else pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_every_application_is_read_and_the_smaller_ones_written_back(name: str, tmp_path: Path) -> None:
    model, path, again = randomised(application(name)), tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"
    model.save_weights(path)
    found = conversion.read(path)
    assert found.notes[0] == f"{name} of Keras Applications."
    assert_equal(our_logits(found, pixels(64)), logits(model, prepared(name, pixels(64))))
    if sum(found.architecture.depths) > 16:
        return
    odd = application(name, 65)
    odd.set_weights(model.get_weights())
    assert_equal(our_logits(found, pixels(65)), logits(odd, prepared(name, pixels(65))))
    notes = conversion.write(found.saved(), again)
    assert "outputs are probabilities" in notes[0]
    odd.load_weights(again)
    assert [value.tobytes() for value in odd.get_weights()] == [value.tobytes() for value in model.get_weights()]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("way", SAVES)
def test_every_way_of_saving(way: str, version: int, tmp_path: Path) -> None:
    name, save = SAVES[way]
    model, path = randomised(small(version, 65)), tmp_path / name
    save(model, path)
    assert conversion.recognise(path)
    found = conversion.read(path)
    assert found.architecture.depths == (2, 3, 2)
    assert_equal(our_logits(found, pixels(65)), logits(model, prepared(f"V{version}", pixels(65))))
    assert found.preprocessing is not None
    assert found.preprocessing.size == ((65, 65) if way == "keras" else (224, 224))
    assert len(found.pairs) == len(model.weights)


def test_a_compiled_model_s_optimizer_and_dropout_are_passed_by(tmp_path: Path) -> None:
    keras = opened()
    base = small(2)
    model = keras.Model(base.input, keras.layers.Dense(3, name="own")(keras.layers.Dropout(0.5)(base.layers[-2].output)))
    model.compile(optimizer="adam", loss="mse")
    randomised(model)
    model.optimizer.build(model.trainable_variables)
    for name in ("a.keras", "a.weights.h5", "a.h5"):
        path = tmp_path / name
        model.save_weights(path) if "weights" in name else model.save(path)
        found = conversion.read(path)
        assert_equal(our_logits(found, pixels(64)), logits(model, prepared("V2", pixels(64))))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


MINE = Preprocessing(size=(64, 64), channels=3, mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
WRITTEN = [
    ("ResNet50", replace(LOOKALIKES["keras_resnet50"], num_classes=7, bn_epsilon=1e-2)),
    ("ResNet50V2", replace(LOOKALIKES["keras_resnet50v2"], num_classes=7, dropout=0.5)),
]


@pytest.mark.parametrize(("name", "arch"), WRITTEN)
def test_our_nets_are_loaded_by_keras(name: str, arch: Any, tmp_path: Path) -> None:
    """Biases and epsilons that Keras does not have are taken up by the batch norms; V1 takes blue, green, red."""
    keras = opened()
    classes = tuple("abcdefg")
    saved = SavedModel(architecture=arch, weights=random_weights(plan(arch)), classes=classes, preprocessing=MINE)
    theirs = np.ascontiguousarray(MINE.normalise(pixels(64)).transpose(0, 2, 3, 1))
    theirs = theirs if name.endswith("V2") else theirs[..., ::-1]
    wanted = our_logits(saved, pixels(64))
    notes = conversion.write(saved, tmp_path / "a.weights.h5")
    assert any("preprocess_input; Keras does not know it" in note for note in notes)
    model = application(name)
    model.load_weights(tmp_path / "a.weights.h5")
    assert_equal(logits(model, theirs), wanted)
    conversion.write(saved, tmp_path / "a.keras")
    assert_equal(logits(keras.saving.load_model(tmp_path / "a.keras"), theirs), softmax(wanted))
    back = conversion.read(tmp_path / "a.keras")
    assert (back.classes, back.preprocessing) == (classes, MINE)
    assert_equal(our_logits(back, pixels(64)), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "a.weights.h5"]


def test_biases_that_are_missing_are_zeros(tmp_path: Path) -> None:
    arch = replace(VARIANTS["resnet50_v1"], num_classes=7)
    saved = SavedModel(architecture=arch, weights=random_weights(plan(arch)), preprocessing=MINE)
    conversion.write(saved, tmp_path / "a.weights.h5")
    back = replace(conversion.read(tmp_path / "a.weights.h5"), preprocessing=MINE)
    assert back.architecture == replace(arch, conv_bias=True, bn_epsilon=1.001e-5)
    assert_equal(our_logits(back, pixels(64)), our_logits(saved, pixels(64)))


@pytest.mark.parametrize("changes", [{}, {"se_reduction": 2, "dropout": 0.5}, {"stem": "imagenet", "order": "preact", "shortcut": "pad"}])
def test_another_net_is_a_functional_model_of_its_own(changes: dict[str, Any], tmp_path: Path) -> None:
    keras = opened()
    arch = replace(SMALL, **changes)
    saved = SavedModel(architecture=arch, weights=random_weights(plan(arch)), classes=tuple("abcde"), preprocessing=MINE)
    notes = conversion.write(saved, tmp_path / "a.keras")
    assert "depths is (1, 2), and there it is always" in notes[0]
    images = MINE.normalise(pixels(17))
    theirs = logits(keras.saving.load_model(tmp_path / "a.keras"), images.transpose(0, 2, 3, 1))
    assert_equal(theirs, our_logits(saved, pixels(17)))
    back = conversion.read(tmp_path / "a.keras")
    assert (back.architecture, back.classes, back.preprocessing) == (saved.architecture, saved.classes, saved.preprocessing)
    assert all((back.weights[name] == value).all() for name, value in saved.weights.items())


LIBRARY = [("a.weights.h5", WRITTEN[0][1]), ("a.weights.h5", replace(WRITTEN[1][1], in_channels=1)), ("a.keras", SMALL)]


@pytest.mark.parametrize(("name", "arch"), LIBRARY)
def test_the_certificate_has_what_keras_computes(name: str, arch: Any, tmp_path: Path) -> None:
    keras = opened()
    save(tmp_path / "ours.safetensors", SavedModel(architecture=arch, weights=random_weights(plan(arch))))
    found = residual.convert(tmp_path / "ours.safetensors", tmp_path / name, "keras")
    assert found.library == f"keras {keras.__version__} on tensorflow"
    assert found.library_difference is not None
    assert 0 < found.library_difference <= TOLERANCE * found.largest_logit
    other = replace(arch, num_classes=3)
    if not conversion.missing(other):
        with pytest.raises(ValueError, match="keras does not take the file"):
            computed("keras", tmp_path / name, other, np.zeros((1, arch.in_channels, 64, 65), np.float32))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stride_on": "conv2"}, r"stride_on is 'conv2', and there it is always 'conv1'"),
        ({"groups": 2}, "groups is 2"),
        ({"shortcut": "projection-all"}, "shortcut is 'projection-all'"),
        ({"in_channels": 4}, "in_channels is 4"),
        ({"order": "preact"}, "strides is"),
    ],
)
def test_weights_alone_are_for_applications_only(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    arch = replace(VARIANTS["resnet50_v1"], num_classes=2, **changes)
    saved = SavedModel(architecture=arch, weights=random_weights(plan(arch)))
    with pytest.raises(ValueError, match=field):
        conversion.write(saved, tmp_path / "a.weights.h5")
    assert not list(tmp_path.iterdir())


def test_other_endings_are_refused(tmp_path: Path) -> None:
    saved = SavedModel(architecture=SMALL, weights=random_weights(plan(SMALL)))
    with pytest.raises(ValueError, match=r"a\.h5 was not written: give it one of these endings"):
        conversion.write(saved, tmp_path / "a.h5")
