"""Nets of other libraries with no tensor at its first value, and what they compute; shared by the tests of the formats."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import residual
from residual.conversion import Found
from residual.conversion.formats import read
from residual.weights import SavedModel
from tests.nets import random_weights


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` in evaluation mode, batch norm's numbers random and all signals of a size that shows differences."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5, generator=stream)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(0, 0.2, generator=stream)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=stream)
                if module.bias is not None:
                    module.bias.normal_(0, 0.2, generator=stream)
    return model.eval()


def pictures(channels: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).standard_normal((2, channels, height, width), np.float32))


def saved_of(arch: Any) -> SavedModel:
    return SavedModel(architecture=arch, weights=random_weights(residual.plan(arch)))


def logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        found = model(images)
    return found if isinstance(found, Tensor) else found.logits  # type: ignore[no-any-return]


def assert_alike(found: Tensor, wanted: Tensor) -> None:
    """Equal to 1e-4 of the largest logit, on logits that differ from each other."""
    assert wanted.std() > 1e-2
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def assert_reads(path: Path, theirs: nn.Module, *, channels: int = 3, sides: tuple[tuple[int, int], ...] = ((64, 64), (65, 63))) -> Found:
    """What `read` finds, once our net with it computes what theirs does, on even and on odd sides; `residual.load` gives the same net."""
    found = read(path)
    ours = residual.load(path)
    for height, width in sides:
        images = pictures(channels, height, width)
        assert_alike(logits(ours, images), logits(theirs, images))
    assert ours.plan.architecture == found.architecture
    return found
