"""The batch augmentations, against hand-made answers and, where it has them, kornia."""

from dataclasses import replace

import pytest
import torch

from residual.recipe import Recipe
from residual.training.augment import augment, colour_noise, erased, mixed, resized_crop, shifted

PLAIN = Recipe(flip="none", mixup=0.0, cutmix=0.0)


def pictures(n: int = 8, channels: int = 3, height: int = 12, width: int = 10) -> torch.Tensor:
    return torch.arange(n * channels * height * width, dtype=torch.float32).reshape(n, channels, height, width)


def test_nothing_asked_changes_nothing() -> None:
    x = pictures()
    assert torch.equal(augment(x, PLAIN, (12, 10)), x)


def test_flip_mirrors_exactly_the_chosen_pictures() -> None:
    x, chosen = pictures(), torch.tensor([True, False] * 4)
    y = augment(x, PLAIN, (12, 10), flipped=chosen)
    assert torch.equal(y[~chosen], x[~chosen])
    assert torch.equal(y[chosen], x[chosen].flip(3))


def test_random_flip_mirrors_about_half() -> None:
    torch.manual_seed(0)
    x = pictures(400, 1, 2, 3)
    y = augment(x, replace(PLAIN, flip="random"), (2, 3))
    mirrored = sum(torch.equal(a, b.flip(2)) for a, b in zip(y, x, strict=True))
    assert 150 < mirrored < 250


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_shift_is_a_window_of_the_padded_picture(mode: str) -> None:
    torch.manual_seed(1)
    x = pictures(64)
    y = shifted(x, (12, 10), 2, mode)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="constant" if mode == "zero" else "reflect")
    places = set()
    for picture, result in zip(padded, y, strict=True):
        found = [(i, j) for i in range(5) for j in range(5) if torch.equal(picture[:, i : i + 12, j : j + 10], result)]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 15  # of 25: all places are reached, not one


def test_shift_without_padding_crops_a_larger_picture() -> None:
    assert shifted(pictures(), (8, 10), 0, "reflect").shape == (8, 3, 8, 10)


def test_whole_resized_crop_is_the_picture() -> None:
    x = torch.rand(4, 3, 16, 16)
    assert torch.allclose(resized_crop(x, (16, 16), (1.0, 1.0), (1.0, 1.0)), x, atol=1e-5)


def test_resized_crop_equals_kornia_on_the_same_box() -> None:
    kornia = pytest.importorskip("kornia", reason="kornia is the oracle of this test; `make test` installs it")
    torch.manual_seed(3)
    x = torch.rand(6, 3, 24, 32)
    state = torch.get_rng_state()
    y = resized_crop(x, (16, 20), (0.3, 0.6), (1.0, 1.0))
    torch.set_rng_state(state)
    area = torch.empty(6).uniform_(0.3, 0.6)
    aspect = torch.empty(6).uniform_(0.0, 0.0).exp() * (24 / 32)
    wide, tall = (area * aspect).sqrt() * 32, (area / aspect).sqrt() * 24
    left = (torch.rand(6) * 2 - 1) * (1 - wide / 32)
    top = (torch.rand(6) * 2 - 1) * (1 - tall / 24)
    # kornia counts pixel centres: a box of w pixels goes from its first centre to its last
    left, top = ((left + 1) * 32 - wide) / 2, ((top + 1) * 24 - tall) / 2
    sx, sy = wide / 20, tall / 16
    x0, y0 = left + sx / 2 - 0.5, top + sy / 2 - 0.5
    x1, y1 = left + wide - sx / 2 - 0.5, top + tall - sy / 2 - 0.5
    boxes = torch.stack([torch.stack(p, 1) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 1)
    inside = (x0 > 0) & (y0 > 0) & (x1 < 31) & (y1 < 23)
    expected = kornia.geometry.transform.crop_and_resize(x, boxes, (16, 20), align_corners=True)
    assert inside.any()
    assert torch.allclose(y[inside], expected[inside], atol=1e-4)


def test_resized_crop_keeps_area_and_ratio_in_range() -> None:
    """On a picture whose channels are its coordinates the crop's sides can be read off."""
    torch.manual_seed(0)
    side = 64
    line = (torch.arange(side) + 0.5) / side
    x = torch.stack([line[None].expand(side, side), line[:, None].expand(side, side)])[None].expand(200, 2, side, side)
    y = resized_crop(x, (side, side), (0.2, 0.5), (0.8, 1.25))
    wide = (y[:, 0, 0, -1] - y[:, 0, 0, 0]) * side / (side - 1)
    tall = (y[:, 1, -1, 0] - y[:, 1, 0, 0]) * side / (side - 1)
    area, ratio = wide * tall, wide / tall
    assert 0.17 < area.min() < 0.25
    assert 0.45 < area.max() < 0.53
    assert 0.77 < ratio.min() < 0.9
    assert 1.1 < ratio.max() < 1.3


def test_erasing_blanks_one_rectangle_of_the_stated_area() -> None:
    torch.manual_seed(0)
    x = torch.ones(500, 2, 32, 32)
    y = erased(x, 0.5)
    hit = (y == 0).flatten(1).any(1)
    assert 200 < hit.sum() < 300
    for picture in y[hit][:50]:
        mask = picture[0] == 0
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns)  # one full rectangle
        assert torch.equal(picture[0], picture[1])
    share = (y[hit] == 0).float().mean((1, 2, 3))
    assert share.max() < 0.36
    assert 0.1 < share.mean() < 0.2


def test_colour_noise_lies_in_the_principal_plane() -> None:
    torch.manual_seed(0)
    noise = colour_noise(20_000, 0.1, torch.device("cpu"))[:, :, 0, 0]
    covariance = noise.T @ noise / len(noise)
    largest = torch.linalg.eigvalsh(covariance)[-1]
    assert largest.sqrt() == pytest.approx(0.1 * 0.2175, rel=0.05)  # Krizhevsky et al. 2012: 0.1 times the first eigenvalue


def test_mixup_mixes_pictures_and_targets_alike() -> None:
    torch.manual_seed(0)
    x, labels = torch.eye(6).reshape(6, 1, 1, 6), torch.arange(6)
    y, (first, second, share) = mixed(x, labels, replace(PLAIN, mixup=1.0))
    expected = share * torch.eye(6)[first] + (1 - share) * torch.eye(6)[second]
    assert 0 < share < 1
    assert torch.allclose(y.flatten(1), expected)


def test_cutmix_share_is_the_area_that_stayed() -> None:
    torch.manual_seed(2)
    x = torch.arange(6.0).reshape(6, 1, 1, 1).expand(6, 1, 20, 30).clone()
    before = x.clone()
    y, (first, second, share) = mixed(x, torch.arange(6), replace(PLAIN, cutmix=1.0))
    for picture, a, b in zip(y, first, second, strict=True):
        own = (picture == a).float().mean()
        assert own == pytest.approx(1.0 if a == b else share)
        assert bool(((picture == a) | (picture == b)).all())
    assert torch.equal(x, before)


def test_without_mixing_the_batch_is_untouched() -> None:
    x, labels = pictures(), torch.arange(8)
    y, (first, second, share) = mixed(x, labels, PLAIN)
    assert y is x
    assert share == 1.0
    assert torch.equal(first, second)
