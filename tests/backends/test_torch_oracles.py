"""torchvision's and timm's networks hold the same tensors under the same names, and compute the same function."""

from types import ModuleType

import pytest
import torch
from torch import nn

from residual.backends import torch as backend
from residual.plan import plan
from residual.variants import VARIANTS
from tests.nets import images, random_weights
from tests.oracles import timm, torchvision_models

TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d",
    "resnext101_32x8d",
)  # fmt: skip
TIMM = {"resnet50c": "resnet50c", "resnet50d": "resnet50d", "se_resnet50": "seresnet50", "resnet18": "resnet18"}


def _assert_same(name: str, theirs: nn.Module, height: int, width: int) -> None:
    """Strict loading both ways; equal logits, with random statistics in ours first and in theirs after."""
    network = plan(VARIANTS[name])
    ours, theirs = backend.build(network, weights=random_weights(network)), theirs.eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.from_numpy(images(network, height, width))
    with torch.inference_mode():
        wanted = theirs(x)
        found = ours(x)
    assert wanted.std() > 1e-3
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    with torch.no_grad():
        for tensor in ours.state_dict().values():
            tensor.zero_()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(ours(x), found)


@pytest.fixture(scope="module")
def models() -> ModuleType:
    return torchvision_models()


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(models: ModuleType, name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(models, name)()
    _assert_same(name, theirs.to_empty(device="cpu"), 65, 64)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    _assert_same(name, timm().create_model(TIMM[name], pretrained=False), 64, 65)


def test_torchvision_counts_what_the_table_says(models: ModuleType) -> None:
    from tests.test_variants import TORCHVISION as TABLE

    for name, (parameters, operations) in TABLE.items():
        meta = models.get_model_weights(name).IMAGENET1K_V1.meta
        assert (meta["num_params"], meta["_ops"]) == (parameters, operations)
