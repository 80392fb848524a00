"""Folders of parquet files: what opens, in which way, what it says, and what it refuses."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from residual.data import Frame, Lazy, decode, open_source
from residual.data import parquet as parquet_module
from tests.data.makers import parquet, pixels


@pytest.mark.parametrize(
    "place", ["data/train-00000-of-00001.parquet", "train-00000-of-00001.parquet", "train.parquet", "sub/train-a.parquet"]
)
@pytest.mark.parametrize("mapped", [False, True])
def test_parquet_layouts(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, place: str, mapped: bool) -> None:
    if mapped:
        monkeypatch.setattr(parquet_module, "_SMALL", 0)
    parquet(tmp_path / place, [1, 0, 1, 0], names=("cat", "dog"))
    parquet((tmp_path / place).parent / "test-00000-of-00001.parquet", [0, 1], names=("cat", "dog"), start=70)
    before = sorted(tmp_path.rglob("*"))
    source = open_source(tmp_path)
    assert (source.kind, source.classes, source.notes) == ("parquet", ("cat", "dog"), ())
    assert source.splits["train"].labels.tolist() == [1, 0, 1, 0]
    assert source.splits["test"].names == ["test[0]", "test[1]"]
    np.testing.assert_array_equal(np.asarray(source.splits["test"].picture(1)), pixels(71))
    assert sorted(tmp_path.rglob("*")) == before
    assert bool(list(cache.rglob("*.arrow"))) == mapped


def test_small_parquet_needs_no_datasets(tmp_path: Path) -> None:
    """Its import takes longer than all else that opening does, and that of pandas half as long."""
    parquet(tmp_path / "train.parquet", [0, 1] * 5, names=("a", "b"))
    code = """
