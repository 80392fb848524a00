"""The mean over views is the mean, of the right views, and only of pictures that one view leaves open."""

from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from residual.preprocessing import Views
from residual.training.views import COST, SURE, looked

PICTURES = torch.rand(40, 2, 5, 6, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))


def answer(x: Tensor) -> Tensor:
    """A linear classifier that is sure of some pictures and not of others."""
    return 0.4 * x.flatten(1) @ WEIGHTS


def shift(x: Tensor, down: int, right: int) -> Tensor:
    """The picture seen one pixel further `down` or `right`, by index: what lies outside is the pixel of the edge."""
    rows = (torch.arange(x.shape[2]) + down).clamp(0, x.shape[2] - 1)
    columns = (torch.arange(x.shape[3]) + right).clamp(0, x.shape[3] - 1)
    return x[:, :, rows][:, :, :, columns]


def test_one_view_is_the_network_s_answer() -> None:
    assert torch.equal(looked(answer, PICTURES, "one"), answer(PICTURES))


def test_views_are_averaged_where_the_network_is_not_sure() -> None:
    first = torch.softmax(answer(PICTURES), 1)
    unsure = first.amax(1) < SURE
    assert 5 < unsure.sum() < 35
    shifted = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    wanted = {
        "mirrored": [PICTURES, PICTURES.flip(3)],
        "shifts": [PICTURES, *(shift(PICTURES, down, right) for down, right in shifted)],
        "both": [shift(shown, down, right) for shown in (PICTURES, PICTURES.flip(3)) for down, right in [(0, 0), *shifted]],
    }
    for views, shown in wanted.items():
        mean = torch.stack([torch.softmax(answer(x), 1) for x in shown]).mean(0)
        found = looked(answer, PICTURES, views)  # type: ignore[arg-type]  # a key of the table
        torch.testing.assert_close(torch.softmax(found, 1)[unsure], mean[unsure])
        assert not torch.allclose(mean[unsure], first[unsure], atol=1e-3)
        assert torch.equal(found[~unsure], answer(PICTURES)[~unsure])


def test_only_open_pictures_are_shown_again() -> None:
    seen = list[int]()

    def counted(x: Tensor) -> Tensor:
        seen.append(len(x))
        return answer(x)

    unsure = int((torch.softmax(answer(PICTURES), 1).amax(1) < SURE).sum())
    looked(counted, PICTURES, "shifts")
    assert unsure % 16
    assert seen == [40] + 4 * [unsure + 16 - unsure % 16]  # one of few sizes
    seen.clear()
    looked(counted, PICTURES[torch.softmax(answer(PICTURES), 1).amax(1) >= SURE], "shifts")
    assert seen == [40 - unsure]
    seen.clear()
    one = PICTURES[torch.softmax(answer(PICTURES), 1).amax(1) < SURE][:1]
    looked(counted, one, "both")
    assert seen == 10 * [1], "a single picture is not repeated"


def test_every_kind_of_views_has_its_cost() -> None:
    assert set(COST) == set(get_args(Views))


def test_the_loss_of_the_mean_is_finite() -> None:
    """Where every view gives a class no probability at all, its logarithm is minus infinity; the others stay as they are."""
    found = looked(lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3)), torch.full((len(x),), -200.0)], 1), PICTURES, "mirrored")
    assert torch.isfinite(found[:, :2]).all()
    assert float(F.cross_entropy(found, torch.zeros(40, dtype=torch.int64))) > 0
