"""The pictures on the page, as data URIs: those a model was surest of, where it looked on them, and the filters of its first layer.

The surprising thing: the pictures are read from the evaluation's .npz file, so that the page can be made where the data is not; only
where it looked is computed when the page is made, on these few.
"""

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from residual.layers import Conv, Network
from residual.plan import plan
from residual.weights import SavedModel, Weights

_LARGEST = 192  # side in pixels; larger ones are shrunk, so that the page stays small
_SMALL = 64  # up to this side a picture's pixels are shown as they are
_LOOK = 112  # side in pixels that small pictures are enlarged to under their map
_FILTERS = 128
_STOPS = (0, 64, 128, 192, 255)
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # lightness rises all along: legible without hues


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: where it is from, its data URI, what was right and what was said of it.

    Attributes:
        look: the picture under the Grad-CAM map of `predicted`, as a data URI; empty where there is none.
        small: so small that its pixels should be seen.
    """

    name: str
    uri: str
    look: str
    true: str
    predicted: str
    probability: float
    small: bool


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What an evaluation's file keeps of some pictures: uint8 N H W C, labels N, names N, probabilities N x classes."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: npt.NDArray[np.str_]
    probabilities: npt.NDArray[np.float32]

    @property
    def guesses(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(1), np.int64)


def kept(file: Path, which: str) -> Kept | None:
    """The "worst" (most confident mistakes) or "best" of an evaluation's file, surest first; None where it is missing or damaged."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as content:
            places = content[which]
            return Kept(
                images=content[f"{which}_images"], labels=content["labels"][places], names=content["names"][places],
                probabilities=content["probabilities"][places],
            )  # fmt: skip
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return None


def looks(saved: SavedModel, images: npt.NDArray[np.uint8], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """Where the model looks on each picture (N H W C) when it names the class beside it; None where that cannot be computed."""
    from residual.study.attention import attention

    cleaned = saved.preprocessing
    if cleaned is None or images.shape[1:] != (*cleaned.size, cleaned.channels):
        return None
    return attention(plan(saved.architecture), saved.weights, cleaned.normalise(images), classes.tolist())


def gallery(found: Kept, classes: Sequence[str], maps: npt.NDArray[np.float32] | None) -> list[Picture]:
    """The pictures with the names of their classes; `maps` (N h w) say where the model looked."""
    guesses, pictures = found.guesses, []
    for place, image in enumerate(found.images):
        guess = int(guesses[place])
        pictures.append(
            Picture(
                name=str(found.names[place]), uri=data_uri(image), look="" if maps is None else look_uri(image, maps[place]),
                true=classes[found.labels[place]], predicted=classes[guess], probability=float(found.probabilities[place, guess]),
                small=max(image.shape[:2]) <= _SMALL,
            )
        )  # fmt: skip
    return pictures


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """H W C pixels as a data URI: a PNG where pixels count, a JPEG of a photograph."""
    picture = _pillow(image)
    return _encoded(picture, "PNG" if max(image.shape[:2]) <= _SMALL else "JPEG")


def look_uri(image: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> str:
    """The picture in grey under its map (h w), from black (none) to pale yellow (the map's largest value), as a data URI."""
    grey = _pillow(image).convert("L")
    height, width = image.shape[:2]
    grow = max(1, -(-_LOOK // max(height, width)))
    size = (grey.width * grow, grey.height * grow)
    high = float(heat.max())
    share = Image.fromarray((255 * heat / high if high > 0 else np.zeros_like(heat)).astype(np.uint8)).resize(
        size, Image.Resampling.BILINEAR
    )
    colours = np.stack([np.interp(np.arange(256), _STOPS, channel) for channel in np.transpose(_HEAT)], -1)
    below = np.asarray(grey.resize(size, Image.Resampling.NEAREST), np.float32)[..., None]
    mixed = 0.45 * below + 0.55 * colours[np.asarray(share)]
    return _encoded(Image.fromarray(mixed.astype(np.uint8)), "JPEG")


def filters(network: Network, weights: Weights) -> list[str]:
    """The filters of the first convolution as data URIs, each scaled by its own largest value, zero in the middle of grey.

    Colour where it takes three channels, else the mean over the channels in grey; at most the first 128.
    """
    first = next(layer for layer in network.stem if isinstance(layer, Conv))
    values = weights[f"{first.name}.weight"][:_FILTERS].transpose(0, 2, 3, 1)
    values = values if values.shape[3] == 3 else values.mean(3, keepdims=True)
    largest = np.maximum(np.abs(values).max((1, 2, 3), keepdims=True), 1e-12)
    return [_encoded(_pillow(pixels), "PNG") for pixels in (127.5 + 127.5 * values / largest).round().astype(np.uint8)]


def _pillow(image: npt.NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))
    picture.thumbnail((_LARGEST, _LARGEST))
    return picture


def _encoded(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    if kind == "PNG":
        picture.save(buffer, kind, optimize=True)
    else:
        picture.save(buffer, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
