"""The architecture behind a state dict with torchvision's names, found from names and shapes alone.

The surprising thing is what they do not show: which convolution of a bottleneck carries the stride, the stride of a 4x4 stem, whether a max
pool follows a 3x3 stem, and what a shortcut without tensors does. Those are decided as the libraries have them, and every decision is a
sentence in the notes.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from residual.architecture import Architecture
from residual.conversion.files import Shapes, StateDict, values
from residual.conversion.found import Found
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.tensors import manifest

IMAGENET = Preprocessing(size=(224, 224), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875)
STRIDE_NOTE = (
    "Which convolution of a bottleneck carries the stride leaves no trace in the tensors: the 3x3 was taken, as torchvision has it (v1.5); "
    "stride_on='conv1' reads the file as the 2015 paper's net."
)


def assembled(format_name: str, state: StateDict, ours: Mapping[str, str], changes: Mapping[str, Any]) -> Found:
    """What a file holds whose tensors are torchvision's but for their names: `ours` is our name -> the file's (without prefix).

    `changes` are fields of the architecture that the format fixes. ValueError names the file.
    """
    try:
        if len(ours) < len(state.shapes):
            raise ValueError("two of its tensors have one meaning")
        shapes = {name: state.shapes[theirs] for name, theirs in ours.items()}
        arch, notes = inferred(shapes, changes)
        _compare(manifest(plan(arch)), shapes, ours)
    except ValueError as error:
        raise ValueError(f"{state.path} holds no {format_name} network that is known: {str(error).rstrip('.')}.") from error
    read = values(state)
    weights = {name: read[ours[name]].reshape(shape) for name, shape in manifest(plan(arch)).items()}
    try:
        return Found(
            format=format_name, architecture=arch, weights=weights, pairs={name: state.names[ours[name]] for name in weights}, notes=notes
        )
    except ValueError as error:
        raise ValueError(f"{state.path}: {error}") from error


def imagenet_preprocessing(arch: Architecture) -> Preprocessing | None:
    """What the libraries' own ImageNet weights are used with; None for a net that is not of 3 channels and 1000 classes."""
    return IMAGENET if (arch.in_channels, arch.num_classes) == (3, 1000) else None


