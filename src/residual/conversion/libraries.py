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
from residual.conversion import keras
from residual.conversion.timm import model_arguments
from residual.conversion.torchvision import base_width

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Theirs:
    """What a library computed: its name and version, and logits N x classes."""

    library: str
    logits: Array


def computed(format_name: str, path: Path, arch: Architecture, images: Array) -> Theirs | None:
    """The logits of a format's own library, by its own network with the file that was written; None where it is not installed or has none.

    `images` are N C H W, as our network takes them. ValueError where the library does not take the file.
    """
    if format_name not in _LIBRARIES:
        return None
    package, compute = _LIBRARIES[format_name]
    module = _imported(package)
    if module is None:
        return None
    try:
        logits = compute(module, path, arch, images)
    except Exception as error:  # whatever a library raises for a file that it does not take
        raise ValueError(f"{format_name} does not take the file written for it: {' '.join(str(error).split())[:500]}") from error
    name = package.partition(".")[0]
    where = f" on {module.config.backend()}" if name == "keras" else ""
    return Theirs(library=f"{name} {importlib.import_module(name).__version__}{where}", logits=logits)


def _torchvision(module: ModuleType, path: Path, arch: Architecture, images: Array) -> Array:
    block = module.Bottleneck if arch.block == "bottleneck" else module.BasicBlock
    width = base_width(arch, "torchvision")
    model = module.ResNet(block, list(arch.depths), num_classes=arch.num_classes, groups=arch.groups, width_per_group=width)
    model.load_state_dict(_state(path), strict=True)
    return _numpy(_torch(model, images))


def _timm(module: ModuleType, path: Path, arch: Architecture, images: Array) -> Array:
    name, arguments = model_arguments(arch)
    model = module.create_model(name, pretrained=False, **arguments)
    model.load_state_dict(_state(path), strict=True)
    return _numpy(_torch(model, images))


def _transformers(module: ModuleType, path: Path, _arch: Architecture, images: Array) -> Array:
    model, told = module.ResNetForImageClassification.from_pretrained(path, output_loading_info=True)
    wrong = {name: sorted(map(str, keys)) for name, keys in told.items() if keys}
    if wrong:
        raise ValueError(f"{wrong}")
    return _numpy(_torch(model, images).logits)


def _keras(module: ModuleType, path: Path, arch: Architecture, images: Array) -> Array:
    pictures = images.transpose(0, 2, 3, 1)
    if keras.missing(arch):
        model = module.saving.load_model(path)
    else:
        model = keras.application(arch, images.shape[2:], activation=None)
        if path.suffix == ".keras":  # its pictures have the size that it was built for
            model.set_weights(module.saving.load_model(path).get_weights())
        else:
            model.load_weights(path)
        pictures = pictures[..., ::-1] if keras.blue_first(arch) else pictures
    logits = model(np.ascontiguousarray(pictures), training=False)
    return np.array(module.ops.convert_to_numpy(logits), np.float32)


def _gluon(module: ModuleType, path: Path, arch: Architecture, images: Array) -> Array:
    zoo, version = module.gluon.model_zoo.vision, 2 if arch.order == "preact" else 1
    block = getattr(zoo, f"{'Bottleneck' if arch.block == 'bottleneck' else 'BasicBlock'}V{version}")
    network = getattr(zoo, f"ResNetV{version}")
    model = network(block, list(arch.depths), [arch.stem_width, *arch.out_widths], classes=arch.num_classes)
    model.load_parameters(str(path))
    return np.array(model(module.nd.array(images)).asnumpy(), np.float32)


def _torch(model: Any, images: Array) -> Any:
    import torch

    with torch.inference_mode():
        return model.eval()(torch.from_numpy(images))


def _numpy(tensor: Any) -> Array:
    return tensor.numpy().copy()  # type: ignore[no-any-return]


def _state(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, weights_only=True)


def _imported(name: str) -> ModuleType | None:
    try:
        return keras.opened() if name == "keras" else importlib.import_module(name)
    except Exception:
        return None


_LIBRARIES: dict[str, tuple[str, Callable[[ModuleType, Path, Architecture, Array], Array]]] = {
    "torchvision": ("torchvision.models.resnet", _torchvision),
    "timm": ("timm", _timm),
    "transformers": ("transformers.models.resnet.modeling_resnet", _transformers),
    "keras": ("keras", _keras),
    "gluon": ("mxnet", _gluon),
}
