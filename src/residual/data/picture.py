"""One picture brought to one shape: any Pillow mode to 8-bit grey or colour, resized and centre-cropped.

The surprising thing: transparent pictures are laid on white, and 16-bit pixels are divided by 257 (Pillow's own conversion clips
them).
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_DRAFT_GAP = 1.5  # a JPEG is decoded at half, quarter or eighth size only while it stays 1.5 times larger than needed
_ORIENTATION = 0x0112


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
    _draft(image, frame)
    image = eight_bit(upright(image), frame.channels)
    height, width = frame.size
    if image.size == (width, height) and frame.crop == 1.0:
        return image
    scale = min(image.width / width, image.height / height) * frame.crop
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + width * scale, image.width), min(top + height * scale, image.height))
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation asks; the same object where it asks nothing."""
    image.load()
    if any(key in image.info for key in _EXIF_KEYS):
        return ImageOps.exif_transpose(image)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after turning, from the header alone."""
    turned = any(key in image.info for key in _EXIF_KEYS) and image.getexif().get(_ORIENTATION, 1) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


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
    if image.format in ("JPEG", "MPO") and isinstance(image, ImageFile.ImageFile):
        image.draft(None, smallest)


def _draft(image: Image.Image, frame: Frame) -> None:
    if image.format not in ("JPEG", "MPO"):
        return
    height, width = upright_size(image)
    scale = min(width / frame.size[1], height / frame.size[0]) * frame.crop / _DRAFT_GAP
    if scale >= 2:
        shrink_on_load(image, (int(image.width / scale) + 1, int(image.height / scale) + 1))


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
