"""Values go to JSON and come back as they were, led by their type hints; what does not fit is named."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from residual.study.plain import from_plain, to_plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    name: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Outer:
    kind: Literal["a", "b"]
    pair: tuple[int, float]
    rows: tuple[Inner, ...]
    table: dict[str, float]
    grid: npt.NDArray[np.float64]
    best: Inner | None = None
    sure: bool = False


OUTER = Outer(
    kind="b", pair=(3, 0.1), rows=(Inner(name="x", score=1e-300), Inner(name="y", score=-2.0)), table={"k": 0.3},
    grid=np.array([[0.1, 2.0], [3.0, 4.0]]), best=Inner(name="z", score=1.0), sure=True,
)  # fmt: skip


def through_json(value: object) -> object:
    return json.loads(json.dumps(to_plain(value), allow_nan=False))


def test_a_value_comes_back_as_it_was() -> None:
    found = from_plain(Outer, through_json(OUTER))
    assert {**vars(found), "grid": 0} == {**vars(OUTER), "grid": 0}
    assert (found.grid == OUTER.grid).all()
    assert isinstance(found.rows[0], Inner)
    assert from_plain(Outer, through_json(Outer(**{**vars(OUTER), "best": None}))).best is None


def test_a_field_with_a_default_may_be_missing() -> None:
    """As in a result that was kept before there was such a field."""
    kept = {name: value for name, value in through_json(OUTER).items() if name not in ("sure", "best")}
    found = from_plain(Outer, kept)
    assert (found.sure, found.best, found.kind) == (False, None, "b")
    with pytest.raises(ValueError, match="missing or unknown field 'table'"):
        from_plain(Outer, {name: value for name, value in kept.items() if name != "table"})


def test_what_is_not_finite_becomes_null_and_nan() -> None:
    plain = through_json({"a": math.inf, "b": np.float32("nan"), "c": np.array([1.0, np.nan]), "d": Path("x/y"), "e": np.int64(3)})
    assert plain == {"a": None, "b": None, "c": [1.0, None], "d": "x/y", "e": 3}
    assert math.isnan(from_plain(float, None))
    assert np.isnan(from_plain(npt.NDArray[np.float64], [1.0, None])[1])


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("kind", "c", "it.kind is 'c', but must be one of"),
        ("pair", [1], "it.pair is [1], but must be a list of 2"),
        ("pair", [1.5, 1], "it.pair[0] is 1.5, but must be of type int"),
        ("rows", [{"name": "x"}], "it.rows[0] has a missing or unknown field 'score'"),
        ("rows", {}, "it.rows is {}, but must be a list"),
        ("best", 3, "it.best is 3, but must be an object"),
        ("sure", 1, "it.sure is 1, but must be of type bool"),
        ("table", {"k": True}, "it.table.k is True, but must be a number"),
        ("more", 1, "it has a missing or unknown field 'more'"),
    ],
)
def test_what_does_not_fit_is_named(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        from_plain(Outer, {**through_json(OUTER), field: value})


def test_only_plain_values_are_written() -> None:
    with pytest.raises(ValueError, match="plain values"):
        to_plain({"f": print})
