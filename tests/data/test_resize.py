"""Large colour pictures are resized by PyTorch, to what Pillow would have made of them."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from residual.data import Frame, fit
from residual.data.resize import resize_into
from tests.data.makers import pixels

THREADS = """
import numpy as np, os, torch
torch.set_num_threads(4)
from residual.data.resize import resize_into
resize_into(np.ones((8, 8, 3), np.uint8), np.empty((4, 4, 3), np.uint8))
before = len(os.listdir("/proc/self/task"))
resize_into(np.ones((900, 900, 3), np.uint8)[7:807, 7:807], np.empty((600, 600, 3), np.uint8))
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.parametrize(
    ("size", "share"), [((96, 96), 0.01), ((224, 224), 0.01), ((301, 200), 0.01), ((640, 700), 0.01), ((7, 501), 0.25)]
)
def test_it_is_pillows_antialiased_bilinear_filter(size: tuple[int, int], share: float) -> None:
    """But for one of 255 here and there, more often where many pixels become one: it rounds its weights to 16 bits, Pillow to 22."""
    noise = np.random.default_rng(0).integers(0, 256, (301, 398, 3), np.uint8)
    for source in (noise, np.array(pixels(1, 301, 398)), noise[5:250, 9:300]):
        found = np.empty((*size, 3), np.uint8)
        resize_into(source, found)
        wanted = Image.fromarray(source).resize(size[::-1], Image.Resampling.BILINEAR)
        apart = np.abs(found.astype(int) - np.asarray(wanted))
        assert apart.max() <= 1
        assert (apart > 0).mean() < share


def test_a_pictures_cut_is_of_whole_pixels() -> None:
    source = pixels(2, 375, 500)
    found = np.asarray(fit(Image.fromarray(source), Frame(size=(224, 224), channels=3, crop=0.875))).astype(int)
    whole = np.asarray(Image.fromarray(source[23:351, 86:414]).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(found - whole).max() <= 1


def test_an_extreme_shape_keeps_a_pixel() -> None:
    thin = pixels(4, 1, 40_000)
    found = np.asarray(fit(Image.fromarray(thin), Frame(size=(8, 8), channels=3, crop=0.1)))
    assert (found == thin[0, 19_999]).all()


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted as Linux shows them")
def test_a_thread_resizes_alone() -> None:
    """PyTorch's threads would take the processor from those that decode, and wait in turns that use it up."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, env=environment, timeout=120, check=True)
    assert done.stdout.strip() == "0"
