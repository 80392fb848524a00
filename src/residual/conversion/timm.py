"""timm's ResNets: with deep stems and average-pooled shortcuts (resnet50d), squeeze-and-excitation (seresnet50), and ResNetV2.

ResNetV2 there has two kinds of weights: batch norm (resnetv2_50), read and written here, and BiT's group norm with standardised
kernels, which is refused by name. Its first activation stands after the max pool, in the first block.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from residual.architecture import Architecture
from residual.conversion.expressible import check_fields, training_notes
from residual.conversion.files import Shapes, StateDict, is_state_dict, outline, write_tensors
from residual.conversion.found import Found
from residual.conversion.inferred import assembled, imagenet_preprocessing
from residual.conversion.preprocessed import prepared_by_timm
from residual.conversion.torchvision import RESNET, base_width, net, out_widths
from residual.weights import SavedModel

NAME = "timm"
_V2_STEM = {"conv1": "conv1.0", "norm1": "conv1.1", "conv2": "conv1.3", "norm2": "conv1.4", "conv3": "conv1.6", "conv": "conv1"}


def recognise(path: Path) -> bool:
    return is_state_dict(path) and (_is_v2(outline(path).shapes) or _is_d_or_se(outline(path).shapes))


def read(path: Path) -> Found:
    state = outline(path)
    if _is_v2(state.shapes):
        _refuse_bit(state)
        ours = {_from_v2(name, state.shapes): name for name in state.shapes}
        found = assembled(NAME, state, ours, {"order": "preact", "preact_start": "block", "shortcut_norm": False})
    else:
        found = assembled(NAME, state, {name: name for name in state.shapes}, {})
    assumed = imagenet_preprocessing(found.architecture)
    if assumed and _is_v2(state.shapes):
        assumed = replace(assumed, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return prepared_by_timm(found, path, assumed, f"timm's {'ResNetV2' if _is_v2(state.shapes) else 'ResNet'}s")


def write(saved: SavedModel, path: Path) -> tuple[str, ...]:
    """Notes on what was written: a state dict that timm's own network loads with strict=True.

    ValueError names the field that timm's ResNet or ResNetV2 cannot have.
    """
    arch = saved.architecture
    name, arguments = model_arguments(arch)
    tensors = saved.weights
    if arch.order == "preact":
        tensors = {_to_v2(key, arch): value for key, value in tensors.items()}
        tensors["head.fc.weight"] = tensors["head.fc.weight"][:, :, None, None]
    write_tensors(path, tensors)
    told = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return (f"It loads with strict=True into timm.create_model({name!r}, {told}).", *training_notes(NAME, saved))


def model_arguments(arch: Architecture) -> tuple[str, dict[str, Any]]:
    """The name and arguments with which `timm.create_model` builds it. ValueError names the field that it cannot have."""
    if arch.order == "preact":
        return _v2_arguments(arch)
    stem = {"imagenet": "", "deep": "deep"}
    check_fields(NAME, arch, RESNET | {"stem": tuple(stem), "out_widths": (out_widths(arch),)})
    arguments: dict[str, Any] = {"num_classes": arch.num_classes, "in_chans": arch.in_channels}
    width = base_width(arch, NAME)
    if arch.stem == "imagenet":
        check_fields(NAME, arch, {"stem_width": (64,)})
    base = "resnet50" if arch.block == "bottleneck" else "resnet18"
    name = net(arch) if arch.stem == "imagenet" and not arch.shortcut_pool and not arch.se_reduction else ""
    if name:
        return name, arguments
    arguments |= {"layers": arch.depths}
    if arch.stem == "deep":
        arguments |= {"stem_type": "deep", "stem_width": arch.stem_width // 2}
    if arch.block == "bottleneck":
        arguments |= {"cardinality": arch.groups, "base_width": width}
    if arch.shortcut_pool:
        arguments |= {"avg_down": True}
    if arch.se_reduction:
        _check_reduction(arch)
        arguments |= {"block_args": {"attn_layer": "se"}}
    return base, arguments


def _check_reduction(arch: Architecture) -> None:
    """timm's default makes the squeezed width a sixteenth, a multiple of 8 that is at most a tenth smaller."""
    check_fields(NAME, arch, {"se_reduction": (16,)})
    for width in arch.out_widths:
        if width // 16 % 8:
            raise ValueError(f"timm cannot hold this network: out_widths={arch.out_widths}, and its squeezed widths are multiples of 8.")


