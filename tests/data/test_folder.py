"""Folders of pictures as people have them, and the sentence for each way in which they can be wrong."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.data import TEST_SEED, TEST_SHARE, cut, open_source
from tests.data.makers import folder, pixels, shared


def test_classes_labels_and_names(tmp_path: Path) -> None:
    root = folder(tmp_path / "train", {"dog": 5, "cat": 4}).parent
    folder(tmp_path / "test", {"cat": 2, "dog": 2}, start=50)
    folder(tmp_path / "valid", {"cat": 1, "dog": 1}, start=90)
    source = open_source(root)
    assert (source.kind, source.classes) == ("folder", ("cat", "dog"))
    assert list(source.splits) == ["train", "validation", "test"]
    assert [len(records) for records in source.splits.values()] == [9, 2, 4]
    train = source.splits["train"]
    assert train.labels.tolist() == [0] * 4 + [1] * 5
    assert train.names[4] == str(root / "train" / "dog" / "0.png")
    np.testing.assert_array_equal(np.asarray(train.picture(4)), pixels(0))
    assert source.notes == ()


def test_without_a_test_set_the_fixed_cut_is_made_and_said(tmp_path: Path) -> None:
    source = open_source(str(folder(tmp_path, {"a": 10, "b": 20})))
    assert [len(source.splits[split]) for split in ("train", "test")] == [24, 6]
    _, aside = cut([0] * 10 + [1] * 20, share=TEST_SHARE, seed=TEST_SEED)
    assert source.splits["test"].rows.tolist() == aside.tolist()
    assert not set(source.splits["test"].names) & set(source.splits["train"].names)
    assert "6 of 30 pictures (20% of every class)" in source.notes[0]
    assert source.fingerprint["test_cut"] == {"share": 0.2, "seed": TEST_SEED}


def test_litter_is_passed_over_and_pictures_below_a_class_count(tmp_path: Path) -> None:
    root = folder(tmp_path / "a", {"x": 3, "y": 3})
    folder(root / "x", {"deep": 2}, start=30)
    (root / "x" / "deep" / "0.png").rename(root / "x" / "deep" / "UPPER.PNG")
    for junk in ("__MACOSX/x/._0.jpg", ".hidden/0.png", "x/.0.png", "y/Thumbs.db", "y/.DS_Store", "y/notes.txt"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_text("junk")
    source = open_source(root)
    assert source.classes == ("x", "y")
    assert sum(map(len, source.splits.values())) == 8


def test_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    root = folder(tmp_path, {"x": 3, "y": 3})
    (root / "x" / "back").symlink_to(root / "x", target_is_directory=True)
    assert sum(map(len, open_source(root).splits.values())) == 6


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    assert open_source(folder(tmp_path, {"test": 3, "real": 3})).classes == ("real", "test")


def test_fingerprint_follows_content(tmp_path: Path) -> None:
    root = folder(tmp_path, {"x": 3, "y": 3})
    before = open_source(root).fingerprint
    assert open_source(root).fingerprint == before
    content = (root / "x" / "0.png").read_bytes()
    (root / "x" / "0.png").write_bytes(content[:-1] + b"?")
    assert open_source(root).fingerprint["sha256"] != before["sha256"]


def test_a_read_only_folder_stays_as_it_is(tmp_path: Path) -> None:
    root = folder(tmp_path, {"x": 3, "y": 3})
    before = sorted(str(path) for path in root.rglob("*"))
    open_source(root)
    assert sorted(str(path) for path in root.rglob("*")) == before


def wrong(root: Path, case: str) -> Path:
    """A folder that is wrong in one way."""
    if case == "one class":
        return folder(root, {"x": 3})
    if case == "one level too high":
        return folder(root / "inner", {"x": 3, "y": 3}).parent
    if case == "empty class":
        folder(root, {"x": 3, "y": 3})
        (root / "z").mkdir()
    if case == "no pictures":
        (root / "x").mkdir()
        (root / "x" / "a.txt").write_text("")
    if case == "flat":
        Image.fromarray(pixels(0)).save(root / "a.png")
    if case == "other classes":
        folder(root / "train", {"x": 3, "y": 3})
        folder(root / "test", {"x": 3, "q": 3})
    if case == "lacks a class":
        folder(root / "train", {"x": 3, "y": 3})
        folder(root / "test", {"x": 3})
    if case == "no train":
        folder(root / "test", {"x": 3, "y": 3})
    if case == "small class":
        folder(root, {"x": 3, "y": 2})
    return root


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("one class", r"holds only one class, x; a classifier needs at least two class folders\.$"),
        ("one level too high", r"holds only the folder inner; its classes lie one level deeper: pass .*inner\.$"),
        ("empty class", r"The class folder .*z holds no pictures; fill it or remove it\.$"),
        ("no pictures", r"No pictures \(.*\) in .*; it holds 1 \.txt file\. Expected is one folder per class\.$"),
        ("flat", r"The pictures lie directly in .*; put those of each class in a folder of their own"),
        ("other classes", r"Class q is in .*test but not in train"),
        ("lacks a class", r"Class y is in train but not in .*test"),
        ("no train", r"has test but no train folder"),
        ("small class", r"Class y of .* has only 2 pictures; .* every class needs at least 3\.$"),
    ],
)
def test_one_clear_sentence(tmp_path: Path, case: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        open_source(wrong(tmp_path, case))
    assert "\n" not in str(caught.value)


def test_a_file_and_a_missing_folder(tmp_path: Path) -> None:
    folder(tmp_path, {"flowers": 1})
    with pytest.raises(ValueError, match=r"0\.png is a file; pass the folder"):
        open_source(tmp_path / "flowers" / "0.png")
    with pytest.raises(ValueError, match=r"no folder '.*flower'\. Did you mean '.*flowers'\?"):
        open_source(str(tmp_path / "flower"))
    with pytest.raises(ValueError, match=r"Did you mean 'fashion-mnist'\?"):
        open_source("fashon_mnist")


def test_a_file_without_permission_is_a_problem_and_not_a_crash(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    root = folder(tmp_path, {"x": 9, "y": 9})
    (root / "x" / "0.png").chmod(0)
    open_source(root)


def test_flowers() -> None:
    source = open_source(shared("flowers"))
    assert source.classes == ("fritillary", "lilyvalley", "pansy")
    assert {split: len(records) for split, records in source.splits.items()} == {"train": 192, "test": 48}


def test_a_folder_that_is_gone_midway(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path, {"x": 3, "y": 3}))
    shutil.rmtree(tmp_path / "x")
    with pytest.raises(OSError, match="No such file"):
        source.splits["train"].picture(0)
