"""Evaluation of a real, short training on digits: the right pictures, the right numbers, and a trace of every look at the test set."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual import models
from residual.backends import torch as backend
from residual.data import open_source
from residual.data.cache import open_cache
from residual.data.records import FileStore
from residual.runs import open_run
from residual.training import evaluation
from residual.training.evaluation import evaluate, evaluate_model
from residual.training.inference import answers
from residual.training.metrics import evaluation_from
from residual.training.prediction import classifier_of, frame_of


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On a busy machine torch's threads wait for each other, and these tests take ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    return residual.train("digits", "cifar_resnet8", out=out, epochs=1, batch_size=64, precision="float32").folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may write into."""
    shutil.copytree(trained, tmp_path / "run")
    return open_run(tmp_path / "run")


def pictures(folder, numbers, *, names=str, count=4):
    """A folder of digits as PNG files, one folder for each of `numbers`."""
    records = open_source("digits").splits["test"]
    for number in numbers:
        place = folder / names(number)
        place.mkdir(parents=True)
        for index in np.flatnonzero(records.labels == number)[:count]:
            records.picture(int(index)).save(place / f"{index}.png")
    return folder


def guesses(run, images):
    saved = run.saved()
    return backend.forward(models.load(run), saved.preprocessing.normalise(images))["logits"].argmax(1)


def test_the_test_split_scores_what_the_network_gets_right(run):
    records = open_source("digits").splits["test"]
    images = np.stack([np.asarray(records.picture(index))[..., None] for index in range(len(records))])
    right = guesses(run, images) == records.labels
    found = evaluate(run)
    assert (found.split, found.count, found.data) == ("test", 359, "digits")
    assert found.top1 == pytest.approx(right.mean())
    assert run.record["result"]["test"]["top1"] == pytest.approx(right.mean())


def test_every_look_at_the_test_set_is_recorded(run):
    assert [row["by"] for row in run.record["test_openings"]] == ["train"]
    evaluate(run.folder)
    evaluate(run.folder, split="validation")
    openings = open_run(run.folder).record["test_openings"]
    assert [(row["split"], row["count"], row["by"], row["data"]) for row in openings] == [
        ("test", 359, "train", "digits"),
        ("test", 359, "evaluate", "digits"),
    ]
    assert openings[1]["time"] >= openings[0]["time"]
    assert openings[1]["time"].endswith("+00:00")


def test_the_validation_split_is_the_one_that_training_held_out(run):
    """Its accuracy is the one that the last epoch recorded: were one picture another, some class count would differ."""
    found = evaluate(run, split="validation")
    last = list(run.events())[-1]
    assert found.count == run.record["split"]["validation"]
    assert found.top1 == pytest.approx(last.validation_accuracy, abs=1e-6)
    assert found.loss == pytest.approx(last.validation_loss, abs=1e-4)
    assert evaluate(run, split="train").count == run.record["split"]["train"]


def test_what_is_written_can_be_read_again(run):
    found = evaluate(run)
    assert evaluation_from(json.loads((run.folder / "evaluation-test.json").read_text())) == found
    with np.load(run.folder / "evaluation-test.npz") as content:
        shares, labels, names = content["probabilities"], content["labels"], content["names"]
        worst, images, best = content["worst"], content["worst_images"], content["best"]
    assert shares.dtype == np.float32
    assert shares.shape == (359, 10)
    assert (shares.argmax(1) == labels).mean() == pytest.approx(found.top1)
    guess, sure = shares.argmax(1), shares.max(1)
    assert len(worst) == min(24, (guess != labels).sum())
    assert (guess[worst] != labels[worst]).all()
    assert (guess[best] == labels[best]).all()
    assert sure[worst[0]] == sure[guess != labels].max()
    assert (np.diff(sure[worst]) <= 0).all()
    records = open_source("digits").splits["test"]
    assert names[worst[0]] == records.name(int(worst[0]))
    assert (images[0, ..., 0] == np.asarray(records.picture(int(worst[0])))).all()
    assert not list(run.folder.glob(".*"))


def test_another_arithmetic_is_told_and_kept_apart(run):
    before = (run.folder / "evaluation-test.json").read_bytes()
    exact, found = evaluate(run), evaluate(run, precision="bfloat16")
    assert found.notes == ("Computed in bfloat16.",)
    assert found.loss == pytest.approx(exact.loss, rel=0.02)
    assert found.loss != exact.loss
    assert json.loads((run.folder / "evaluation-test.json").read_bytes())["loss"] == json.loads(before)["loss"]
    assert json.loads((run.folder / "evaluation-test-bfloat16.json").read_bytes())["loss"] == found.loss


