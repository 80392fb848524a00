"""A JPEG's pixels by libjpeg-turbo's own interface, which hands them to an array: Pillow's pixels, a quarter sooner.

The surprising thing: it never says that a file is broken. What this decoder does not take as it is, Pillow is asked for.
"""

import io
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import JpegImagePlugin


def jpeg_pixels(image: JpegImagePlugin.JpegImageFile, fraction: int) -> npt.NDArray[np.uint8] | None:
    """H W 3 of an image whose file is in memory, decoded at 1 / `fraction` of its size (1, 2, 4 or 8); None where Pillow has to read it."""
    decoder, file = _decoder(), image.fp
    if decoder is None or not isinstance(file, io.BytesIO) or image.mode not in ("RGB", "L"):
        return None
    width, height = (-(-side // fraction) for side in image.size)
    try:
        pixels: npt.NDArray[np.uint8] = decoder.decode_jpeg(file.getvalue(), "RGB", min_height=height, min_width=width, min_factor=fraction)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def decoder_version() -> str:
    """The library's, empty where it is not installed."""
    return str(_decoder().__version__) if _decoder() else ""


@cache
def _decoder() -> Any:
    """The library, or None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
