"""A finding comes back whole from its folder; a stopped study goes on from its parts; what is damaged or foreign is one sentence."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from residual.study.claims import Claim
from residual.study.responses import ModelResponses, Response, Result
from residual.study.store import Finding, load, open_parts, save


def finding() -> Finding:
    layer = Response(layer="conv1", tap="bn1", after="batch norm", std=0.1 + 0.2)
    model = ModelResponses(label="m", kind="plain", depth=8, trained=True, layers=(layer,), sorted=(layer.std,), mean=layer.std)
    claim = Claim(claim="c", source="s", verdict="differs", reason="r")
    return Finding(
        study="responses", settings={"seed": 3, "models": [{"label": "m"}]}, scaled_down=("less",), data={"name": "digits"},
        machine={"device": "cpu"}, versions={"numpy": "2"}, seconds=1.25, command="residual study",
        result=Result(batch_norm="inference", layers_told="all", models=(model,), claims=(claim,)),
    )  # fmt: skip


def test_a_finding_comes_back_whole(tmp_path: Path) -> None:
    file = save(finding(), tmp_path / "results" / "a")
    assert load(file.parent) == load(file) == finding()
    assert sorted(path.name for path in file.parent.iterdir()) == ["result.json"]
    told = json.loads(file.read_text())
    assert (told["format"], told["study"], told["result"]["models"][0]["layers"][0]["std"]) == (1, "responses", 0.1 + 0.2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda told: told.update(format=2), "was not written by this version"),
        (lambda told: told.update(study="respones"), "There is no study 'respones'. Did you mean 'responses'?"),
        (lambda told: told.pop("seconds"), "it has no 'seconds'"),
        (lambda told: told["result"]["models"][0].update(kind="other"), "result.models[0].kind is 'other'"),
        (lambda told: told["result"].pop("claims"), "result has a missing or unknown field 'claims'"),
    ],
)
def test_a_damaged_result_is_one_sentence(tmp_path: Path, change, sentence: str) -> None:
    file = save(finding(), tmp_path)
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{re.escape(sentence)}"):
        load(tmp_path)


def test_foreign_files_and_missing_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study's result in"):
        load(tmp_path)
    (tmp_path / "result.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"result.json is damaged: it holds no object"):
        load(tmp_path)
    (tmp_path / "result.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match=r"result.json is damaged"):
        load(tmp_path)
    open_parts(tmp_path / "new", "lesion", {})
    with pytest.raises(ValueError, match="is not finished: run its command again"):
        load(tmp_path / "new")
    with pytest.raises(ValueError, match="There is no study 'cooking'"):
        save(replace(finding(), study="cooking"), tmp_path / "never")
    assert not (tmp_path / "never").exists()
    with pytest.raises(ValueError, match="cannot be written to"):
        save(finding(), tmp_path / "result.json")


def test_finished_parts_are_not_made_again(tmp_path: Path) -> None:
    made = []

    def make(value: object) -> object:
        made.append(value)
        return {"value": value}

    parts = open_parts(tmp_path, "lesion", {"seed": 1})
    first = [parts.get("a", lambda: make((1, 0.1))), parts.get("b/../c", lambda: make(2.0))]
    again = open_parts(tmp_path, "lesion", {"seed": 1})
    assert [again.get("a", lambda: make(9)), again.get("b/../c", lambda: make(9))] == first == [{"value": [1, 0.1]}, {"value": 2.0}]
    assert made == [(1, 0.1), 2.0]
    assert again.seconds == parts.seconds > 0
    assert again.get("d", lambda: make(3)) == {"value": 3}
    kept = open_parts(None, "lesion", {"seed": 1})
    assert kept.get("a", lambda: make(4)) == {"value": 4}


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    open_parts(tmp_path, "lesion", {"seed": 1, "count": 5})
    with pytest.raises(ValueError, match=r"another count \(5, and now 6\).*--out"):
        open_parts(tmp_path, "lesion", {"seed": 1, "count": 6})
    with pytest.raises(ValueError, match=r'another study \("lesion", and now "gradients"\)'):
        open_parts(tmp_path, "gradients", {"seed": 1, "count": 5})
    open_parts(tmp_path, "lesion", {"count": 5, "seed": 1})


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    parts = open_parts(tmp_path, "lesion", {})
    parts.get("a", lambda: 1)
    (file,) = (path for path in (tmp_path / "parts").iterdir() if path.name != "settings.json")
    for content in ("{", "{}", '{"part": "b", "seconds": 1.0, "values": 1}'):
        file.write_text(content)
        with pytest.raises(ValueError, match=rf"{file.name} is damaged"):
            parts.get("a", lambda: 1)
