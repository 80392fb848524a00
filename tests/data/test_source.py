"""Digits, arrays, parquet folders and the hub: what opens, what it says, and what it refuses."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from residual.data import CATALOG, Entry, Frame, Lazy, decode, look, open_source
from residual.data.hub import open_hub
from tests.data.makers import parquet, pixels, shared


def arrays(count: int = 12, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (count, *(shape or (6, 5, 3))), np.uint8)
    return images, np.arange(count) % 3


def test_digits_need_no_datasets_library() -> None:
    code = """
import sys
sys.modules["datasets"] = None
from residual.data import Frame, decode, open_source
source = open_source("digits")
images = decode(source.splits["train"], Frame(size=(8, 8), channels=1)).images
assert (len(source.splits["train"]), len(source.splits["test"])) == (1438, 359)
assert (images.min(), images.max(), str(images.dtype)) == (0, 255, "uint8")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_digits_are_the_originals() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits")
    values = load_digits().images[source.splits["test"].rows]
    images = decode(source.splits["test"], Frame(size=(8, 8), channels=1)).images[..., 0]
    assert np.abs(images / 255 * 16 - values).max() <= 0.5 * 16 / 255 + 1e-9
    assert open_source("digits").fingerprint == source.fingerprint


def test_digits_are_the_same_where_their_file_is_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_source("digits").fingerprint
    with monkeypatch.context() as patched:
        patched.setattr("residual.data.arrays.find_spec", lambda name: None)
        assert open_source("digits").fingerprint == found


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_arrays_come_back_as_they_are(shape: tuple[int, ...]) -> None:
    images, labels = arrays(12, *shape)
    source = open_source((images, labels))
    channels = shape[2] if len(shape) == 3 else 1
    assert source.classes == ("0", "1", "2")
    for records in source.splits.values():
        decoded = decode(records, Frame(size=(6, 5), channels=channels))
        np.testing.assert_array_equal(decoded.images, images[records.rows].reshape(-1, 6, 5, channels))
        np.testing.assert_array_equal(decoded.labels, labels[records.rows])
    assert look(source.splits["train"]).channels == channels
    lazy = Lazy(records=source.splits["train"], frame=Frame(size=(3, 3), channels=1))
    np.testing.assert_array_equal(lazy.read(2), decode(source.splits["train"], lazy.frame).images[2])


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (np.zeros((6, 4, 4)), np.arange(6) % 2, r"float64, but uint8 .*\* 255"),
        (np.full((6, 4, 4), np.nan), np.arange(6) % 2, "NaN among them"),
        (np.zeros((6, 4, 4), np.int32), np.arange(6) % 2, "int32, but uint8"),
        (np.zeros((6, 3, 4, 4), np.uint8), np.arange(6) % 2, r"Move the channels last"),
        (np.zeros((6, 4), np.uint8), np.arange(6) % 2, r"shape \(6, 4\)"),
        (np.zeros((6, 4, 4), np.uint8), np.arange(5) % 2, "6 images, but the labels"),
        (np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2 * 1.0, "float64, but whole numbers"),
        (np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2 - 1, "label of image 0 is -1"),
        (np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2 * 2, "class 1 has no image"),
        (np.zeros((6, 4, 4), np.uint8), np.zeros(6, int), "All labels are 0"),
        (np.zeros((6, 4, 4), np.uint8), np.eye(6, dtype=int), "one-hot"),
        (np.zeros((4, 4, 4), np.uint8), np.arange(4) % 2, "only 2 pictures"),
        (np.zeros((0, 4, 4), np.uint8), np.zeros(0, int), "not a single pixel"),
    ],
)
def test_arrays_are_checked(images: np.ndarray, labels: np.ndarray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_source((images, labels))


def test_other_things_are_refused() -> None:
    with pytest.raises(ValueError, match="not int"):
        open_source(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not as 3 things"):
        open_source((1, 2, 3))  # type: ignore[arg-type]


def test_the_hub_out_of_reach_is_said_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    for name, hub in (("cifar10", "uoft-cs/cifar10"), ("nobody/nothing-at-all", "nobody/nothing-at-all")):
        with pytest.raises(ValueError, match=f"^{hub} is not on this machine and the Hugging Face hub cannot be reached; download"):
            open_source(name)
    assert time.monotonic() - start < 10


def test_fashion_mnist(cache: Path) -> None:
    source = open_source(shared("fashion-mnist"))
    test = source.splits["test"]
    assert (len(source.splits["train"]), len(test), len(source.classes)) == (60000, 10000, 10)
    decoded = decode(test, Frame(size=(28, 28), channels=1))
    assert np.bincount(decoded.labels).tolist() == [1000] * 10
    assert abs(float(decoded.images.mean()) / 255 - 0.2868) < 0.001
    assert look(test).channels == 1


def test_splits_of_the_hub_are_told_by_name(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` loads a local folder by the same call as a name on the hub, which is as near as a test without a network comes."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    folder = tmp_path / "owner-name"
    parquet(folder / "data/train-00000-of-00001.parquet", [1, 0] * 5, names=("cat", "dog"), image="img")
    parquet(folder / "data/validation-00000-of-00001.parquet", [0, 1, 0], names=("cat", "dog"), start=30, image="img")
    parquet(folder / "data/test-00000-of-00001.parquet", [-1, -1], names=("cat", "dog"), start=40, image="img")
    source = open_hub(str(folder))
    assert (source.kind, source.classes, sorted(source.splits)) == ("hub", ("cat", "dog"), ["train", "validation"])
    assert "test split" in source.notes[0]
    np.testing.assert_array_equal(np.asarray(source.splits["validation"].picture(1)), pixels(31))
    monkeypatch.setitem(CATALOG, "pets", Entry(hub=str(folder), image="img", test="validation", mean=(0.5, 0.5, 0.5)))
    source = open_source("pets")
    assert {split: len(records) for split, records in source.splits.items()} == {"train": 10, "test": 3}
    assert (source.mean, source.notes) == ((0.5, 0.5, 0.5), ())
    monkeypatch.setitem(CATALOG, "pets", Entry(hub=str(folder), image="imgs"))
    with pytest.raises(ValueError, match=r"has no column 'imgs'; its columns are img, label. Did you mean 'img'\?"):
        open_source("pets")
