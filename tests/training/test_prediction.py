"""Prediction: the same answers for files, folders and arrays, and no picture that stops the others."""

import numpy as np
import pytest
from PIL import Image

from residual import models
from residual.backends import torch as backend
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.training import prediction as module
from residual.training.prediction import predict
from residual.variants import architecture

CLASSES = ("ant", "bee", "cat")
PREPARED = Preprocessing(size=(16, 16), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
IMAGES = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    model = backend.build(plan(architecture("cifar_resnet8", num_classes=3)), 3)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    models.save(model, path, classes=CLASSES, preprocessing=PREPARED)
    return path


def expected(file):
    """Probabilities computed from the core's own preprocessing and the backend's plain forward pass."""
    logits = backend.forward(models.load(file), PREPARED.normalise(IMAGES))["logits"].astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def test_arrays_give_what_the_network_says(file):
    found = predict(file, IMAGES, top_k=2)
    for shares, prediction in zip(expected(file), found, strict=True):
        order = np.argsort(-shares)[:2]
        assert prediction.classes == tuple(CLASSES[index] for index in order)
        assert prediction.probabilities == pytest.approx(shares[order], abs=1e-6)
    assert [prediction.name for prediction in found] == [f"image[{number}]" for number in range(5)]


def test_bfloat16_gives_nearly_the_same(file):
    found = np.array([prediction.probabilities for prediction in predict(file, IMAGES, precision="bfloat16")])
    wanted = -np.sort(-expected(file))
    assert found == pytest.approx(wanted, abs=0.02)
    assert np.abs(found - wanted).max() > 1e-5, "that was float32"


def test_files_and_folders_give_what_arrays_give(file, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    places = ["a.png", "b.PNG", "deep/c.png", "deep/d.bmp", "deep/er/e.png"]
    for place, image in zip(places, IMAGES, strict=True):
        Image.fromarray(image).save(tmp_path / place)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    told = [prediction.probabilities for prediction in predict(file, IMAGES)]
    found = predict(file, tmp_path)
    assert [prediction.name for prediction in found] == [str(tmp_path / place) for place in places]
    assert [prediction.probabilities for prediction in found] == told
    chosen = predict(file, [tmp_path / "deep" / "c.png", str(tmp_path / "a.png")])
    assert [prediction.probabilities for prediction in chosen] == [pytest.approx(told[place], abs=1e-6) for place in (2, 0)]
    assert predict(file, str(tmp_path / "a.png"))[0].probabilities == pytest.approx(told[0], abs=1e-6)


@pytest.mark.parametrize(
    ("images", "count"),
    [(IMAGES[0], 1), (IMAGES[:, :, :, 0], 5), (IMAGES[..., :1], 5), (IMAGES[0, :, :, 0], 1), (IMAGES[0, :, :, :1], 1)],
)
def test_the_shapes_an_array_may_have(file, images, count):
    found = predict(file, images, top_k=9)
    assert len(found) == count
    assert len(found[0].classes) == 3  # all there are
    assert sum(found[0].probabilities) == pytest.approx(1)


def test_an_unreadable_picture_is_an_answer_too(file, tmp_path):
    Image.fromarray(IMAGES[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture at all")
    bad, good = predict(file, tmp_path)
    assert (bad.name, bad.classes, bad.problem) == (str(tmp_path / "bad.png"), (), "not a picture")
    assert good.problem == ""
    assert good.probabilities == pytest.approx(predict(file, IMAGES[0])[0].probabilities, abs=1e-6)
    with pytest.raises(ValueError, match=r"bad\.png cannot be read: not a picture"):
        predict(file, tmp_path / "bad.png")
    with pytest.raises(ValueError, match=r"None of the 2 pictures can be read"):
        predict(file, [tmp_path / "bad.png"] * 2)


@pytest.fixture
def sevens(monkeypatch):
    """Seven pictures of 16 x 16 go to the model together."""
    monkeypatch.setattr("residual.training.inference._SIDE", 16 * (7 / 16) ** 0.5)


def test_many_pictures_are_read_in_parts_and_stay_in_order(file, sevens, monkeypatch):
    seen, whole = list[int](), module.answered

    def answered(*given, **named):
        for index, logits in whole(*given, **named):
            seen.append(len(index))
            yield index, logits

    monkeypatch.setattr(module, "answered", answered)
    found = predict(file, np.concatenate([IMAGES] * 30), top_k=2)
    assert seen == [7] * 21 + [3]
    for number, (shares, one) in enumerate(zip(np.tile(expected(file), (30, 1)), found, strict=True)):
        order = np.argsort(-shares)[:2]
        assert (one.name, one.classes) == (f"image[{number}]", tuple(CLASSES[index] for index in order))
        assert one.probabilities == pytest.approx(shares[order], abs=1e-6)


def test_pictures_that_cannot_be_read_keep_their_places_in_any_batch(file, sevens, tmp_path):
    """A batch with some, one of nothing else, and the same files twice."""
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    names = ["0", "bad", "1", "2", "3", "0", "bad", *["bad"] * 7, "4", "4", "bad"]
    found = predict(file, [tmp_path / f"{name}.png" for name in names], top_k=3)
    wanted = expected(file)
    for name, one in zip(names, found, strict=True):
        assert one.name == str(tmp_path / f"{name}.png")
        assert one.problem == ("not a picture" if name == "bad" else "")
        assert one.probabilities == (() if name == "bad" else pytest.approx(-np.sort(-wanted[int(name)]), abs=1e-6))


def test_what_is_wrong_is_said(file, tmp_path):
    with pytest.raises(ValueError, match="uint8 from 0 to 255, and not float64"):
        predict(file, IMAGES / 255)
    with pytest.raises(ValueError, match=r"not of shape \(5, 16, 16, 2\)"):
        predict(file, IMAGES[..., :2])
    with pytest.raises(ValueError, match=r"no picture or folder '.*gone\.png'"):
        predict(file, tmp_path / "gone.png")
    with pytest.raises(ValueError, match="has no pictures"):
        predict(file, tmp_path)
    with pytest.raises(ValueError, match="no picture to predict"):
        predict(file, [])
    with pytest.raises(ValueError, match="top_k is 0"):
        predict(file, IMAGES, top_k=0)
    with pytest.raises(ValueError, match="no model file"):
        predict(tmp_path / "gone.safetensors", IMAGES)
    bare = tmp_path / "bare.safetensors"
    models.save(models.load(file), bare)
    with pytest.raises(ValueError, match="does not say how pictures are prepared"):
        predict(bare, IMAGES)


def test_arithmetic_that_is_not_there_is_refused(file):
    with pytest.raises(ValueError, match=r"no precision 'bf16'. .*Precisions: float32, bfloat16"):
        predict(file, IMAGES, precision="bf16")
    with pytest.raises(ValueError, match="Only the backend torch computes in bfloat16"):
        predict(file, IMAGES, backend="jax", precision="bfloat16")
