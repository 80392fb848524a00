"""The doctor: every fault that is put in is found, and nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from residual.data import describe_health, examine
from residual.data.near import DIFFERENCE, DISTANCE, groups_of, near_pairs, pairs_within, perceptual_hashes
from tests.data.makers import folder, parquet, pixels


def base(root: Path) -> Path:
    folder(root / "train", {"x": 6, "y": 6})
    folder(root / "test", {"x": 2, "y": 2}, start=40)
    return root


def names(twins: object) -> list[set[str]]:
    return [{"/".join(Path(picture).parts[-3:]) for picture in one.pictures} for one in twins]  # type: ignore[attr-defined]


def test_a_clean_folder(tmp_path: Path) -> None:
    health = examine(base(tmp_path))
    assert health.clean
    assert health.counts == {"train": {"x": 6, "y": 6}, "test": {"x": 2, "y": 2}}
    assert (health.formats, health.modes) == ({"PNG": 16}, {"RGB": 16})
    assert describe_health(health).endswith("Nothing is wrong with it.")


def test_every_fault_is_found(tmp_path: Path) -> None:
    root = base(tmp_path)
    (root / "train/x/copy.png").write_bytes((root / "train/x/0.png").read_bytes())
    (root / "test/x/leak.png").write_bytes((root / "train/x/1.png").read_bytes())
    (root / "train/y/liar.png").write_bytes((root / "train/x/2.png").read_bytes())
    ImageEnhance.Brightness(Image.open(root / "train/y/3.png").resize((48, 40))).enhance(1.03).save(root / "test/y/again.jpg")
    (root / "train/x/broken.jpg").write_text("no")
    (root / "train/x/notes.txt").write_text("")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    calls: list[tuple[int, int]] = []
    health = examine(root, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert names(health.duplicates) == [
        {"train/x/0.png", "train/x/copy.png"},
        {"train/x/1.png", "test/x/leak.png"},
        {"train/x/2.png", "train/y/liar.png"},
    ]
    assert names(health.near) == [{"train/y/3.png", "test/y/again.jpg"}]
    assert names(health.leaked) == [{"train/x/1.png", "test/x/leak.png"}, {"train/y/3.png", "test/y/again.jpg"}]
    assert names(health.contradictions) == [{"train/x/2.png", "train/y/liar.png"}]
    assert [(Path(one.file).name, one.reason) for one in health.unreadable] == [("broken.jpg", "not a picture")]
    assert health.ignored == {".txt": 1}
    assert calls[-1] == (21, 21)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert json.loads(json.dumps(health.as_dict()))["leaked"][0]["splits"] == ["train", "test"]
    text = describe_health(health)
    assert text.index("Cannot be read") < text.index("In train and in another split: 2") < text.index("Exact duplicates: 3")


def test_lists_are_cut_at_ten(tmp_path: Path) -> None:
    root = base(tmp_path)
    for k in range(13):
        (root / "train/x" / f"broken{k}.png").write_text("no")
    text = describe_health(examine(root))
    assert "left out: 13" in text
    assert "and 3 more" in text
    assert text.count("broken") == 10


def test_what_training_would_refuse_is_still_examined(tmp_path: Path) -> None:
    root = folder(tmp_path, {"x": 3})
    (root / "empty").mkdir()
    (root / "x/copy.png").write_bytes((root / "x/0.png").read_bytes())
    health = examine(root)
    assert "holds no pictures" in health.fault
    assert len(health.duplicates) == 1
    assert "Cannot be trained on" in describe_health(health)
    with pytest.raises(ValueError, match="no folder"):
        examine(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        examine(root / "x/0.png")


def test_a_data_set_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    health = examine("digits")
    assert (health.kind, health.fault, health.formats) == ("digits", "", {"array": 1797})
    assert {split: sum(counts.values()) for split, counts in health.counts.items()} == {"train": 1438, "test": 359}
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "digits", {"x": 3, "y": 3})
    assert examine("digits").kind == "folder", "a folder of that name is meant"
    with pytest.raises(ValueError, match="no folder"):
        examine("digit")


def test_empty_folder(tmp_path: Path) -> None:
    health = examine(tmp_path)
    assert health.fault.startswith("No pictures")
    assert "0 pictures" in describe_health(health)


def test_parquet(tmp_path: Path, cache: Path) -> None:
    parquet(tmp_path / "train.parquet", [0, 1] * 4, names=("a", "b"))
    parquet(tmp_path / "test.parquet", [0, 1], names=("a", "b"), start=7)
    health = examine(tmp_path)
    assert [one.pictures for one in health.leaked] == [("train[7]", "test[0]")]
    assert [one.classes for one in health.contradictions] == [("b", "a")]


def test_pictures_without_contrast_match_nothing(tmp_path: Path) -> None:
    copies = np.stack([np.full((32, 32), level, np.uint8) for level in (0, 0, 255, 255)])
    assert len(near_pairs(copies)) == 0


def test_banding_finds_what_all_pairs_find() -> None:
    rng = np.random.default_rng(0)
    originals = np.stack([np.asarray(Image.fromarray(pixels(k)).convert("L").resize((32, 32))) for k in range(300)])
    noisy = np.clip(originals + rng.normal(0, 3, originals.shape), 0, 255).astype(np.uint8)
    copies = np.concatenate([originals, noisy])
    hashes = perceptual_hashes(copies).tolist()
    close = {(i, j) for i in range(600) for j in range(i + 1, 600) if (hashes[i] ^ hashes[j]).bit_count() <= DISTANCE}
    alike = {(i, j) for i, j in close if np.sqrt(np.square(copies[i] - copies[j].astype(float)).mean()) <= DIFFERENCE}
    found = {tuple(pair) for pair in near_pairs(copies).tolist()}
    assert found == alike
    assert all(j == i + 300 for i, j in found)
    assert len(found) > 280


@pytest.mark.parametrize("spared", range(7))
def test_every_band_finds_its_pairs(spared: int) -> None:
    """Six bits differ, one in every band but the spared one."""
    starts = np.linspace(0, 64, 8).astype(int)[:7]
    flips = sum(1 << int(start) for band, start in enumerate(starts) if band != spared)
    copies = np.repeat(np.arange(1024, dtype=np.int64).reshape(1, 32, 32) // 4, 3, axis=0).astype(np.uint8)
    hashes = np.asarray([0x0123456789ABCDEF, 0x0123456789ABCDEF ^ flips, 0x0123456789ABCDEF ^ flips ^ (1 << 63)], np.uint64)
    assert pairs_within(hashes, copies).tolist() == [[0, 1], [1, 2]]
    far = copies.copy()
    far[1] = 255 - far[1]
    assert pairs_within(hashes, far).tolist() == []


def test_twins_outside_train_are_duplicates_but_no_leak(tmp_path: Path) -> None:
    root = base(tmp_path)
    folder(root / "val", {"x": 1, "y": 1}, start=60)
    (root / "val/x/same.png").write_bytes((root / "test/x/0.png").read_bytes())
    health = examine(root)
    assert names(health.duplicates) == [{"val/x/same.png", "test/x/0.png"}]
    assert health.leaked == ()


def test_groups_join_through_others() -> None:
    assert groups_of(np.asarray([[4, 5], [0, 2], [2, 7]]), 9) == [[0, 2, 7], [4, 5]]
