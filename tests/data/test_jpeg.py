"""JPEG files of every kind by libjpeg-turbo's own interface: Pillow's pixels, and Pillow's word where it does not take them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from residual.data import Frame, Lazy, Problem, Records, fit, picture
from residual.data import jpeg as jpeg_module
from residual.data.jpeg import jpeg_pixels
from residual.data.records import FileStore
from tests.data.makers import pixels

PHOTO = Image.fromarray(pixels(3, 301, 398))
FRAME = Frame(size=(96, 96), channels=3, crop=0.875)


def file(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def opened(content: bytes) -> JpegImageFile:
    image = Image.open(io.BytesIO(content))
    assert isinstance(image, JpegImageFile)
    return image


KINDS = {
    "4:2:0": file(PHOTO, quality=90),
    "4:2:2": file(PHOTO, subsampling=1),
    "4:4:4": file(PHOTO, subsampling=0),
    "progressive": file(PHOTO, progressive=True),
    "RGB": file(PHOTO, keep_rgb=True),
    "grey": file(PHOTO.convert("L")),
    "restarts": file(PHOTO, restart_marker_blocks=7),
    "resolution": file(PHOTO, dpi=(300, 300), comment=b"a note"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [1, 2, 4, 8])
def test_they_are_pillows_pixels(kind: str, fraction: int) -> None:
    found = jpeg_pixels(opened(KINDS[kind]), fraction)
    image = opened(KINDS[kind])
    if fraction > 1:
        image.draft(None, (image.width // fraction, image.height // fraction))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("size", "crop", "fraction"),
    [
        ((380, 280), 1.0, 1),
        ((384, 288), 1.0, 1),
        ((388, 291), 1.0, 2),
        ((375, 500), 0.75, 1),
        ((1200, 900), 0.875, 4),
        ((4000, 3000), 1.0, 8),
    ],
)
def test_a_file_is_decoded_no_smaller_than_half_as_large_again_as_needed(size: tuple[int, int], crop: float, fraction: int) -> None:
    frame, content = Frame(size=(96, 96), channels=3, crop=crop), file(Image.new("RGB", size))
    assert picture._fraction(opened(content), frame) == fraction
    assert picture._fraction(Image.new("RGB", size), frame) == 1


def test_pillow_is_asked_for_what_the_decoder_does_not_take() -> None:
    loaded, elsewhere = opened(KINDS["4:2:0"]), opened(KINDS["4:2:0"])
    loaded.load()
    elsewhere.fp = io.BufferedReader(io.BytesIO(KINDS["4:2:0"]))
    cut = opened(KINDS["4:2:0"][: len(KINDS["4:2:0"]) // 2])
    inks = opened(file(PHOTO.convert("CMYK")))
    assert [jpeg_pixels(image, 1) for image in (loaded, elsewhere, cut, inks)] == [None] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_the_same_without_the_decoder(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.asarray(fit(opened(KINDS[kind]), FRAME))
    monkeypatch.setattr(jpeg_module, "_decoder", lambda: None)
    np.testing.assert_array_equal(found, np.asarray(fit(opened(KINDS[kind]), FRAME)))


def test_large_pictures_go_through_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[Any]()
    monkeypatch.setattr(picture, "jpeg_pixels", lambda *given: seen.append(jpeg_pixels(*given)) or seen[-1])
    fit(opened(KINDS["4:2:0"]), FRAME)
    fit(opened(file(Image.new("RGB", (90, 90)))), FRAME)
    assert [found.shape for found in seen] == [(301, 398, 3)]


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_is_none_counts_as_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file(PHOTO, quality=90, exif=exif)
    assert picture.upright_size(opened(content)) == (301, 398)
    np.testing.assert_array_equal(np.asarray(fit(opened(content), FRAME)), np.asarray(fit(opened(KINDS["4:2:0"]), FRAME)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_picture_is_turned(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = file(PHOTO, exif=exif, subsampling=0, quality=98)
    turned = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: np.swapaxes(x, 0, 1)}
    turned |= {6: lambda x: np.rot90(x, -1), 7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1), 8: np.rot90}
    wanted = np.asarray(fit(Image.fromarray(turned[orientation](np.asarray(PHOTO))), FRAME)).astype(int)
    assert np.abs(np.asarray(fit(opened(content), FRAME)) - wanted).mean() < 1.5


def test_a_large_picture_that_has_the_size_keeps_its_pixels() -> None:
    frame = Frame(size=(PHOTO.height, PHOTO.width), channels=3)
    np.testing.assert_array_equal(np.asarray(fit(opened(KINDS["4:2:0"]), frame)), np.asarray(opened(KINDS["4:2:0"])))
    np.testing.assert_array_equal(np.asarray(fit(PHOTO, frame)), np.asarray(PHOTO))


def test_files_that_are_broken_are_named_by_pillow(tmp_path: Path) -> None:
    good = KINDS["4:2:0"]
    middle = len(good) // 2
    contents = {"cut.jpg": good[:middle], "odd.jpg": good[:middle] + bytes(300) + good[middle + 300 :], "trailing.jpg": good + b"notes"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    rows = np.arange(3)
    lazy = Lazy(records=Records(store=FileStore(root=str(tmp_path), files=tuple(contents)), rows=rows, labels=rows), frame=FRAME)
    cut, odd, trailing = (lazy.read(index) for index in range(3))
    assert isinstance(cut, Problem)
    assert cut.reason == "cut short"
    assert not isinstance(odd, Problem), "Pillow shows what it can of a picture with a hole"
    np.testing.assert_array_equal(trailing, np.asarray(fit(opened(good), FRAME)))
