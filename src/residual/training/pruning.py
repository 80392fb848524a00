"""Data pruning: an epoch leaves out some of the pictures that the network finds easy, and lets the others of them weigh more for it.

InfoBatch: Qin et al. 2024, arXiv:2303.04947, section 2, without the whole epochs at the end, which a time budget need not hold. There an
easy picture that is kept weighs what it stands for, 1 / (1 - share); here the root of it, which taught more (docs/performance.md, "Easy
pictures left out from the beginning").
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(kw_only=True)
class Pruning:
    """What a training knows of its N pictures, on its device.

    Attributes:
        losses: N float32, the loss of each when it was last trained on; before, what was guessed, or infinite.
        weights: N float32, for how many pictures each stands in the present epoch; 0 where it is left out.
    """

    losses: Tensor
    weights: Tensor

    def draw(self, share: float, key: int) -> None:
        """Another epoch: of the pictures whose loss was below the mean, `share` are left out, drawn by `key`."""
        known = self.losses.isfinite()
        low = known & (self.losses < self.losses[known].mean())
        coin = torch.rand(len(self.losses), generator=torch.Generator().manual_seed(key)).to(self.losses.device)
        self.weights = torch.ones_like(self.losses)
        self.weights[low] = 1 / (1 - share)
        self.weights[low & (coin < share)] = 0
        if (self.weights > 0).sum() < 2:  # batch norm cannot take a picture alone
            self.weights = torch.ones_like(self.losses)

    def note(self, index: Tensor, losses: Tensor) -> None:
        """Keeps the losses of the pictures at `index` for the next draw."""
        self.losses[index] = losses.detach()


def unpruned(count: int, device: torch.device) -> Pruning:
    """Of `count` pictures none of which was trained on yet: unless losses are guessed, the first epoch is whole."""
    return Pruning(losses=torch.full((count,), torch.inf, device=device), weights=torch.ones(count, device=device))