def _v2_arguments(arch: Architecture) -> tuple[str, dict[str, Any]]:
    wanted: dict[str, tuple[Any, ...]] = RESNET | {
        "order": ("preact",),
        "preact_start": ("block",),
        "stem": ("imagenet", "deep"),
        "stem_width": (64,),
        "groups": (1,),
    }
    outer = out_widths(arch)
    inner = tuple(width // 4 for width in outer) if arch.block == "bottleneck" else outer
    check_fields(NAME, arch, wanted | {"out_widths": (outer,), "inner_widths": (inner,), "se_reduction": (0,)})
    arguments: dict[str, Any] = {"num_classes": arch.num_classes, "in_chans": arch.in_channels, "layers": arch.depths}
    if arch.stem == "deep":
        arguments |= {"stem_type": "deep"}
    if arch.shortcut_pool:
        arguments |= {"avg_down": True}
    return "resnetv2_50" if arch.block == "bottleneck" else "resnetv2_18", arguments


def _is_d_or_se(shapes: Shapes) -> bool:
    special = any(".se." in name or name == "conv1.6.weight" for name in shapes)
    pooled = any(".downsample.1." in name and len(shape) == 4 for name, shape in shapes.items())
    return "layer1.0.bn1.weight" in shapes and (special or pooled)


def _is_v2(shapes: Shapes) -> bool:
    return any(name.startswith("stem.conv") for name in shapes) and any(name.startswith("stages.0.blocks.0.norm1.") for name in shapes)


def _refuse_bit(state: StateDict) -> None:
    if "stages.0.blocks.0.norm1.running_var" not in state.shapes:
        raise ValueError(
            f"{state.path} holds a ResNetV2 of timm without batch norm (BiT: group norm and standardised kernels, or another norm): "
            "only those with batch norm, such as resnetv2_50, can be read."
        )


def _from_v2(name: str, shapes: Shapes) -> str:
    if match := re.fullmatch(r"stem\.(conv|conv[123]|norm[12])\.(\w+)", name):
        return f"{_V2_STEM[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"stages\.(\d{1,4})\.blocks\.(\d{1,5})\.(\w+)\.(.+)", name, re.ASCII):
        stage, number, layer, rest = int(match[1]) + 1, match[2], match[3].replace("norm", "bn"), match[4]
        if layer == "downsample":
            rest = rest.replace("conv.", f"{int(_pooled(shapes))}.")
        return f"layer{stage}.{number}.{layer}.{rest}"
    return name.replace("head.fc.", "fc.")


def _pooled(shapes: Shapes) -> bool:
    """Whether shortcuts average first: their tensors are named alike, but only the D nets, which do so, have deep stems."""
    return "stem.conv1.weight" in shapes


def _to_v2(name: str, arch: Architecture) -> str:
    if match := re.fullmatch(r"layer(\d+)\.(\d+)\.(\w+)\.(.+)", name):
        layer = match[3].replace("bn", "norm")
        rest = re.sub(r"^\d", "conv", match[4]) if layer == "downsample" else match[4]
        return f"stages.{int(match[1]) - 1}.blocks.{match[2]}.{layer}.{rest}"
    stem, _, last = name.rpartition(".")
    theirs = {ours: theirs for theirs, ours in _V2_STEM.items()}.get(stem)
    if theirs:
        return f"stem.{theirs}.{last}"
    return name.replace("fc.", "head.fc.")
