"""The losses that a linear classifier guesses before a network has seen a picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data import Decoded, Frame, Lazy, open_source
from residual.training.feed import Resident, Streamed
from residual.training.guess import _thinned, guessed_losses

CPU = torch.device("cpu")


def bars(count: int, side: int = 28, channels: int = 1) -> Decoded:
    """Two classes, a bright bar at the left or at the right, in noise; every seventh picture is labelled wrongly."""
    stream = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 2
    images = stream.integers(0, 120, (count, side, side, channels)).astype(np.uint8)
    for index, label in enumerate(labels):
        images[index, :, label * side // 2 : (label + 1) * side // 2] += 100
    labels[::7] = 1 - labels[::7]
    return Decoded(images=images, labels=labels, names=[str(i) for i in range(count)], problems=(), kept=np.arange(count))


def told(losses: torch.Tensor, wrong: torch.Tensor) -> bool:
    """Whether the losses part wrong labels from right ones, but for one in a hundred."""
    bound = losses[wrong].quantile(0.01)
    return bool(bound > losses.mean() and bound > losses[~wrong].quantile(0.99))


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (8, 1), (64, 3), (5, 1)])
def test_wrong_labels_have_the_highest_losses(side: int, channels: int) -> None:
    decoded = bars(3_000, side, channels)
    losses = guessed_losses(Resident(decoded, None, CPU), 2)
    assert losses.shape == (3_000,)
    assert told(losses, torch.arange(3_000) % 7 == 0)


def test_they_follow_the_pictures_of_the_feed_and_not_their_order_in_memory() -> None:
    decoded, chosen = bars(3_000), np.arange(2_999, 99, -1)
    assert told(guessed_losses(Resident(decoded, chosen, CPU), 2), torch.from_numpy(chosen % 7 == 0))


def test_it_is_fitted_to_pictures_of_the_whole_feed() -> None:
    """25,000 pictures sorted by class: a classifier fitted to the first 10,000 alone would know but one."""
    decoded = bars(25_000, 8)
    order = np.argsort(-decoded.labels, kind="stable")
    losses = guessed_losses(Resident(decoded, order, CPU), 2)
    assert (losses[torch.from_numpy(order % 7 != 0)] < losses.mean()).float().mean() > 0.95


def test_classes_that_come_in_turn_are_all_fitted() -> None:
    """Every second of 12,000 pictures is of one class."""
    decoded = bars(12_000, 8)
    assert told(guessed_losses(Resident(decoded, None, CPU), 2), torch.arange(12_000) % 7 == 0)


def test_what_there_was_no_time_for_is_not_easy() -> None:
    losses = guessed_losses(Resident(bars(1_200), None, CPU), 2, seconds=0.0)
    assert losses[:512].isfinite().all()
    assert losses[512:].isinf().all()


def test_every_so_many_pixels_one_is_taken() -> None:
    pictures = torch.arange(28 * 28, dtype=torch.int32).remainder(256).to(torch.uint8).reshape(1, 28, 28, 1)
    found = _thinned(pictures)
    assert found.shape == (1, 82)
    assert torch.equal(found[0, :9] * 255, pictures[0, 1, 1::3, 0].float())
    assert found[0, -1] == 1
    assert _thinned(torch.zeros(2, 10, 12, 3, dtype=torch.uint8)).shape == (2, 10 * 12 * 3 + 1)


def test_a_picture_that_cannot_be_read_is_not_easy(tmp_path: Path) -> None:
    decoded = bars(40, 16)
    for index, (image, label) in enumerate(zip(decoded.images, decoded.labels, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / str(label) / f"{index:02d}.png")
    (tmp_path / "0" / "03.png").write_bytes((tmp_path / "1" / "01.png").read_bytes()[:100])
    records = open_source(tmp_path).splits["train"]
    feed = Streamed(Lazy(records=records, frame=Frame(size=(16, 16), channels=1)), None, CPU, workers=2)
    losses = guessed_losses(feed, 2)
    assert [Path(records.names[index]).name for index in losses.isinf().nonzero()] == ["03.png"]
    assert losses[losses.isfinite()].max() < 20
