"""Pictures on the page: what the map marks is bright, filters keep their signs, and what is missing costs its part only."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from residual.architecture import Architecture
from residual.plan import plan
from residual.report import write_report
from residual.report.pictures import data_uri, filters, kept, look_uri, looks
from residual.study.attention import attention
from residual.weights import initialise
from tests.report.conftest import made_run
from tests.report.test_page import text

SMALL = Architecture(depths=(1,), inner_widths=(4,), out_widths=(4,), strides=(1,), stem="cifar", stem_width=4, num_classes=3)


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"), np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("runs") / "run")


def test_the_hot_place_is_bright_and_the_rest_dark() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[1, 6] = 0.02
    shown = pixels(look_uri(np.full((32, 32, 3), 100, np.uint8), heat)).sum(2)
    assert shown.shape == (128, 128)
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert abs(row - 24) <= 8
    assert abs(column - 104) <= 8
    assert shown[100, 20] < shown.max() / 3


@pytest.mark.parametrize("size", [(400, 300, 3), (32, 20, 1), (8, 8, 3)])
def test_a_map_without_anything_is_dark_and_sizes_fit(size) -> None:
    shown = pixels(look_uri(np.full(size, 200, np.uint8), np.zeros((3, 3), np.float32)))
    assert shown.max() < 110
    assert max(shown.shape) <= 224
    assert shown.shape[0] / shown.shape[1] == pytest.approx(size[0] / size[1], rel=0.02)


def test_small_pictures_keep_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(data_uri(image)), image)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    assert len(data_uri(noise)) < 60_000


def test_filters_keep_sign_and_colour() -> None:
    network = plan(SMALL)
    weights = initialise(network)
    weights["conv1.weight"][:] = 0
    weights["conv1.weight"][0, 0, 1, 2] = 5  # red, in the middle of the right edge
    weights["conv1.weight"][1, 2, 0, 0] = -0.01
    first, second, third, _ = (pixels(uri) for uri in filters(network, weights))
    assert first[1, 2].tolist() == [255, 128, 128]
    assert second[0, 0].tolist() == [128, 128, 0]
    assert np.unique(third).tolist() == [128]
    assert len(filters(plan(SMALL), weights)) == 4


def test_the_page_shows_where_it_looked_for_what_it_said(run) -> None:
    """The map is that of the class the network said, and not of the true one."""
    found, saved = kept(run.folder / "evaluation-test.npz", "worst"), run.saved()
    maps = looks(saved, found.images, found.guesses)
    prepared = saved.preprocessing.normalise(found.images)
    np.testing.assert_array_equal(maps, attention(plan(saved.architecture), saved.weights, prepared, found.guesses.tolist()))
    assert (found.guesses != found.labels).all()
    assert not np.allclose(maps, attention(plan(saved.architecture), saved.weights, prepared, found.labels.tolist()))
    content = write_report([run]).read_text()
    assert content.count('class="look"') == content.count('<div class="pair">') > len(found.images)
    assert look_uri(found.images[0], maps[0]) in content
    assert "Grad-CAM (Selvaraju et al. 2017) of the class it was called" in text(run.folder / "report.html")


def test_a_run_without_its_model_has_pictures_without_maps(tmp_path) -> None:
    run = made_run(tmp_path / "old")
    (run.folder / "model.safetensors").unlink()
    content = write_report([run]).read_text()
    assert '<div class="pair">' in content
    assert 'class="look"' not in content
    assert "Grad-CAM" not in content
    assert "Filters of the first layer" not in content


def test_pictures_of_another_size_get_no_map(run) -> None:
    found = kept(run.folder / "evaluation-test.npz", "best")
    assert looks(run.saved(), found.images[:, :7], found.guesses) is None
