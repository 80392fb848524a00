"""MXNet Gluon's .params files: the model zoo's resnet v1 and v2, read and written, and the chapter's net, read.

The zoo's v2 normalises the pictures with a batch norm whose gamma is fixed: whatever number the file holds for it, MXNet computes with 1.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from residual.architecture import Architecture
from residual.conversion import gluon_names, ndarrays
from residual.conversion.expressible import misfit, only, training_notes
from residual.conversion.found import Found
from residual.conversion.inferred import IMAGENET
from residual.conversion.preprocessed import prepared
from residual.conversion.zoo import completed, fitted, listed, shaped
from residual.layers import Conv
from residual.plan import plan
from residual.weights import SavedModel, Weights, check

NAME = "gluon"
EPSILON = 1e-5
INPUT_GAMMA = "norm0.weight"
_SHAPED = ("depths", "inner_widths", "out_widths", "block", "stem_width", "in_channels", "num_classes")
_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def recognise(path: Path) -> bool:
    """Whether the file is a list of MXNet arrays."""
    return ndarrays.recognise(path)


def read(path: Path) -> Found:
    """A net of the zoo, by structural or by prefixed names, or the chapter's. ValueError names the file and what does not fit."""
    tensors = ndarrays.read(path)
    try:
        layout, pairs = gluon_names.ours(tensors)
        ours = {name: tensors[theirs] for name, theirs in pairs.items()}
        found = shaped({name: value.shape for name, value in ours.items()})
        arch = _chapter(found, biased="conv1.bias" in ours) if layout == "chapter" else _zoo(found, version=2 if layout == "v2" else 1)
        network = plan(arch)
        weights = completed(network, ours)
        notes = _notes(arch, layout, ours, weights)
        if arch.input_norm and INPUT_GAMMA in weights:
            weights[INPUT_GAMMA] = np.ones_like(weights[INPUT_GAMMA])
        assumed = IMAGENET if layout != "chapter" and arch.in_channels == 3 else None
        return prepared(
            Found(format=NAME, architecture=arch, weights=weights, pairs=pairs, notes=notes), assumed, "the weights that MXNet publishes"
        )
    except ValueError as error:
        raise ValueError(f"{path} holds MXNet arrays, but not a residual network that is known: {str(error).rstrip('.')}.") from error


def write(saved: SavedModel, path: Path) -> tuple[str, ...]:
    """Writes the zoo's layout, for `load_parameters`; gives notes. ValueError names the field that no net of the zoo has."""
    arch = saved.architecture
    version = 2 if arch.order == "preact" else 1
    network = plan(arch)
    check(network, saved.weights)
    try:
        wanted = _zoo(arch, version=version)
        if reason := misfit(arch, only(wanted, free=("conv_bias", "bn_epsilon"))):
            raise ValueError(reason)
        if arch.block == "bottleneck" and any(outer != 4 * inner for inner, outer in zip(arch.inner_widths, arch.out_widths, strict=True)):
            raise ValueError(f"inner_widths is {arch.inner_widths}, and there it is a quarter of out_widths={arch.out_widths}")
        weights = _input_gamma_moved(fitted(network, saved.weights, biased=_biased(wanted), epsilon=EPSILON))
    except ValueError as error:
        raise ValueError(f"Gluon's model zoo has no such network, so {path} was not written: {str(error).rstrip('.')}.") from error
    names = gluon_names.theirs(network, version=version)
    ndarrays.write(path, {names[name]: value for name, value in weights.items()})
    return _written(saved, weights, version=version)


def _zoo(arch: Architecture, *, version: int) -> Architecture:
    """The zoo's net of the depths and widths of `arch`."""
    same = {name: getattr(arch, name) for name in _SHAPED}
    found = Architecture(
        **same, strides=(1, *(2,) * (len(arch.depths) - 1)), bn_epsilon=EPSILON, stride_on="conv1" if version == 1 else "conv2",
        conv_bias=version == 1 and arch.block == "bottleneck",
    )  # fmt: skip
    return found if version == 1 else replace(found, order="preact", input_norm=True, preact_start="both")


def _chapter(found: Architecture, *, biased: bool) -> Architecture:
    return replace(found, conv_bias=biased, shortcut_norm=False, initialisation="xavier")


def _biased(arch: Architecture) -> set[str]:
    """The convolutions that have biases in the zoo: both 1x1 of a v1 bottleneck, because nobody turned them off."""
    if not arch.conv_bias:
        return set()
    return {layer.name for block in plan(arch).blocks() for layer in block.branch if isinstance(layer, Conv) and layer.kernel == 1}


def _input_gamma_moved(weights: Weights) -> Weights:
    """The same function with the gamma of the pictures' batch norm in the first convolution. ValueError where it is 0."""
    gamma = weights.get(INPUT_GAMMA)
    if gamma is None:
        return weights
    if not gamma.all():
        raise ValueError("the batch norm of the pictures has a gamma of 0 (input_norm), and there its gamma is fixed at 1")
    return weights | {
        "conv1.weight": weights["conv1.weight"] * gamma[:, None, None],
        "norm0.bias": weights["norm0.bias"] / gamma,
        INPUT_GAMMA: np.ones_like(gamma),
    }


def _notes(arch: Architecture, layout: str, ours: Weights, weights: Weights) -> tuple[str, ...]:
    if layout == "chapter":
        return ("The chapter's network.",)
    version = 2 if layout == "v2" else 1
    notes = [f"{_zoo_name(arch, version)} of Gluon's model zoo."]
    if version == 1 and arch.block == "bottleneck":
        notes.append("The stride is on the first 1x1 of a block, as always in Gluon's v1.")
    if added := [name for name in weights if name not in ours]:
        notes.append(f"{len(added)} convolutions have no bias there; they have biases of 0 here.")
    if INPUT_GAMMA in ours and (ours[INPUT_GAMMA] != 1).any():
        notes.append("The gamma of the pictures' batch norm is 1, as MXNet computes with, not what the file holds.")
    return tuple(notes)


def _written(saved: SavedModel, weights: Weights, *, version: int) -> tuple[str, ...]:
    arch = saved.architecture
    notes = [f"For {_zoo_name(arch, version)} of Gluon's model zoo (load_parameters)."]
    if arch.bn_epsilon != EPSILON:
        notes.append(f"Gluon's epsilon is {EPSILON}: the running variances are larger by the difference to {arch.bn_epsilon}.")
    gone = [name for name in saved.weights if name not in weights and saved.weights[name].any()]
    if gone:
        notes.append(f"Gluon has no biases in {listed(gone)}: they are taken up by the running means.")
    if INPUT_GAMMA in weights and (saved.weights[INPUT_GAMMA] != 1).any():
        notes.append("Gluon fixes the gamma of the pictures' batch norm at 1: it is in the first convolution now.")
    return (*notes, *training_notes(NAME, saved))


def _zoo_name(arch: Architecture, version: int) -> str:
    wide = (64, 128, 256, 512)
    full = arch.inner_widths == wide and arch.stem_width == 64
    for depth, depths in _DEPTHS.items():
        if full and arch.depths == depths and (depth >= 50) == (arch.block == "bottleneck"):
            return f"resnet{depth}_v{version}(classes={arch.num_classes})"
    kind = "Bottleneck" if arch.block == "bottleneck" else "BasicBlock"
    channels = [arch.stem_width, *arch.out_widths]
    return f"ResNetV{version}({kind}V{version}, {list(arch.depths)}, {channels}, classes={arch.num_classes})"
