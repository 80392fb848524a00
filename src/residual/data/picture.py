"""One picture brought to one shape: any Pillow mode to 8-bit grey or colour, resized and centre-cropped.

The surprising thing: transparent pictures are laid on white, and 16-bit pixels are divided by 257 (Pillow's own conversion clips
them). Of large colour pictures whole pixels are cut out, for the resizing that is quicker than Pillow's knows no parts of one.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from residual.data.jpeg import jpeg_pixels
from residual.data.resize import resize_into

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_DRAFT_GAP = 1.5  # a JPEG is decoded at half, quarter or eighth size only while it stays 1.5 times larger than needed
_ORIENTATION = 0x0112
_JPEG = ("JPEG", "MPO")
LARGE = 128 * 128  # pixels from which a picture spends its time outside the interpreter's lock, in decoding and resizing


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The shape every picture is brought to.

    Attributes:
        size: height and width in pixels.
        channels: 1 grey, 3 colour.
        crop: share of the largest centred cut that is kept (0.875 is the 224 of 256 of the papers).
    """

    size: tuple[int, int]
    channels: int
    crop: float = 1.0

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"A frame's size is (height, width), both at least 1, and not {self.size}.")
        if self.channels not in (1, 3):
            raise ValueError(f"A frame has 1 channel (grey) or 3 (colour), and not {self.channels}.")
        if not 0 < self.crop <= 1:
            raise ValueError(f"A frame's crop is a share above 0 and at most 1, and not {self.crop}.")

    @property
    def mode(self) -> str:
        """Pillow's name of the pixel type."""
        return "L" if self.channels == 1 else "RGB"


@contextmanager
def strict_pillow() -> Iterator[None]:
    """A scope in which oversized pictures raise and Pillow's remarks on odd metadata are silent.

    Warnings are the process's: of scopes in several threads the first sets how they are treated, and the last one's end gives that back.
    """
    with _STRICT.lock:
        if not _STRICT.inside:
            _STRICT.scope.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module="PIL")
            warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
        _STRICT.inside += 1
    try:
        yield
    finally:
        with _STRICT.lock:
            _STRICT.inside -= 1
            if not _STRICT.inside:
                _STRICT.scope.close()


@dataclass
class _Strict:
    """Scopes of `strict_pillow` that are open."""

    lock: Lock = field(default_factory=Lock)
    scope: ExitStack = field(default_factory=ExitStack)
    inside: int = 0


_STRICT = _Strict()


def fit(image: Image.Image, frame: Frame) -> Image.Image:
    """The picture in the frame's size and mode; one that has both already keeps its pixels bit for bit."""
    if _is_small(image, frame):
        return _fitted(image, frame)
    pixels = np.empty((*frame.size, 3), np.uint8)
    fit_into(image, frame, pixels)
    return Image.fromarray(pixels)


def fit_into(image: Image.Image, frame: Frame, out: npt.NDArray[np.uint8]) -> None:
    """`out`, H W C and contiguous, filled with the picture as `fit` brings it into the frame."""
    if _is_small(image, frame):
        out[...] = np.asarray(_fitted(image, frame)).reshape(out.shape)
        return
    pixels = _colours(image, _fraction(image, frame))
    if frame.crop == 1.0 and pixels.shape == out.shape:
        out[...] = pixels
        return
    left, top, right, bottom = _box(pixels.shape[1], pixels.shape[0], frame)
    width, height = max(round(right - left), 1), max(round(bottom - top), 1)
    left, top = (pixels.shape[1] - width) // 2, (pixels.shape[0] - height) // 2
    resize_into(pixels[top : top + height, left : left + width], out)


def _is_small(image: Image.Image, frame: Frame) -> bool:
    """Whether Pillow alone is used: for grey, and where the way into an array and back would take longer than its resizing."""
    return frame.channels == 1 or image.width * image.height < LARGE


