"""The other libraries themselves, where they are installed: they load what was written with their strictest check, and compute.

The surprising thing: an installed torchvision may not import beside a build of torch that is not its own, and transformers
not beside such a torchvision. Then they count as not installed.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.architecture import Architecture
from residual.conversion.timm import model_arguments
from residual.conversion.torchvision import base_width

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What a library computed: its name and version, and logits N x classes."""

    library: str
    logits: npt.NDArray[np.float32]


def computed(format_name: str, path: Path, arch: Architecture, images: Images) -> Theirs | None:
    """The logits of a format's own library for the file that was written; None where it is not installed or not asked here.

    ValueError where the library does not take the file.
    """
    build = _BUILDERS.get(format_name)
    module = _imported(_PACKAGES[format_name]) if build else None
    if build is None or module is None:
        return None
    import torch

    try:
        model = build(module, path, arch)
        with torch.inference_mode():
            logits = model.eval()(torch.from_numpy(images))
    except Exception as error:  # whatever a library raises for a file that it does not take
        raise ValueError(f"{format_name} does not take the file written for it: {' '.join(str(error).split())[:500]}") from error
    logits = logits if isinstance(logits, torch.Tensor) else logits.logits
    version = importlib.import_module(_PACKAGES[format_name].partition(".")[0]).__version__
    return Theirs(library=f"{format_name} {version}", logits=logits.numpy().copy())


def _torchvision(module: ModuleType, path: Path, arch: Architecture) -> Any:
    block = module.Bottleneck if arch.block == "bottleneck" else module.BasicBlock
    width = base_width(arch, "torchvision")
    model = module.ResNet(block, list(arch.depths), num_classes=arch.num_classes, groups=arch.groups, width_per_group=width)
    model.load_state_dict(_state(path), strict=True)
    return model


def _timm(module: ModuleType, path: Path, arch: Architecture) -> Any:
    name, arguments = model_arguments(arch)
    model = module.create_model(name, pretrained=False, **arguments)
    model.load_state_dict(_state(path), strict=True)
    return model


def _transformers(module: ModuleType, path: Path, _arch: Architecture) -> Any:
    model, told = module.ResNetForImageClassification.from_pretrained(path, output_loading_info=True)
    wrong = {name: sorted(map(str, keys)) for name, keys in told.items() if keys}
    if wrong:
        raise ValueError(f"{wrong}")
    return model


def _state(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, weights_only=True)


def _imported(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception:
        return None


_PACKAGES = {"torchvision": "torchvision.models.resnet", "timm": "timm", "transformers": "transformers.models.resnet.modeling_resnet"}
_BUILDERS: dict[str, Callable[[ModuleType, Path, Architecture], Any]] = {
    "torchvision": _torchvision, "timm": _timm, "transformers": _transformers,
}  # fmt: skip
