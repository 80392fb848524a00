"""torchvision's and timm's own networks, to be compared with.

torchvision's PyPI build holds operators for one build of torch only, and will not import beside another one. Its networks are plain Python:
with the two operators defined that its import looks up, it imports.
"""

import importlib
from functools import cache
from types import ModuleType

import pytest
import torch


@cache
def _stubs() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _imported(name: str) -> ModuleType:
    pytest.importorskip(name.partition(".")[0], reason=f"{name} is an oracle that `make test` installs", exc_type=ImportError)
    return importlib.import_module(name)


@cache
def torchvision_models() -> ModuleType:
    """The module torchvision.models."""
    try:
        torch.ops.torchvision.nms  # noqa: B018
    except AttributeError:
        _stubs()
    return _imported("torchvision.models")


@cache
def timm() -> ModuleType:
    """The module timm."""
    torchvision_models()
    return _imported("timm")
