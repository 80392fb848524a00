"""Every kind of picture a person may have, brought to one frame."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.data import Frame, Lazy, Problem, Records, decode, fit, look, screen
from residual.data.picture import strict_pillow
from residual.data.records import FileStore


def records(folder: Path, labels: list[int] | None = None) -> Records:
    files = tuple(sorted(path.name for path in folder.iterdir()))
    rows = np.arange(len(files))
    return Records(store=FileStore(root=str(folder), files=files), rows=rows, labels=np.asarray(labels or [0] * len(files)))


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def one(image: Image.Image, channels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    return np.asarray(fit(image, Frame(size=size or (image.height, image.width), channels=channels)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_the_frames_size_keeps_every_bit(tmp_path: Path, channels: int) -> None:
    pixels = noise(13, 17, channels)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(tmp_path / "a.png")
    images = decode(records(tmp_path), Frame(size=(13, 17), channels=channels)).images
    np.testing.assert_array_equal(images[0], pixels)


def test_many_pictures_keep_their_places_with_and_without_threads(tmp_path: Path) -> None:
    for k in range(40):
        Image.new("RGB", (150, 130), (k, 2 * k, 255 - k)).save(tmp_path / f"{k:02}.png")
    frame = Frame(size=(130, 150), channels=3)
    calls: list[tuple[int, int]] = []
    plain = decode(records(tmp_path), frame, progress=lambda done, total: calls.append((done, total)))
    threads = decode(records(tmp_path), frame, workers=3)
    assert plain.images[:, 0, 0, 1].tolist() == [2 * k for k in range(40)]
    np.testing.assert_array_equal(plain.images, threads.images)
    assert calls[-1] == (40, 40)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (4, 4), (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (200, 10, 0, 255)), (200, 10, 0)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 0, 0, 255)), (0, 0, 0)),
        (Image.new("I", (4, 4), 257 * 90), (90, 90, 90)),
        (Image.new("F", (4, 4), 0.2), (51, 51, 51)),
        (Image.new("F", (4, 4), 257.0 * 33), (33, 33, 33)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 257 * 7 + 130, np.uint16)), (8, 8, 8)),
    ],
)
def test_modes(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert tuple(one(image, 3)[1, 1]) == expected


def test_sixteen_bit_png_is_scaled_and_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    found = decode(records(tmp_path), Frame(size=(8, 8), channels=1)).images[0, ..., 0]
    np.testing.assert_array_equal(found, np.rint(ramp / 257))


def test_palette_with_a_transparent_entry_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "a.png", transparency=0)
    found = decode(records(tmp_path), Frame(size=(4, 4), channels=3)).images[0]
    assert tuple(found[0, 0]) == (255, 255, 255)
    assert tuple(found[2, 2]) == (10, 20, 30)


def test_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    image.putpixel((0, 0), (1, 2, 3))
    image.save(tmp_path / "a.png", transparency=(10, 20, 30))
    found = decode(records(tmp_path), Frame(size=(4, 4), channels=3)).images[0]
    assert tuple(found[0, 0]) == (1, 2, 3)
    assert tuple(found[2, 2]) == (255, 255, 255)


def test_a_jpeg_decoded_small_keeps_its_detail() -> None:
    detail = Image.fromarray(noise(160, 160, 3)).resize((640, 640), Image.Resampling.NEAREST)
    large, small = io.BytesIO(), Frame(size=(160, 160), channels=3)
    detail.save(large, "JPEG", quality=98, subsampling=0)
    found = np.asarray(fit(Image.open(large), small)).astype(int)
    assert np.abs(found - np.asarray(fit(detail, small))).mean() < 8


def test_colour_to_grey_is_luma_and_grey_to_colour_repeats() -> None:
    assert one(Image.new("RGB", (2, 2), (0, 255, 0)), 1)[0, 0] == 150
    assert tuple(one(Image.new("L", (2, 2), 77), 3)[0, 0]) == (77, 77, 77)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_once(tmp_path: Path, kind: str) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise: left becomes top
    Image.fromarray(pixels).save(tmp_path / f"a.{kind}", exif=exif)
    assert look(records(tmp_path)).size == (32, 16)
    found = decode(records(tmp_path), Frame(size=(32, 16), channels=3)).images[0]
    assert found[4, 8, 0] > 200
    assert found[28, 8, 0] < 50


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_the_first_frame_of_an_animation(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], lossless=True)
    found = decode(records(tmp_path), Frame(size=(8, 8), channels=3)).images[0, 4, 4]
    assert found[0] > 240
    assert found[2] < 15


def test_the_centre_is_cut_and_proportions_are_kept() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    assert one(Image.fromarray(pixels), 3, (10, 10)).min() == 255
    smaller = one(Image.fromarray(pixels), 3, (5, 5))
    assert smaller[:, 1:4].min() == 255
    assert smaller.min() > 200  # antialiasing reaches a little over the edge of the cut


def test_crop_keeps_the_stated_share() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[4:12, 4:12] = 255
    frame = Frame(size=(16, 16), channels=3, crop=0.5)
    assert np.asarray(fit(Image.fromarray(pixels), frame))[2:14, 2:14].min() == 255


def test_shrinking_is_antialiased_and_a_large_jpeg_agrees_with_its_png(tmp_path: Path) -> None:
    pixels = np.indices((1024, 1280)).sum(axis=0) % 2 * 255
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    found = decode(records(tmp_path), Frame(size=(32, 40), channels=1)).images
    assert abs(found.astype(int) - 127).max() <= 2
    smooth = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)).resize((1280, 960))
    large, small = io.BytesIO(), Frame(size=(96, 96), channels=3)
    smooth.save(large, "JPEG", quality=95)
    jpeg = np.asarray(fit(Image.open(large), small)).astype(int)
    assert np.abs(jpeg - np.asarray(fit(smooth, small))).mean() < 1.5


def broken(folder: Path) -> None:
    good = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(good, "JPEG")
    flat = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(flat, "PNG")
    for k in range(6):
        (folder / f"good{k}.jpg").write_bytes(good.getvalue())
    (folder / "cut.jpg").write_bytes(good.getvalue()[: len(good.getvalue()) // 2])
    (folder / "cut.png").write_bytes(flat.getvalue()[: len(flat.getvalue()) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not a picture")
    (folder / "trailing.jpg").write_bytes(good.getvalue() + b"camera notes" * 1000)


REASONS = {"cut.jpg": "cut short", "cut.png": "cut short", "empty.jpg": "empty file", "text.png": "not a picture"}


def named(problems: tuple[Problem, ...]) -> dict[str, str]:
    return {Path(problem.file).name: problem.reason for problem in problems}


def test_broken_files_are_left_out_and_named(tmp_path: Path) -> None:
    broken(tmp_path)
    everything = records(tmp_path, [k % 2 for k in range(11)])
    decoded = decode(everything, Frame(size=(64, 64), channels=3))
    assert decoded.labels.tolist() == [int(k) % 2 for k in decoded.kept]
    assert named(decoded.problems) == REASONS
    assert [Path(name).name for name in decoded.names] == [*(f"good{k}.jpg" for k in range(6)), "trailing.jpg"]
    assert len(decoded.images) == len(decoded.labels) == len(decoded.kept) == 7
    assert all((image == decoded.images[0]).all() for image in decoded.images)
    assert decoded.names == [everything.name(int(index)) for index in decoded.kept]


def test_screen_names_the_same_files_as_decoding(tmp_path: Path) -> None:
    broken(tmp_path)
    assert named(screen(records(tmp_path))) == REASONS
    assert named(screen(records(tmp_path), workers=2)) == REASONS


def test_lazy_gives_the_picture_or_the_problem(tmp_path: Path) -> None:
    broken(tmp_path)
    frame = Frame(size=(48, 40), channels=1)
    lazy, decoded = Lazy(records=records(tmp_path), frame=frame), decode(records(tmp_path), frame)
    read = [lazy.read(index) for index in range(len(lazy))]
    assert named(tuple(one for one in read if isinstance(one, Problem))) == REASONS
    np.testing.assert_array_equal(np.stack([one for one in read if not isinstance(one, Problem)]), decoded.images)


def test_oversized_pictures_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        Image.new("L", (10, 10)).save(tmp_path / f"small{k}.png")
    Image.new("L", (60, 50)).save(tmp_path / "warned.png")
    Image.new("L", (100, 100)).save(tmp_path / "z.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    decoded = decode(records(tmp_path), Frame(size=(10, 10), channels=1))
    assert named(decoded.problems) == {"warned.png": "more than 2,000 pixels", "z.png": "more than 2,000 pixels"}


def test_too_many_losses_are_refused(tmp_path: Path) -> None:
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_text("no")
    with pytest.raises(ValueError, match=r"2 of 3 pictures cannot be read; the first is .*b\.png \(not a picture\)"):
        decode(records(tmp_path), Frame(size=(10, 10), channels=1))
    for name in ("d.png", "e.png", "f.png"):
        Image.new("L", (10, 10)).save(tmp_path / name)
    with pytest.raises(ValueError, match=r"Not one picture of the class of .*b\.png"):
        decode(records(tmp_path, [0, 1, 1, 0, 0, 0]), Frame(size=(10, 10), channels=1))


def test_one_picture_raises_a_short_reason(tmp_path: Path) -> None:
    broken(tmp_path)
    everything = records(tmp_path)
    for index in range(3):
        with pytest.raises((OSError, ValueError)):
            everything.picture(index)
    assert everything.picture(3).size == (64, 64)


def test_look_counts_grey_files_as_grey_and_one_colour_pixel_as_colour(tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(np.repeat(noise(20 + k, 30, 1), 3, axis=2)).save(tmp_path / f"{k}.png")
    (tmp_path / "x.png").write_text("no")
    seen = look(records(tmp_path))
    assert (seen.channels, seen.size, seen.smallest, seen.largest) == (1, (21, 30), (20, 30), (22, 30))
    assert seen.formats == {"PNG": 3}
    Image.fromarray(noise(21, 30)).save(tmp_path / "4.png")
    assert look(records(tmp_path)).channels == 3


def test_frames_are_checked() -> None:
    for size, channels in (((0, 4), 3), ((4, 4), 2)):
        with pytest.raises(ValueError, match="frame"):
            Frame(size=size, channels=channels)


def test_scopes_of_several_threads_end_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to end leaves the others theirs, and the last one gives back what was before."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    file = io.BytesIO()
    Image.new("L", (9, 9)).save(file, "PNG")  # 81 pixels: a warning, and no error of Pillow's own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, first, second = list(warnings.filters), strict_pillow(), strict_pillow()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        with pytest.raises(Image.DecompressionBombWarning):
            Image.open(file)
        second.__exit__(None, None, None)
        assert warnings.filters == before
        Image.open(file)