import sys
from residual.data import open_source
open_source(sys.argv[1])
sys.exit(not {"datasets", "pandas"}.isdisjoint(sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("names", [("a", "b"), ()])
@pytest.mark.parametrize("plain", [False, True])
def test_features_are_those_that_datasets_tells(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool, names: tuple[str, ...], plain: bool
) -> None:
    """Columns of pictures or of plain bytes, with class names and without, read in both ways."""
    import pyarrow.parquet

    path = parquet(tmp_path / "train.parquet", [0, 1] * 5, names=names)
    if plain:
        table = pyarrow.parquet.read_table(path)
        cells = pyarrow.array([cell["bytes"] for cell in table["image"].to_pylist()], pyarrow.large_binary())
        pyarrow.parquet.write_table(table.set_column(0, "image", cells).replace_schema_metadata(None), path)
    monkeypatch.setattr(parquet_module, "_SMALL", 0 if mapped else 2**30)
    source = open_source(tmp_path)
    assert source.classes == (("0", "1") if plain or not names else names)
    train = source.splits["train"]
    np.testing.assert_array_equal(np.asarray(train.picture(0)), pixels(int(train.rows[0])))


@pytest.mark.parametrize("mapped", [False, True])
def test_shards_with_other_columns_are_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool) -> None:
    parquet(tmp_path / "train-00000-of-00002.parquet", [0, 1] * 5)
    parquet(tmp_path / "train-00001-of-00002.parquet", [0, 1] * 5, image="picture")
    monkeypatch.setattr(parquet_module, "_SMALL", 0 if mapped else 2**30)
    with pytest.raises(ValueError, match=r"cannot be read \(.*\); copy or download train-00000-of-00002\.parquet again"):
        open_source(tmp_path)


def strange(root: Path, case: str) -> None:
    """A folder of parquet files that only `datasets` reads rightly, each in its own way."""
    import pyarrow
    import pyarrow.parquet

    first = parquet(root / "train-00000-of-00002.parquet", [0, 1] * 5, names=("a", "b"))
    second = parquet(root / "train-00001-of-00002.parquet", [0, 1] * 5, names=("a", "b"), start=20)
    table = pyarrow.parquet.read_table(first)
    texts = pyarrow.array(["x", "y"] * 5)
    changed = {
        "order": lambda: table.select(["label", "image"]),
        "narrow labels": lambda: table.set_column(1, "label", table["label"].cast(pyarrow.int32())),
        "one more column": lambda: table.append_column("note", texts),
        "names of strings": lambda: table.set_column(1, "label", texts).replace_schema_metadata(table.schema.metadata),
        "categories": lambda: table.set_column(1, "label", texts.dictionary_encode()).replace_schema_metadata(None),
        "no features": lambda: table.replace_schema_metadata({"huggingface": '{"info": {"features": null}}'}),
    }[case]()
    for path in (first, second)[: 1 if case in ("order", "narrow labels", "one more column") else 2]:
        pyarrow.parquet.write_table(changed, path)


@pytest.mark.parametrize(
    ("case", "classes"),
    [
        ("order", ("a", "b")), ("narrow labels", ("0", "1")), ("one more column", ("a", "b")), ("names of strings", ("x", "y")),
        ("categories", ("x", "y")), ("no features", ("0", "1")),
    ],
)  # fmt: skip
def test_strange_tables_are_left_to_datasets(tmp_path: Path, cache: Path, case: str, classes: tuple[str, ...]) -> None:
    strange(tmp_path, case)
    source = open_source(tmp_path)
    assert list(cache.rglob("*.arrow"))
    assert source.classes == classes
    assert sum(len(split) for split in source.splits.values()) == 20
    assert np.asarray(source.splits["train"].picture(0)).shape == (20, 24, 3)


@pytest.mark.parametrize("small", ["train", "test"])
def test_all_splits_are_read_in_one_way(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, small: str) -> None:
    """One split is small enough for memory, the other is not: the features of both come from one hand."""
    sizes = {"train": 10, "test": 10, small: 2}
    for split, count in sizes.items():
        parquet(tmp_path / f"{split}.parquet", [0, 1] * count, names=("a", "b"))
    monkeypatch.setattr(parquet_module, "_SMALL", (tmp_path / f"{small}.parquet").stat().st_size * 2)
    assert open_source(tmp_path).classes == ("a", "b")
    assert len({path.parent for path in cache.rglob("*.arrow")}) == 2


def test_what_is_large_once_unpacked_is_not_read_into_memory(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    import pyarrow.parquet

    path = parquet(tmp_path / "train.parquet", [0, 1] * 5, names=("a", "b"))
    table = pyarrow.parquet.read_table(path).append_column("zeros", pyarrow.array([bytes(100_000)] * 10))
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(parquet_module, "_SMALL", 500_000)
    assert path.stat().st_size < 500_000
    open_source(tmp_path)
    assert list(cache.rglob("*.arrow"))


def test_parquet_shards_in_order_and_without_class_names(tmp_path: Path, cache: Path) -> None:
    for shard in range(2):
        parquet(tmp_path / f"train-0000{shard}-of-00002.parquet", ["b", "a", "b"] * 2, start=10 * shard)
    source = open_source(tmp_path)
    assert source.classes == ("a", "b")
    train, test = source.splits["train"], source.splits["test"]
    assert len(train) + len(test) == 12
    for records in (train, test):
        for index, row in enumerate(records.rows.tolist()):
            assert records.name(index) == f"train[{row}]"
            np.testing.assert_array_equal(np.asarray(records.picture(index)), pixels(row if row < 6 else row + 4))


@pytest.mark.parametrize("mapped", [False, True])
def test_records_and_lazy_travel_light(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool) -> None:
    monkeypatch.setattr(parquet_module, "_SMALL", 0 if mapped else 2**30)
    parquet(tmp_path / "train.parquet", [0, 1] * 100, names=("a", "b"))
    records = open_source(tmp_path).splits["train"]
    packed = pickle.dumps(Lazy(records=records, frame=Frame(size=(8, 8), channels=3)))
    assert len(packed) < 20_000
    np.testing.assert_array_equal(pickle.loads(packed).read(3), Lazy(records=records, frame=Frame(size=(8, 8), channels=3)).read(3))


def test_broken_rows_are_named(tmp_path: Path, cache: Path) -> None:
    import pyarrow.parquet

    path = parquet(tmp_path / "train.parquet", [0, 1] * 6, names=("a", "b"))
    parquet(tmp_path / "test.parquet", [0, 1], names=("a", "b"))
    table = pyarrow.parquet.read_table(path)
    cells = table["image"].to_pylist()
    cells[3]["bytes"], cells[5] = cells[3]["bytes"][:200], None
    table = table.set_column(0, "image", pyarrow.array(cells, table["image"].type))
    pyarrow.parquet.write_table(table, path)
    problems = decode(open_source(tmp_path).splits["train"], Frame(size=(20, 24), channels=3)).problems
    assert [(one.file, one.reason) for one in problems] == [("train[3]", "cut short"), ("train[5]", "empty file")]


def wrong(root: Path, case: str) -> None:
    """A folder of parquet files that is wrong in one way."""
    good = parquet(root / "train-00000-of-00001.parquet", [0, 1] * 3, names=("a", "b"))
    if case == "missing shard":
        good.rename(root / "train-00000-of-00002.parquet")
    if case == "cut short":
        good.write_bytes(good.read_bytes()[:-40])
    if case == "damaged":
        content = bytearray(good.read_bytes())
        content[4:800] = bytes(796)
        good.write_bytes(content)
    if case == "no split":
        good.rename(root / "0000.parquet")
    if case == "only test":
        good.rename(root / "test-0.parquet")
    if case == "classes differ":
        parquet(root / "test.parquet", [0, 1], names=("a", "c"))
    if case == "no pictures":
        parquet(good, [0, 1, 0], names=("a", "b"), image="thing")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.parquet.read_table(good).replace_schema_metadata(None), good)
    if case == "label too large":
        parquet(good, [0, 1, 2], names=("a", "b"))
    if case == "no labels":
        parquet(good, [0, -1, 1], names=("a", "b"))
    if case == "one class":
        parquet(good, ["a"] * 5)
    if case == "not a number":
        parquet(good, [0.5, 1.5, 0.5])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("missing shard", r"Part 1 of 2 of the train split is missing"),
        ("cut short", r"train-00000-of-00001\.parquet is not a readable parquet file"),
        ("damaged", r"cannot be read .*copy or download train-00000-of-00001\.parquet again"),
        ("no split", r"0000\.parquet names no split; parquet files are called train-\*\.parquet"),
        ("only test", r"holds no train-\*\.parquet; it holds test-0\.parquet"),
        ("classes differ", r"The test split of .* has other columns or class names than its train split"),
        ("no pictures", r"no column of pictures; its columns are thing, label"),
        ("label too large", r"has the label 2, but names only 2 classes"),
        ("no labels", r"1 rows of the train split of .* have no label"),
        ("one class", r"only one class, a"),
        ("not a number", r"no column of class labels; its columns are image, label"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_parquet_mistakes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, case: str, sentence: str, mapped: bool
) -> None:  # fmt: skip
    monkeypatch.setattr(parquet_module, "_SMALL", 0 if mapped else 2**30)
    wrong(tmp_path, case)
    with pytest.raises(ValueError, match=sentence) as caught:
        open_source(tmp_path)
    assert "\n" not in str(caught.value)
