"""`residual study landscape` on first values and digits: the table, the JSON, the folder, and mistakes."""

import json
from pathlib import Path

import pytest

from residual.cli import main
from residual.study.store import load


def test_a_net_and_its_twin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run twice, the second time as JSON from the parts that were kept."""
    out = tmp_path / "surfaces"
    models = ["cifar_resnet8", "cifar_plain8"]
    command = ["study", "landscape", *models, "--data", "digits", "--count", "20", "--points", "3", "--out", str(out)]
    assert main([*command, "--radius", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "20 of 1,438 pictures of the train split of digits" in said
    assert "cifar_plain8" in said
    assert " +- " in said
    assert "With shortcuts the low region is wider: too few to tell." in said
    assert "3 x 3 points instead of 51 x 51." in said
    kept = load(out)
    assert [surface.label for surface in kept.result.surfaces] == ["cifar_resnet8", "cifar_plain8"]
    assert kept.result.surfaces[0].alphas.tolist() == [-0.5, 0, 0.5]
    assert main([*command, "--radius", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["result"]["surfaces"][1]["loss"] == kept.result.surfaces[1].loss.tolist()
    assert main([*command, "--radius", "0.5", "--bn", "batch"]) == 2
    assert "another statistics" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--points", "4"], "points is 4, but must be an odd number"),
        (["--bn", "train"], "--bn is 'train', but must be one of 'inference', 'batch'"),
        (["--radius", "-1"], "radius is -1.0, but must be a number above 0"),
        (["--path", "nowhere"], "There is no folder nowhere"),
    ],
)
def test_mistakes_are_one_sentence(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "landscape", "cifar_resnet8", "--data", "digits", "--count", "5", "--out", str(tmp_path / "out")]
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