def _fitted(image: Image.Image, frame: Frame) -> Image.Image:
    _shrink(image, _fraction(image, frame))
    image = eight_bit(upright(image), frame.channels)
    height, width = frame.size
    if image.size == (width, height) and frame.crop == 1.0:
        return image
    box = _box(image.width, image.height, frame)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)


def _colours(image: Image.Image, fraction: int) -> npt.NDArray[np.uint8]:
    """Pixels, H W 3, of a picture that may be decoded at 1 / `fraction` of its size."""
    if isinstance(image, JpegImageFile) and _orientation(image) == 1:
        pixels = jpeg_pixels(image, fraction)
        if pixels is not None:
            return pixels
    _shrink(image, fraction)
    return np.array(eight_bit(upright(image), 3))


def _box(width: int, height: int, frame: Frame) -> tuple[float, float, float, float]:
    """The part of a picture that is kept: left, top, right, bottom."""
    scale = min(width / frame.size[1], height / frame.size[0]) * frame.crop
    left, top = (width - frame.size[1] * scale) / 2, (height - frame.size[0] * scale) / 2
    return max(left, 0.0), max(top, 0.0), min(left + frame.size[1] * scale, width), min(top + frame.size[0] * scale, height)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation asks; the same object where it asks nothing."""
    image.load()
    if any(key in image.info for key in _EXIF_KEYS):
        return ImageOps.exif_transpose(image)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after turning, from the header alone."""
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """The picture as "L" (1 channel) or "RGB" (3 channels); ValueError where the pixel values have no 8-bit meaning."""
    target = "L" if channels == 1 else "RGB"
    if image.mode == target and "transparency" not in image.info:
        return image
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = _on_white(image)
    elif image.mode == "F" or image.mode.startswith("I"):
        image = _from_deep(image)
    elif image.mode == "P":
        image = image.convert("RGB")
    return image if image.mode == target else image.convert(target)


def is_grey(image: Image.Image) -> bool:
    """Whether one channel holds all there is in the picture."""
    if image.mode in GREY_MODES and "transparency" not in image.info:
        return True
    pixels = np.asarray(eight_bit(image, 3))
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())


def reason(error: BaseException) -> str:
    """One short phrase that tells a person why a picture cannot be read."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, FileNotFoundError):
        return "file is missing"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    text = (str(error).splitlines() or [""])[0]
    if any(word in text.lower() for word in ("truncated", "broken data stream", "unexpected end", "image incomplete")):
        return "cut short"
    return text or type(error).__name__


def shrink_on_load(image: Image.Image, smallest: tuple[int, int]) -> None:
    """Nothing; a JPEG that is not loaded yet will be decoded at a fraction of its size, no smaller than (width, height)."""
    if image.format in _JPEG and isinstance(image, ImageFile.ImageFile):
        image.draft(None, smallest)


def _orientation(image: Image.Image) -> int:
    """EXIF's, from 1 (as it is) to 8; anything else counts as 1."""
    told = image.getexif().get(_ORIENTATION) if any(key in image.info for key in _EXIF_KEYS) else 1
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _fraction(image: Image.Image, frame: Frame) -> int:
    """1, 2, 4 or 8: the part of its size at which a JPEG may be decoded for this frame."""
    if image.format not in _JPEG:
        return 1
    height, width = upright_size(image)
    scale = min(width / frame.size[1], height / frame.size[0]) * frame.crop / _DRAFT_GAP
    return next((fraction for fraction in (8, 4, 2) if scale > fraction), 1)


def _shrink(image: Image.Image, fraction: int) -> None:
    if fraction > 1:
        shrink_on_load(image, (image.width // fraction, image.height // fraction))


def _on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey 8-bit of 16-bit whole numbers (0..65535) or of floats (0..1, else 0..65535)."""
    pixels = np.asarray(image).astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 65535):
        raise ValueError(f"pixel values from {low:g} to {high:g} do not fit 16 bits")
    scale = 255.0 if image.mode == "F" and high <= 1 else 1 / 257
    return Image.fromarray(np.rint(pixels * scale).astype(np.uint8))
