"""The page as a file: what it says, what it leaves out, and that nothing in it asks for anything."""

import json
import re
import shutil
from html import unescape

import numpy as np
import pytest

from residual.report import write_report
from residual.runs import open_run
from tests.report.conftest import made_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "plain")


def text(page):
    """What a reader reads: no scripts, no styles, no tags."""
    content = page.read_text()
    content = re.sub(r"<(script|style)\b.*?</\1>", " ", content, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", content)).replace("\N{NO-BREAK SPACE}", " ").split())


def test_it_is_one_file_that_names_nothing_outside(run):
    page = write_report([run])
    assert page == run.folder / "report.html"
    assert page.stat().st_size < 7_000_000
    content = page.read_text()
    markup = re.sub(r"<script\b.*?</script>", "", content, flags=re.S)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", markup)
    assert not re.findall(r"url\(|@import|https?://", markup)
    assert "default-src 'none'" in content
    assert not list(run.folder.glob(".*"))


def test_the_result_comes_with_split_count_and_interval(run):
    found = json.loads((run.folder / "evaluation-test.json").read_text())
    said = text(write_report([run]))
    assert f"{found['top1'] * 100:.2f} % of 60 test pictures right 95 % interval {found['interval'][0] * 100:.1f} %" in said
    assert re.search(r"The test set was opened once \(\S+\), after every choice had been made\.", said)
    assert "Weights: those of the last epoch (3), a rule that was set before training." in said
    assert "residual.train((images, labels), recipe='default', model='cifar_resnet8', epochs=3)" in said
    assert "Recipe: 2 fields differ from the default" in said


def test_the_rule_and_the_openings_are_told_as_they_were(tmp_path):
    run = made_run(tmp_path / "best", keep="best", status="stopped", epochs=4)
    run.record["result"]["kept_epoch"] = 2
    run.record["test_openings"].append({"time": "2026-02-03", "split": "test", "count": 60, "by": "evaluate", "data": "arrays"})
    run.record["test_openings"].append({"time": "2026-02-04", "split": "test", "count": 5, "by": "evaluate", "data": "photos"})
    run.write()
    said = text(write_report([open_run(run.folder)]))
    assert "Weights: those of epoch 2, the best of 4 by accuracy on the validation split" in said
    assert "The test set was opened 2 times" in said
    run.record["test_openings"] = run.record["test_openings"][1:]
    assert "The test set was opened once (2026-02-03). " in text(write_report([run]))
    assert "This run is not finished: 4 of 4 epochs are done." in said


def test_what_is_missing_is_left_out_or_said(tmp_path):
    run = made_run(tmp_path / "young", evaluated=False, status="training", epochs=0 + 1, validation=0.0)
    said = text(write_report([run]))
    assert "Not measured yet." in said
    assert "The test set has not been opened." in said
    assert "No validation split was held out" in said
    assert "Confusion" not in said
    (run.folder / "events.jsonl").unlink()
    assert "No epoch has ended yet." in text(write_report([run]))
    for key in ("architecture", "data", "machine", "versions", "split", "recipe", "result", "test_openings", "preprocessing"):
        run.record.pop(key)
    assert "Network" not in text(write_report([run]))


def test_another_arithmetic_is_told(tmp_path):
    run = made_run(tmp_path / "both")
    for suffix in ("json", "npz"):
        for file in run.folder.glob(f"evaluation-test*.{suffix}"):
            shutil.copy(file, file.with_name(file.name.replace("-test", "-test-bfloat16")))
    shown = text(write_report([run]))
    assert shown.count("test, bfloat16") == 1


def test_a_damaged_evaluation_costs_its_part_only(tmp_path):
    run = made_run(tmp_path / "torn")
    (run.folder / "evaluation-test.npz").write_bytes(b"PK\x03\x04 torn")
    assert "The pictures are not in the run's folder" in text(write_report([run]))
    (run.folder / "evaluation-test.json").write_text('{"split": "test"')
    assert "Not measured yet." in text(write_report([run]))


def test_the_gallery_shows_the_surest_mistakes(run):
    with np.load(run.folder / "evaluation-test.npz") as content:
        shares, labels, worst = content["probabilities"], content["labels"], content["worst"]
    classes = run.classes
    first = worst[0]
    said = text(write_report([run]))
    guess = shares[first].argmax()
    assert f"{classes[guess]} {shares[first, guess] * 100:.1f} % true: {classes[labels[first]]} test[{first}]" in said
    wrong = int((shares.argmax(1) != labels).sum())
    assert f"{len(worst)} of {wrong} mistakes" in said


def test_files_left_out_and_their_names_are_text(run):
    content = write_report([run]).read_text()
    assert "1 picture left out" in content
    assert "photos/&lt;b&gt;torn&lt;/b&gt;.jpg" in content
    assert "<b>torn</b>" not in content


def test_several_seeds_come_with_their_spread(tmp_path):
    runs = [made_run(tmp_path / f"seed{seed}", seed=seed) for seed in range(3)]
    scores = [json.loads((run.folder / "evaluation-test.json").read_text())["top1"] for run in runs]
    page = write_report(runs, tmp_path / "all.html")
    said = text(page)
    mean, deviation = np.mean(scores) * 100, np.std(scores, ddof=1) * 100
    assert f"The runs differ in their seed alone: {mean:.2f} % ± {deviation:.2f} % right on the test split of 60 pictures" in said
    other = made_run(tmp_path / "other", seed=7, learning_rate=0.3)
    said = text(write_report([*runs, other], tmp_path / "all.html"))
    assert "seed alone" not in said
    assert "learning_rate 0.1 0.1 0.1 0.3" in said


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [made_run(tmp_path / place / "run") for place in ("a", "b")]
    said = text(write_report(runs, tmp_path / "all.html"))
    assert "a/run" in said
    assert "b/run" in said
    assert f"{tmp_path.name}/a/run" not in said


def test_many_steps_and_classes_stay_small(tmp_path):
    run = made_run(tmp_path / "large", classes=tuple(f"class {number}" for number in range(300)), epochs=200, count=400)
    for end in list(run.events()):
        values = end.__dict__ | {"losses": (1.0,) * 2000, "steps": end.epoch * 2000}
        run.append(type(end)(**values))
    page = write_report([run])
    assert page.stat().st_size < 7_000_000
    said = text(page)
    assert "Shown are the 40 of 300 classes with the most mistakes." in said
    assert "Each point is the mean of 267 steps." in said


def test_what_is_wrong_is_said(run, tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        write_report([])
    with pytest.raises(ValueError, match="is a folder: name a file"):
        write_report([run], tmp_path)
    with pytest.raises(ValueError, match="in no folder that exists"):
        write_report([run], tmp_path / "gone" / "page.html")
