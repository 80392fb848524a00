"""The gallery: the pictures a model was surest and wrong about, as PNGs inside the page.

The surprising thing: they are read from the evaluation's .npz file, so that the page can be made where the data is not.
"""

import base64
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from residual.training.metrics import Evaluation

_LARGEST = 192  # side in pixels; larger ones are shrunk, so that the page stays small


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: where it is from, its PNG as a data URI, and what was right and what was said of it."""

    name: str
    uri: str
    true: str
    predicted: str
    probability: float
    small: bool


def gallery(file: Path, found: Evaluation, which: str) -> list[Picture]:
    """The "worst" (most confident mistakes) or "best" of an evaluation's file, surest first; empty where it is missing or damaged."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as content:
            places, images = content[which], content[f"{which}_images"]
            labels, names = content["labels"][places], content["names"][places]
            probabilities = content["probabilities"][places]
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return []
    classes = [score.name for score in found.classes]
    guesses = probabilities.argmax(1)
    return [
        Picture(
            name=str(name), uri=data_uri(image), true=classes[label], predicted=classes[guess], probability=float(row[guess]),
            small=max(image.shape[:2]) <= 64,
        )
        for name, image, label, guess, row in zip(names, images, labels, guesses, probabilities, strict=True)
    ]  # fmt: skip


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """A PNG of H W C pixels as a data URI."""
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))
    picture.thumbnail((_LARGEST, _LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
