"""`residual study`: help, a real study as text and as JSON, and mistakes in one sentence."""

import json
from pathlib import Path

import pytest

from residual.cli import main
from residual.cli.study import STUDIES
from residual.study import store


def test_help_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["study"], ["study", "--help"]):
        assert main(arguments) == 0
        said = capsys.readouterr().out
        assert all(f"\n  {name}" in said for name in STUDIES)
    for name in STUDIES:
        assert main(["study", name, "--help"]) == 0
        assert f"residual study {name}" in capsys.readouterr().out
    assert set(STUDIES) <= set(store.STUDIES)


def test_a_study_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r"
    arguments = ["study", "responses", "cifar_resnet8", "cifar_plain8", "--data", "digits", "--count", "20", "--out", str(out)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "20 of 359 pictures of the test split of digits (seed 0)"
    assert lines[1].split() == ["model", "layers", "mean", "std", "largest", "smallest", "state"]
    assert [line.split()[:2] for line in lines[2:4]] == [["cifar_resnet8", "7"], ["cifar_plain8", "7"]]
    assert "too few to tell. No trained residual net" in "\n".join(lines)
    assert lines[-1].endswith(f"Result: {out}/result.json")
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["result"] == json.loads((out / "result.json").read_text())["result"]
    assert (told["format"], told["study"]) == (store.FORMAT, "responses")


@pytest.mark.parametrize("name", ["lesion", "gradients"])
def test_the_other_tables(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["study", name, "cifar_resnet8", "cifar_plain8", "--data", "digits", "--count", "20", "--small", "--out", str(tmp_path)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["cifar_resnet8", "cifar_plain8"]
    assert any(line.startswith("Scaled down: ") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["lesions"], "no `residual study lesions`. Did you mean 'lesion'?"),
        (["lesion"], "needs at least one model"),
        (["lesion", "cifar_resnet8"], "None of the models is a run"),
        (["lesion", "resnet51", "--data", "digits"], "Did you mean 'resnet50'?"),
        (["lesion", "cifar_resnet8", "--data", "digits", "--split", "tets"], "Did you mean 'test'?"),
        (["lesion", "cifar_resnet8", "--data", "digits", "--cuont", "3"], "no option --cuont. Did you mean '--count'?"),
        (["lesion", "cifar_resnet8", "--data", "digits", "--count", "x"], "--count is 'x', but must be a whole number"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert not list(tmp_path.iterdir())
