"""Pictures become the numbers that were meant, and the description survives its file."""

from typing import Any

import numpy as np
import pytest

from residual.preprocessing import Preprocessing, preprocessing_from

COLOUR = Preprocessing(size=(2, 3), channels=3, mean=(0.1, 0.2, 0.4), std=(0.5, 1.0, 2.0), crop=0.875)


def test_normalise_by_hand() -> None:
    pictures = np.zeros((1, 2, 3, 3), np.uint8)
    pictures[0, 1, 2] = (255, 51, 102)
    found = COLOUR.normalise(pictures)
    assert found.shape == (1, 3, 2, 3)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found[0, :, 1, 2].tolist() == pytest.approx([1.8, 0.0, 0.0], abs=1e-6)
    assert found[0, :, 0, 0].tolist() == pytest.approx([-0.2, -0.2, -0.2], abs=1e-6)


def test_a_mean_for_each_pixel() -> None:
    mean = tuple(i / 10 for i in range(6))
    grey = Preprocessing(size=(2, 3), channels=1, mean=mean, std=(0.5,))
    found = grey.normalise(np.full((2, 2, 3, 1), 255, np.uint8))
    assert found[1, 0].ravel().tolist() == pytest.approx([(1 - m) * 2 for m in mean], abs=1e-6)


def test_there_and_back() -> None:
    assert preprocessing_from(COLOUR.as_dict()) == COLOUR


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": (0.1,)}, "3 channels has 1 means"),
        ({"std": (1.0, 1.0)}, "2 stds"),
        ({"std": (1.0, 1.0, 0.0)}, "above 0"),
        ({"std": (1.0, 1.0, float("nan"))}, "finite"),
        ({"size": (0, 3)}, "sizes start at 1"),
        ({"crop": 0.0}, "crop 0.0"),
        ({"crop": 1.5}, "crop 1.5"),
        ({"mean": None}, "preprocessing is incomplete"),
        ({"size": 5}, "preprocessing is incomplete"),
    ],
)
def test_wrong_values(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        preprocessing_from({**COLOUR.as_dict(), **changes})
