"""Augmentation of a whole batch by a few tensor operations, on whatever device it lies.

Everything is drawn from torch's global stream, which the loop seeds anew for each step from (seed, epoch, step).
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from residual.recipe import Recipe

# Eigenvalues and eigenvectors of ImageNet's RGB covariance: Krizhevsky et al. 2012, section 4.1; numbers as in fb.resnet.torch.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

Targets = tuple[Tensor, Tensor, float]  # labels, labels of the pictures mixed in, share of the first


def augment(x: Tensor, recipe: Recipe, size: tuple[int, int], flipped: Tensor | None = None) -> Tensor:
    """N C H W normalised pictures -> N C *size, each changed at random as `recipe` says.

    `flipped` (N, bool) says which pictures are mirrored; None draws it where the recipe wants random flips.
    """
    if recipe.flip == "random" and flipped is None:
        flipped = torch.rand(len(x), device=x.device) < 0.5
    if flipped is not None:
        x = torch.where(flipped[:, None, None, None], x.flip(3), x)
    if recipe.crop_scale != (1.0, 1.0):
        x = resized_crop(x, size, recipe.crop_scale, recipe.crop_ratio)
    elif recipe.crop_padding or tuple(x.shape[2:]) != size:
        x = shifted(x, size, recipe.crop_padding, recipe.crop_mode)
    if recipe.erasing:
        x = erased(x, recipe.erasing)
    return x


def shifted(x: Tensor, size: tuple[int, int], padding: int, mode: str) -> Tensor:
    """A window of `size` at a random place of each picture padded by `padding` pixels on every side ("zero" or "reflect")."""
    if padding:
        if mode == "reflect":
            mode = "reflect" if padding < min(x.shape[2:]) else "replicate"
        x = F.pad(x, (padding,) * 4, mode="constant" if mode == "zero" else mode)
    rows = torch.randint(x.shape[2] - size[0] + 1, (len(x),), device=x.device)
    columns = torch.randint(x.shape[3] - size[1] + 1, (len(x),), device=x.device)
    windows = x.permute(0, 2, 3, 1).unfold(1, size[0], 1).unfold(2, size[1], 1)  # N places places C H W, a view
    cut = windows[torch.arange(len(x), device=x.device), rows, columns]
    return cut.contiguous(memory_format=torch.channels_last)


def resized_crop(x: Tensor, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """A rectangle of random area, width / height and place of each picture, brought to `size` (bilinear). Szegedy et al. 2015, section 6.

    Where no such rectangle fits, its longer side is cut to the picture's.
    """
    n, device = len(x), x.device
    area = torch.empty(n, device=device).uniform_(*scale)
    aspect = torch.empty(n, device=device).uniform_(*(torch.tensor(ratio).log().tolist())).exp() * (x.shape[2] / x.shape[3])
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(n, 2, 3, device=device)  # maps [-1, 1] of the result into [-1, 1] of the picture
    theta[:, 0, 0], theta[:, 1, 1] = width, height
    theta[:, 0, 2] = (torch.rand(n, device=device) * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (torch.rand(n, device=device) * 2 - 1) * (1 - height)
    grid = F.affine_grid(theta, [n, x.shape[1], *size], align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="reflection", align_corners=False)


def erased(x: Tensor, probability: float) -> Tensor:
    """Zeros (the mean pixel) in a rectangle of 2 to 33 % of the area, in each picture with `probability`. Zhong et al. 2017, section 3."""
    n, _, height, width = x.shape
    area = torch.empty(n, device=x.device).uniform_(0.02, 0.33)
    aspect = torch.empty(n, device=x.device).uniform_(*(torch.tensor((0.3, 1 / 0.3)).log().tolist())).exp()
    tall, wide = (area * aspect).sqrt().clamp(max=1) * height, (area / aspect).sqrt().clamp(max=1) * width
    top, left = torch.rand(n, device=x.device) * (height - tall), torch.rand(n, device=x.device) * (width - wide)
    rows = torch.arange(height, device=x.device)[None] + 0.5
    columns = torch.arange(width, device=x.device)[None] + 0.5
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    chosen = torch.rand(n, device=x.device) < probability
    mask = in_rows[:, None, :, None] & in_columns[:, None, None, :] & chosen[:, None, None, None]
    return x.masked_fill(mask, 0.0)


def colour_noise(n: int, deviation: float, device: torch.device) -> Tensor:
    """N 3 1 1 shifts of RGB in [0, 1] along ImageNet's principal colours. Krizhevsky et al. 2012, section 4.1."""
    values, vectors = _principal_colours(device)
    return (torch.randn(n, 3, device=device) * deviation * values @ vectors.T)[:, :, None, None]


@cache
def _principal_colours(device: torch.device) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, brought to a device once, because bringing them waits for all that it does."""
    return torch.tensor(_EIGENVALUES, device=device), torch.tensor(_EIGENVECTORS, device=device)


def mixed(x: Tensor, labels: Tensor, recipe: Recipe) -> tuple[Tensor, Targets]:
    """The batch mixed with a shuffled copy of itself by mixup or CutMix, one share for the whole batch, as in both papers.

    Source: Zhang et al. 2018, arXiv:1710.09412, equation 1; Yun et al. 2019, arXiv:1905.04899, equations 1 and 2.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(recipe, kind)]
    if not kinds:
        return x, (labels, labels, 1.0)
    kind = kinds[int(torch.randint(len(kinds), ()))]
    alpha = recipe.mixup if kind == "mixup" else recipe.cutmix
    gammas = torch._standard_gamma(torch.tensor([alpha, alpha]))
    share = float(gammas[0] / gammas.sum())
    other = torch.randperm(len(x), device=x.device)
    if kind == "mixup":
        return x * share + x[other] * (1 - share), (labels, labels[other], share)
    height, width = x.shape[2:]
    side = (1 - share) ** 0.5
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    top, bottom = (round(min(max(row + s * side * height / 2, 0), height)) for s in (-1, 1))
    left, right = (round(min(max(column + s * side * width / 2, 0), width)) for s in (-1, 1))
    x = x.clone()
    x[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
    return x, (labels, labels[other], 1 - (bottom - top) * (right - left) / (height * width))
