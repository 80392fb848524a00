"""What fixes a residual network except its weights, as plain values.

A plain network is the same description with `shortcut="none"`: nothing else tells the two apart.
"""

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

from residual.spelling import nearest

Order = Literal["original", "preact", "relu-only-preact", "relu-before-addition", "bn-after-addition"]
Shortcut = Literal["pad", "projection", "projection-all", "none"]
Stem = Literal["imagenet", "deep", "cifar", "patch", "dense-patch"]

PREACT: tuple[Order, ...] = ("preact", "relu-only-preact")
MAX_BLOCKS = 10_000
MAX_CHANNELS = 65_536


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything that fixes a residual network except its weights.

    Attributes:
        depths: residual blocks per stage.
        inner_widths: channels of the 3x3 convolutions, per stage.
        out_widths: channels a block puts out, per stage.
        strides: stride of the first block of each stage.
        block: "basic" is 3x3-3x3, "bottleneck" is 1x1-3x3-1x1 (the last one is 1x1, not 3x3).
        shortcut: what a skip connection does where the shape changes: "pad" adds zero channels (option A), "projection" is a
            1x1 convolution (option B), "projection-all" projects everywhere (option C), "none" is the plain network.
        order: where batch norm and ReLU stand; the five arrangements of He et al. 2016, figure 4.
        stem: "imagenet" is 7x7/2 and a 3x3/2 max pool, "deep" replaces the 7x7 by three 3x3 (ResNet-C), "cifar" is one 3x3,
            "patch" is one 4x4/2 without padding, "dense-patch" the same at every place (stride 1).
        stem_width: channels the stem puts out.
        pool_padding: what the stem's max pool sees around a picture: "lowest" is minus infinity (PyTorch, Gluon, the papers' code),
            "zero" differs where values below zero are pooled (Keras Applications' V2).
        input_norm: batch norm of the pictures themselves before the stem (Gluon's v2).
        preact_start: where a pre-activation net has its first activation: in the "stem", before its max pool (the 2016 paper); in
            the first "block", after the pool (timm, Keras Applications); or in "both" (Gluon's v2).
        groups: groups of the 3x3 convolutions (ResNeXt's cardinality).
        stride_on: the convolution of a bottleneck that carries the stride: "conv1" as in the 2015 paper, "conv2" as in
            torchvision (v1.5).
        stride_block: the block of a stage that carries its stride: the "first" or, as in Keras Applications' V2, the "last", whose
            shortcut then only takes every stride-th pixel.
        shortcut_pool: average-pool 2x2 before the 1x1 of a strided shortcut, whose own stride is then 1 (ResNet-D).
        shortcut_norm: batch norm after the 1x1 of a shortcut; pre-activation nets never have it.
        conv_bias: convolutions carry a bias (the chapter's net).
        se_reduction: the squeeze-and-excitation bottleneck is out_width / se_reduction wide; 0 means no such layer.
        dropout: probability, between the 3x3 convolutions of a block (wide residual networks).
        drop_path: probability of dropping the last block's branch, rising linearly from 0 (stochastic depth).
        zero_last_gamma: the last batch norm of each branch starts at gamma 0, so that each block starts as the identity.
        initialisation: "he" (normal, fan out), or "xavier" (uniform) as in the chapter.
    Source: He et al. 2015, arXiv:1512.03385, sections 3.3 and 4; He et al. 2016, arXiv:1603.05027, figure 4;
        Zagoruyko 2016, arXiv:1605.07146; Xie 2017, arXiv:1611.05431; He 2019, arXiv:1812.01187 (C, D);
        Hu 2018, arXiv:1709.01507; Huang 2016, arXiv:1603.09382.
    """

    depths: tuple[int, ...]
    inner_widths: tuple[int, ...]
    out_widths: tuple[int, ...]
    strides: tuple[int, ...]
    block: Literal["basic", "bottleneck"] = "basic"
    shortcut: Shortcut = "projection"
    order: Order = "original"
    stem: Stem = "imagenet"
    stem_width: int = 64
    pool_padding: Literal["lowest", "zero"] = "lowest"
    input_norm: bool = False
    preact_start: Literal["stem", "block", "both"] = "stem"
    groups: int = 1
    stride_on: Literal["conv1", "conv2"] = "conv2"
    stride_block: Literal["first", "last"] = "first"
    shortcut_pool: bool = False
    shortcut_norm: bool = True
    conv_bias: bool = False
    se_reduction: int = 0
    dropout: float = 0.0
    drop_path: float = 0.0
    zero_last_gamma: bool = False
    initialisation: Literal["he", "xavier"] = "he"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.1
    in_channels: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        _check_types(self)
        _check_ranges(self)


def changed(base: Architecture, changes: dict[str, Any]) -> Architecture:
    """`base` with fields replaced; lists become tuples. ValueError names an unknown field and the nearest right one."""
    names = [field.name for field in fields(Architecture)]
    for name in changes:
        if name not in names:
            raise ValueError(f"An architecture has no field {name!r}.{nearest(name, names)} Fields: {', '.join(names)}.")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
    return replace(base, **values)


def architecture_from(values: dict[str, Any]) -> Architecture:
    """The architecture of a file's record; fields added since it was written take their defaults."""
    return changed(Architecture(depths=(1,), inner_widths=(1,), out_widths=(1,), strides=(1,)), values)


def _check_types(arch: Architecture) -> None:
    for name, hint in get_type_hints(Architecture).items():
        value = getattr(arch, name)
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, choices))}.{nearest(str(value), choices)}")
        elif hint is bool:
            _require(isinstance(value, bool), name, value, "true or false")
        elif hint is int:
            _require(_is_int(value), name, value, "a whole number")
        elif hint is float:
            _require(_is_int(value) or isinstance(value, float), name, value, "a number")
        else:
            good = isinstance(value, tuple) and all(map(_is_int, value))
            _require(good, name, value, "a tuple of whole numbers, one per stage")


def _check_ranges(arch: Architecture) -> None:
    stages = len(arch.depths)
    _require(stages >= 1, "depths", arch.depths, "at least one stage")
    for name in ("inner_widths", "out_widths", "strides"):
        value = getattr(arch, name)
        _require(len(value) == stages, name, value, f"{stages} numbers, one for each stage in depths={arch.depths}")
    for name in ("depths", "inner_widths", "out_widths", "strides"):
        _require(min(getattr(arch, name)) >= 1, name, getattr(arch, name), "positive numbers")
    _require(sum(arch.depths) <= MAX_BLOCKS, "depths", arch.depths, f"at most {MAX_BLOCKS} blocks in all")
    for name in ("inner_widths", "out_widths"):
        _require(max(getattr(arch, name)) <= MAX_CHANNELS, name, getattr(arch, name), f"at most {MAX_CHANNELS} channels")
    for name in ("stem_width", "groups", "in_channels", "num_classes"):
        value = getattr(arch, name)
        _require(1 <= value <= 10_000_000, name, value, "at least 1 (and at most 10,000,000)")
    _require(arch.se_reduction >= 0, "se_reduction", arch.se_reduction, "0 (none) or a positive number")
    for name in ("dropout", "drop_path"):
        _require(0 <= getattr(arch, name) < 1, name, getattr(arch, name), "at least 0 and below 1")
    _require(0 < arch.bn_epsilon < 1, "bn_epsilon", arch.bn_epsilon, "above 0 and below 1")
    _require(0 < arch.bn_momentum <= 1, "bn_momentum", arch.bn_momentum, "above 0 and at most 1")
    _check_combinations(arch)


def _check_combinations(arch: Architecture) -> None:
    if arch.block == "basic" and arch.inner_widths != arch.out_widths:
        raise ValueError(
            f"A basic block puts out what its 3x3 convolutions have: inner_widths={arch.inner_widths} must equal "
            f"out_widths={arch.out_widths}; change both, or use block='bottleneck'."
        )
    for width in arch.inner_widths:
        if width % arch.groups:
            raise ValueError(f"groups={arch.groups} does not divide the inner width {width} of inner_widths={arch.inner_widths}.")
    if arch.stem == "deep" and arch.stem_width % 2:
        raise ValueError(f"stem_width is {arch.stem_width}, but stem='deep' halves it: give an even number.")
    if arch.shortcut == "pad":
        widths = (arch.stem_width, *arch.out_widths)
        for before, after in pairwise(widths):
            if after < before:
                raise ValueError(
                    f"shortcut='pad' only adds channels, but out_widths={arch.out_widths} goes from {before} to {after}; "
                    "use shortcut='projection'."
                )
    if arch.preact_start != "stem" and arch.order not in PREACT:
        raise ValueError(f"preact_start={arch.preact_start!r} is for pre-activation nets, but order is {arch.order!r}.")
    if arch.zero_last_gamma and (arch.shortcut == "none" or arch.order == "bn-after-addition"):
        raise ValueError("zero_last_gamma needs shortcuts that pass the last batch norm by: with this order or shortcut all would be 0.")
    if arch.drop_path and arch.shortcut == "none":
        raise ValueError("drop_path needs shortcuts: without its branch a block of a plain network passes nothing on.")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(good: bool, name: str, value: object, wanted: str) -> None:
    if not good:
        raise ValueError(f"{name} is {value!r}, but must be {wanted}.")