def test_streamed_pictures_score_the_same(run, tmp_path, monkeypatch):
    saved, folder = run.saved(), pictures(tmp_path / "photos", range(10))
    (folder / "3" / "torn.png").write_bytes(b"not a picture")
    source = open_source(folder)
    records = source.splits["train"]
    classifier = classifier_of(models.load(run), preprocessing=saved.preprocessing, classes=source.classes)
    at_once = evaluate_model(classifier, records, split="train")
    streamed = evaluate_model(classifier, records, split="train", memory=1e-9)
    assert streamed.records.names == at_once.records.names
    assert streamed.probabilities == pytest.approx(at_once.probabilities, abs=1e-6)
    assert (streamed.pictures(streamed.worst) == at_once.pictures(at_once.worst)).all()
    assert streamed.evaluation.unreadable == at_once.evaluation.unreadable
    assert streamed.evaluation.count == len(records) - len(streamed.evaluation.unreadable)
    monkeypatch.setattr(evaluation, "are_large", lambda _: True)
    monkeypatch.setattr(evaluation, "decode", lambda *_, **__: pytest.fail("all were decoded before the first answer"))
    assert evaluate_model(classifier, records, split="train").probabilities == pytest.approx(at_once.probabilities, abs=1e-6)


def test_pictures_from_the_cache_score_the_same(run, tmp_path, monkeypatch):
    """Large ones, of which more than is held in memory: decoded once, before the first answer, and never looked at in their files again."""
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("residual.data.memory._SMALL", 1)
    folder = pictures(tmp_path / "photos", range(10))
    source, saved = open_source(folder), run.saved()
    records, classifier = (
        source.splits["train"],
        classifier_of(models.load(run), preprocessing=saved.preprocessing, classes=source.classes),
    )
    cache, _ = open_cache(source, "train", frame_of(classifier.preprocessing))
    at_once = evaluate_model(classifier, records, split="train")
    assert not cache.known(records.rows).any()
    monkeypatch.setattr("residual.data.memory._HELD", 0)
    monkeypatch.setattr(evaluation, "decode", lambda *_, **__: pytest.fail("they are held in memory"))

    def after_all(*given, **named):
        assert cache.known(records.rows).all(), "the network began before all were in the cache"
        return answers(*given, **named)

    monkeypatch.setattr(evaluation, "answers", after_all)
    found = evaluate_model(classifier, records, split="train", cache=cache)
    assert found.probabilities == pytest.approx(at_once.probabilities, abs=1e-6)
    assert found.records.names == at_once.records.names


