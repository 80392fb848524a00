"""Pictures that are arrays already: what the caller hands over, and scikit-learn's digits. Nothing here touches the network.

The surprising thing: digits come without a test set; like all data without one they get the fixed 20 % cut, made in `source.py`.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.data.digest import digest
from residual.data.records import ArrayStore, Pixels, Records, Source


def open_digits() -> Source:
    """scikit-learn's 1797 digits, 8 x 8, scaled from 0..16 to 0..255."""
    values, labels = _digits()
    images = np.rint(values.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return _source("digits", "digits", images, labels.astype(np.int64))


def _digits() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """What `sklearn.datasets.load_digits` reads, from its file: importing the package takes two seconds. By its own call where the file
    has another place."""
    package = find_spec("sklearn")
    places = package.submodule_search_locations if package else None
    file = Path(places[0] if places else "", "datasets", "data", "digits.csv.gz")
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return values, labels


def open_arrays(images: npt.ArrayLike, labels: npt.ArrayLike) -> Source:
    """A source of uint8 pictures, N H W or N H W C, and whole-number labels 0..K-1; ValueError says what does not fit."""
    checked = _images(np.asarray(images))
    return _source("arrays", "arrays", checked, _labels(np.asarray(labels), len(checked)))


def _source(name: str, kind: str, images: Pixels, labels: npt.NDArray[np.int64]) -> Source:
    records = Records(store=ArrayStore(images=images, split="train"), rows=np.arange(len(images)), labels=labels)
    return Source(
        name=name,
        kind=kind,
        classes=tuple(str(k) for k in range(int(labels.max()) + 1)),
        splits={"train": records},
        fingerprint={"kind": kind, "sha256": digest(images, labels), "shape": list(images.shape)},
    )


def _images(images: npt.NDArray[Any]) -> Pixels:
    if images.dtype == object:
        raise ValueError("The images differ in shape: stack pictures of one size into a single uint8 array, N H W C.")
    if np.issubdtype(images.dtype, np.floating):
        broken = " and there are NaN among them" if np.isnan(images).any() else ""
        remedy = "(x * 255).round().astype('uint8') for values in 0..1, x.astype('uint8') for values in 0..255"
        raise ValueError(f"The images are {images.dtype}{broken}, but uint8 in 0..255 is expected: pass {remedy}.")
    if images.dtype != np.uint8:
        raise ValueError(f"The images are {images.dtype}, but uint8 in 0..255 is expected: pass images.astype('uint8').")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        hint = " Move the channels last: images.transpose(0, 2, 3, 1)." if images.ndim == 4 and images.shape[1] in (1, 3) else ""
        raise ValueError(f"The images have shape {images.shape}, but N H W or N H W C with 1 or 3 channels is expected.{hint}")
    if 0 in images.shape:
        raise ValueError(f"The images have shape {images.shape}: there is not a single pixel in them.")
    return images


def _labels(labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    if labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1:
        raise ValueError(f"The labels have shape {labels.shape}; if they are one-hot, pass labels.argmax(axis=1).")
    if labels.ndim != 1 or len(labels) != count:
        raise ValueError(f"There are {count} images, but the labels have shape {labels.shape}; one label per image is expected.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"The labels are {labels.dtype}, but whole numbers 0..K-1 are expected: pass labels.astype('int64').")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0:
        where = int(np.argmin(labels))
        raise ValueError(f"The label of image {where} is {lowest}; labels run from 0 to the number of classes less one.")
    if highest > 10 * count + 1000:
        raise ValueError(f"The largest label is {highest}, but there are only {count} images: number the classes 0..K-1.")
    missing = np.flatnonzero(np.bincount(labels, minlength=highest + 1) == 0)
    if len(missing):
        raise ValueError(f"Labels run to {highest}, but class {missing[0]} has no image: number the classes 0..K-1 without gaps.")
    if highest == 0:
        raise ValueError("All labels are 0; a classifier needs at least two classes.")
    return labels.astype(np.int64)
