"""evaluate, predict and report from the command line, on a real run folder."""

import csv
import io
import json

import pytest
from PIL import Image

from residual.cli import main
from residual.runs import open_run
from tests.report.conftest import made_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "run", classes=tuple("0123456789"), size=8).folder


@pytest.fixture
def photos(tmp_path):
    for number in range(3):
        Image.new("RGB", (12, 12), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "torn, odd.png").write_bytes(b"not a picture")
    return tmp_path


def test_evaluate_prints_one_object(run, capsys):
    assert main(["evaluate", str(run), "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["count"], found["data"]) == ("test", 1797, "digits")
    assert 0 <= found["top1"] <= found["top5"] <= 1
    assert open_run(run).record["test_openings"][-1]["by"] == "evaluate"


def test_evaluate_prints_a_table_for_people(run, capsys):
    assert main(["evaluate", str(run), "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "test split of digits: 1,797 pictures"
    assert lines[1].startswith("top-1 accuracy")
    assert "95 % interval" in lines[1]
    assert sum(line.split()[:1] == [name] for name in "0123456789" for line in lines) == 10
    assert any("all its 1797 pictures were measured" in line for line in lines)


def test_predict_names_every_picture(run, photos, capsys):
    assert main(["predict", str(run), str(photos), "--top-k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(row["classes"]) for row in found] == [2, 2, 2, 0]
    assert found[3]["problem"] == "not a picture"
    assert main(["predict", str(run), str(photos / "0.png"), str(photos / "torn, odd.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{photos / '0.png'} ")
    assert lines[1].endswith("cannot be read: not a picture")


def test_predict_writes_a_table(run, photos, capsys, tmp_path):
    assert main(["predict", str(run), str(photos), "--top-k", "2", "--csv", "-"]) == 0
    out = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["image", "class_1", "probability_1", "class_2", "probability_2", "problem"]
    assert rows[3] == {
        "image": str(photos / "torn, odd.png"), "class_1": "", "probability_1": "", "class_2": "", "probability_2": "",
        "problem": "not a picture",
    }  # fmt: skip
    assert 0 < float(rows[0]["probability_2"]) <= float(rows[0]["probability_1"]) <= 1
    assert main(["predict", str(run), str(photos), "--top-k", "2", "--csv", str(tmp_path / "table.csv"), "--json"]) == 0
    assert (tmp_path / "table.csv").read_text() == out
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_report_says_where_the_page_is(run, capsys, tmp_path):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert main(["report", str(run), str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "2 runs compared" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "RUN"], "was trained on arrays"),
        (["evaluate", "gone"], "There is no run folder gone"),
        (["evaluate", "RUN", "digits", "--split", "validation"], "digits has no validation split"),
        (["predict", "RUN"], "no picture to predict"),
        (["predict", "RUN", "gone.png"], "no picture or folder 'gone.png'"),
        (["predict", "RUN", "x.png", "--json", "--csv", "-"], "both want the standard output"),
        (["report", "gone"], "There is no run folder gone"),
        (["report"], "at least one run"),
    ],
)
def test_a_mistake_is_one_sentence(run, capsys, arguments, sentence):
    assert main([str(run) if argument == "RUN" else argument for argument in arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