def test_a_cache_that_fails_leaves_them_in_memory(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("residual.data.memory._SMALL", 1)
    monkeypatch.setattr("residual.data.memory._HELD", 0)
    folder = pictures(tmp_path / "photos", range(10))
    source, saved = open_source(folder), run.saved()
    classifier = classifier_of(models.load(run), preprocessing=saved.preprocessing, classes=source.classes)
    cache, _ = open_cache(source, "train", frame_of(classifier.preprocessing))
    shutil.rmtree(cache.folder)
    monkeypatch.setattr(evaluation, "Lazy", lambda *_, **__: pytest.fail("they are decoded one at a time beside the network"))
    assert evaluate_model(classifier, source.splits["train"], split="train", cache=cache).evaluation.count == 30


def test_a_model_whose_answers_are_no_numbers_is_told_so_wherever_its_pictures_are(run, tmp_path):
    saved, source = run.saved(), open_source(pictures(tmp_path / "photos", range(10)))
    model = models.load(run)
    with torch.no_grad():
        model.fc.bias.fill_(torch.nan)
    classifier = classifier_of(model, preprocessing=saved.preprocessing, classes=source.classes)
    for memory in (0.4, 1e-9):
        with pytest.raises(ValueError, match="hold NaN"):
            evaluate_model(classifier, source.splits["train"], split="train", memory=memory)


def test_streamed_pictures_of_a_class_that_cannot_be_read_are_refused(run, tmp_path):
    saved, folder = run.saved(), pictures(tmp_path / "photos", range(10))
    for file in (folder / "3").iterdir():
        file.write_bytes(b"not a picture")
    source = open_source(folder)
    classifier = classifier_of(models.load(run), preprocessing=saved.preprocessing, classes=source.classes)
    with pytest.raises(ValueError, match=r"Not one picture of the class of .*3.* can be read"):
        evaluate_model(classifier, source.splits["train"], split="train", memory=1e-9)


def test_other_data_is_measured_whole_by_the_models_class_names(run, tmp_path):
    """Only some of the classes, so that their numbers differ from the model's."""
    before = (run.folder / "evaluation-test.json").read_bytes()
    folder = pictures(tmp_path / "photos", (7, 3))
    (folder / "7" / "torn.png").write_bytes(b"not a picture")
    found = evaluate(run, folder)
    assert (found.count, found.classes[3].support, found.classes[7].support) == (8, 4, 4)
    images = [np.asarray(Image.open(file))[..., None] for file in sorted(folder.glob("?/[0-9]*.png"))]
    assert found.top1 == np.mean(guesses(run, np.stack(images)) == [3] * 4 + [7] * 4)
    assert [(problem.file, problem.reason) for problem in found.unreadable] == [(str(folder / "7" / "torn.png"), "not a picture")]
    assert "all its 9 pictures were measured" in found.notes[0]
    assert run.record["test_openings"][-1]["data"] == str(folder)
    assert (run.folder / "evaluation-test.json").read_bytes() == before
    assert (run.folder / "evaluation-test-on-photos.json").is_file()


def test_a_model_file_is_measured_on_named_data(run):
    records = open_source("digits").splits["test"]
    images = np.stack([np.asarray(records.picture(index)) for index in range(100)])
    found = evaluate(run.folder / "model.safetensors", (images, records.labels[:100]))
    assert (found.count, found.data) == (100, "arrays")
    assert found.top1 == np.mean(guesses(run, images[..., None]) == records.labels[:100])
    with pytest.raises(ValueError, match="does not know its data"):
        evaluate(run.folder / "model.safetensors")


def test_strange_classes_are_refused(run, tmp_path):
    folder = pictures(tmp_path / "photos", (1, 2), names=lambda number: f"number {number}")
    with pytest.raises(ValueError, match=r"has the class 'number 1', which the model does not know.* --classes"):
        evaluate(run, folder)
    with pytest.raises(ValueError, match="labels go up to 10, but the model has 10 classes"):
        evaluate(run, (np.zeros((44, 8, 8), np.uint8), np.repeat(np.arange(11), 4)))


def test_what_is_wrong_is_said(run, tmp_path):
    with pytest.raises(ValueError, match=r"no split 'tset'. Did you mean 'test'\?"):
        evaluate(run, split="tset")
    with pytest.raises(ValueError, match="no run folder"):
        evaluate(tmp_path / "gone")
    run.record["data"] |= {"kind": "arrays", "source": "arrays"}
    with pytest.raises(ValueError, match="was trained on arrays"):
        evaluate(run)


def test_a_data_set_that_has_changed_since_is_refused(tmp_path):
    """Its cut would be another one, with training pictures in the test set."""
    folder = pictures(tmp_path / "photos", (0, 1), count=10)
    run = residual.train(folder, "cifar_resnet8", out=tmp_path / "run", epochs=1, batch_size=8)
    assert evaluate(run).count == 4
    (folder / "0" / "new.png").write_bytes((folder / "1").glob("*.png").__next__().read_bytes())
    with pytest.raises(ValueError, match="has changed since the run"):
        evaluate(run)


def test_a_folder_that_was_moved_is_still_the_runs_own(tmp_path):
    folder = pictures(tmp_path / "photos", (0, 1), count=20)
    for number in (0, 1):
        (folder / str(number) / "1torn.png").write_bytes(b"not a picture")
        (folder / str(number) / "9torn.png").write_bytes(b"not a picture either")
    run = residual.train(folder, "cifar_resnet8", out=tmp_path / "run", epochs=1, batch_size=8)
    assert run.record["data"]["problems"]
    count = run.record["split"]["validation"]
    folder = folder.rename(tmp_path / "elsewhere")
    found = evaluate(run, folder, split="validation")
    assert found.count == count
    assert found.top1 == pytest.approx(list(run.events())[-1].validation_accuracy)
    assert evaluate(run, folder, split="train").count == run.record["split"]["train"]


def test_a_run_without_validation_has_none_to_measure(run):
    run.record["recipe"]["validation"] = 0.0
    with pytest.raises(ValueError, match="no validation split"):
        evaluate(run, split="validation")


def test_pictures_decoded_once_are_not_decoded_again(run, tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    source = pictures(tmp_path / "photos", range(3), count=20)
    trained = residual.train(source, "cifar_resnet8", out=tmp_path / "photos-run", epochs=1, batch_size=8, precision="float32")
    opened, real = [0], FileStore.open

    def counted(self, row):
        opened[-1] += 1
        return real(self, row)

    monkeypatch.setattr(FileStore, "open", counted)
    found = []
    for place in ("off", "cache", "cache"):
        monkeypatch.setenv("RESIDUAL_CACHE", place if place == "off" else str(tmp_path / place))
        opened.append(0)
        found.append(evaluate(trained))
    assert found[0] == found[1] == found[2]
    assert opened[3] == opened[2] == opened[1] - found[0].count, "training's own test was to fill the cache"
