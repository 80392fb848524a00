"""What a page can be about is found out by looking; what is nothing of the kind is one sentence."""

import pytest

from residual.models import create, save
from residual.preprocessing import Preprocessing
from residual.report import Model, Study, open_thing, write_report
from residual.report.things import default_place
from residual.runs import Run
from residual.weights import load
from tests.report.conftest import made_run
from tests.report.findings import responses_result, study
from tests.report.test_page import text


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mine.safetensors"
    model = create("cifar_resnet8", num_classes=3, in_channels=1, seed=4)
    save(model, path, classes=("<b>a</b>", "b", "c"), preprocessing=Preprocessing(size=(24, 20), channels=1, mean=(0.5,), std=(0.2,)))
    return path


def test_each_kind_is_found_out(file, tmp_path) -> None:
    run = made_run(tmp_path / "run", evaluated=False)
    result = study(tmp_path / "result", "responses", responses_result())
    assert isinstance(open_thing(run.folder), Run)
    assert isinstance(open_thing(result.folder), Study)
    assert open_thing(result.folder / "result.json") == result
    assert isinstance(open_thing(file), Model)
    assert isinstance(open_thing("resnet50"), Model)
    assert isinstance(open_thing("cifar_resnet26"), Model)


def test_the_page_lies_beside_the_thing(file, tmp_path) -> None:
    run = made_run(tmp_path / "run", evaluated=False)
    assert default_place(run) == run.folder / "report.html"
    assert default_place(open_thing(file)) == file.with_suffix(".html")
    assert str(default_place(open_thing("resnet50"))) == "resnet50.html"
    assert write_report([open_thing(file)]) == file.with_suffix(".html")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "There is no run folder gone, nor a result, a model file or a variant"),
        ("resnet5", "Did you mean 'resnet50'"),
        ("cifar_resnet21", "6n \\+ 2 layers"),
        ("folder", "is neither a run nor a study's result"),
        ("half", "is not finished: run its command again"),
        ("text.txt", "text.txt"),
    ],
)
def test_what_is_nothing_is_one_sentence(name, sentence, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "half" / "parts").mkdir(parents=True)
    (tmp_path / "text.txt").write_text("no model")
    with pytest.raises(ValueError, match=sentence):
        open_thing(name)


def test_a_model_files_page(file, tmp_path) -> None:
    page = write_report([open_thing(file)], tmp_path / "page.html")
    said, content = text(page), page.read_text()
    assert "pictures 1 × 24 × 20" in said
    saved = load(file).weights
    count = sum(value.size for name, value in saved.items() if "running" not in name)
    assert f"parameters {count:,} " in said
    assert f"total {count:,}" in said
    assert "Its 3 classes <b>a</b>, b, c" in said
    assert f"Weights: {file}." in said
    assert content.count('alt="filter ') == 16
    assert "Plotly" not in content.partition("<script")[0]
    assert page.stat().st_size < 200_000


def test_a_variants_page_has_papers_numbers(tmp_path) -> None:
    """25,557,032 parameters and 4.09 billion multiply-adds at 224 x 224 are torchvision's numbers for ResNet-50."""
    said = text(write_report([open_thing("resnet50")], tmp_path / "page.html"))
    assert "parameters 25,557,032 multiply-adds 4.09 billion a picture" in said
    assert "layers with weights 50" in said
    assert "nothing it has learned" in said
    assert "total 25,557,032 4,089,184,256" in said


def test_models_are_put_side_by_side(tmp_path) -> None:
    said = text(write_report([open_thing(name) for name in ("resnet18", "plain34")], tmp_path / "page.html"))
    assert said.startswith("2 models")
    assert "resnet18 18 11,689,512 1,814,073,344" in said
    assert "plain34 34" in said


def test_runs_studies_and_models_share_a_page(file, tmp_path) -> None:
    things = [made_run(tmp_path / "run"), study(tmp_path / "result", "responses", responses_result()), open_thing(file)]
    said = text(write_report(things, tmp_path / "page.html"))
    assert "run: cifar_resnet8 on arrays, Layer responses, mine.safetensors" in said
    assert "Surest mistakes" in said