def inferred(shapes: Shapes, changes: Mapping[str, Any]) -> tuple[Architecture, tuple[str, ...]]:
    """The architecture of tensors named as torchvision names them, and sentences on what the tensors do not show.

    Raises:
        ValueError: the rest of a sentence on what is missing or strange.
    """
    blocks, notes = _blocks(shapes), list[str]()
    if "fc.weight" not in shapes:
        raise ValueError("it has no classifier (fc.weight): a network without its head cannot be read")
    firsts = [stage[0] for stage in blocks]
    bottleneck = f"{firsts[0]}.conv3.weight" in shapes
    last = "conv3" if bottleneck else "conv2"
    inner = tuple(_conv(shapes, f"{first}.conv1.weight")[0] for first in firsts)
    outer = tuple(_conv(shapes, f"{first}.{last}.weight")[0] for first in firsts)
    stem, stem_width, channels = _stem(shapes)
    grouped = _conv(shapes, f"{firsts[0]}.{'conv2' if bottleneck else 'conv1'}.weight")[1]
    fields: dict[str, Any] = {
        "depths": tuple(map(len, blocks)), "inner_widths": inner, "out_widths": outer, "block": "bottleneck" if bottleneck else "basic",
        "stem": stem, "stem_width": stem_width, "in_channels": channels, "num_classes": _outputs(shapes, "fc.weight"),
        "groups": max(1, (inner[0] if bottleneck else stem_width) // grouped), "conv_bias": f"{firsts[0]}.conv1.bias" in shapes,
    }  # fmt: skip
    fields |= _shortcuts(shapes, blocks, (stem_width, *outer))
    if fields["shortcut"] == "pad":
        notes.append(
            "Its shortcuts have no tensors: they were taken as option A of the 2015 paper (every second pixel, channels of zeros)."
        )
    if stem == "cifar":
        notes.append("Its first convolution is 3x3: no max pool was taken to follow it.")
    if stem == "patch" and "stem" not in changes:
        notes.append(
            "Its first convolution is 4x4: it was taken to look at every second pixel (stem='patch'), not at every one ('dense-patch')."
        )
    if bottleneck and not changes.keys() & {"order", "stride_on"}:
        notes.append(STRIDE_NOTE)
    if f"{firsts[0]}.se.fc1.weight" in shapes:
        fields["se_reduction"] = max(1, outer[0] // max(1, _outputs(shapes, f"{firsts[0]}.se.fc1.weight")))
    return Architecture(**{**fields, **changes}), tuple(notes)


def _blocks(shapes: Shapes) -> list[list[str]]:
    """Names of the blocks, by stage; both are counted without a gap."""
    found: dict[int, set[int]] = {}
    for name in shapes:
        if match := re.match(r"layer(\d{1,4})\.(\d{1,5})\.", name, re.ASCII):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    if not found or sorted(found) != list(range(1, len(found) + 1)):
        raise ValueError(f"its stages are numbered {sorted(found)} and not from 1 on")
    for stage, numbers in found.items():
        if sorted(numbers) != list(range(len(numbers))):
            raise ValueError(f"the blocks of layer{stage} are not numbered from 0 on without a gap")
    return [[f"layer{stage}.{number}" for number in sorted(found[stage])] for stage in sorted(found)]


def _stem(shapes: Shapes) -> tuple[str, int, int]:
    """Kind, channels out and channels in of the stem."""
    if "conv1.6.weight" in shapes:
        half, width = _conv(shapes, "conv1.0.weight"), _conv(shapes, "conv1.6.weight")[0]
        if half[0] * 2 != width:
            raise ValueError(
                f"its deep stem begins with {half[0]} channels and ends with {width}: only stems that begin with half are known"
            )
        return "deep", width, half[1]
    width, channels, *sides = _conv(shapes, "conv1.weight")
    kind = {7: "imagenet", 3: "cifar", 4: "patch"}.get(sides[0])
    if kind is None or sides[0] != sides[1]:
        raise ValueError(f"its first convolution is {sides[0]}x{sides[1]}: 7x7, 3x3 and 4x4 are known")
    return kind, width, channels


def _shortcuts(shapes: Shapes, blocks: list[list[str]], widths: tuple[int, ...]) -> dict[str, Any]:
    """Fields on the shortcuts and the strides: a projection where the width stays shows a stride."""
    projected = [[any(name in shapes for name in _projections(block)) for block in stage] for stage in blocks]
    strides = [1 if number == 0 else 2 for number in range(len(blocks))]
    if not any(map(any, projected)):
        changing = any(a != b for a, b in pairwise(widths))
        return {"shortcut": "pad" if changing else "projection", "strides": tuple(strides if changing else [1] * len(blocks))}
    everywhere = all(map(all, projected)) and max(map(len, blocks)) > 1
    for number, stage in enumerate(projected):
        if widths[number] == widths[number + 1] and not everywhere:
            strides[number] = 2 if stage[0] else 1
    pooled = any(len(shapes.get(f"{block}.downsample.1.weight", ())) == 4 for stage in blocks for block in stage)
    normed = any(f"{block}.downsample.{1 + pooled}.running_var" in shapes for stage in blocks for block in stage)
    shortcut = "projection-all" if everywhere else "projection"
    return {"shortcut": shortcut, "strides": tuple(strides), "shortcut_pool": pooled, "shortcut_norm": normed}


def _projections(block: str) -> tuple[str, str]:
    return f"{block}.downsample.0.weight", f"{block}.downsample.1.weight"


def _conv(shapes: Shapes, name: str) -> tuple[int, int, int, int]:
    if name not in shapes:
        raise ValueError(f"it has no {name}")
    match shapes[name]:
        case (int(a), int(b), int(c), int(d)) if min(a, b, c, d) > 0:
            return a, b, c, d
    raise ValueError(f"{name} has shape {shapes[name]}, which no convolution has")


def _outputs(shapes: Shapes, name: str) -> int:
    """The first dimension; 1 for a number without any, whose shape will not fit."""
    return (*shapes[name], 1)[0]


def _compare(wanted: Shapes, shapes: Shapes, theirs: Mapping[str, str]) -> None:
    faults = [f"{name} is missing" for name in wanted if name not in shapes]
    faults += [f"{theirs[name]} is not a tensor of this net" for name in shapes if name not in wanted]
    for name, shape in wanted.items():
        if name in shapes and _squeezed(shapes[name]) != _squeezed(shape):
            faults.append(f"{theirs[name]} has shape {shapes[name]} instead of {shape}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(f"{'; '.join(faults[:3])}{more}")


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 convolution is a matrix: some libraries have their classifier as the one, some as the other."""
    return shape[:2] if shape[2:] == (1, 1) else shape
