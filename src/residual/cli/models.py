"""`residual list` and `residual show`: which networks there are, and what one is made of. Neither needs a framework."""

import json
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from residual.architecture import Architecture, Order, Shortcut, Stem
from residual.cli.values import image_size
from residual.describe import describe_network, describe_variants, native_size, shape_table, variant_table
from residual.spelling import nearest
from residual.variants import VARIANTS, architecture, matching

_QUIET = arg(help_behavior_hint="")  # no "(default: None)"
Switch = Annotated[bool, _QUIET]
Number = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]
Numbers = Annotated[tuple[int, ...] | None, arg(metavar="N...", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class List:
    """The networks there are: depth, shortcut, parameters and multiply-adds at the picture size each was made for."""

    pattern: Positional[Annotated[str, arg(metavar="PATTERN", help_behavior_hint="")]] = ""
    """Only names that hold this, or fit it when it has * or ?."""
    json: Switch = False
    """Print JSON, numbers in full."""

    def run(self) -> int:
        found = matching(self.pattern)
        if not found:
            raise ValueError(f"No variant fits {self.pattern!r}.{nearest(self.pattern, VARIANTS)} `residual list` shows all.")
        print(json.dumps(describe_variants(found), indent=1) if self.json else variant_table(found))
        return 0


@dataclass(frozen=True, kw_only=True)
class Show:
    """One network, layer by layer: output shape, kernel, parameters, multiply-adds and receptive field.

    Every field of the architecture can be changed, e.g. `residual show resnet50 --in-channels 1 --shortcut pad`.
    """

    name: Positional[Annotated[str, arg(metavar="NAME")]]
    """A name from `residual list`, or any cifar_resnet or cifar_plain of 6n + 2 layers."""
    image_size: Annotated[str, arg(metavar="H[xW]", help_behavior_hint="(default: 32 for the CIFAR nets, else 224)")] = ""
    """Size of the pictures in pixels: 224 or 96x128."""
    json: Switch = False
    """Print JSON, every layer with its numbers in full."""
    in_channels: Number = None
    """1 for grey pictures, 3 for colour."""
    num_classes: Number = None
    """Outputs of the last layer."""
    depths: Numbers = None
    """Blocks per stage."""
    inner_widths: Numbers = None
    """Channels of the 3x3 convolutions, per stage."""
    out_widths: Numbers = None
    """Channels a block puts out, per stage."""
    strides: Numbers = None
    """Stride of the first block of each stage."""
    block: Annotated[Literal["basic", "bottleneck"] | None, _QUIET] = None
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1."""
    shortcut: Annotated[Shortcut | None, _QUIET] = None
    """Options A, B and C of the 2015 paper, or the plain network."""
    order: Annotated[Order | None, _QUIET] = None
    """Where batch norm and ReLU stand; He et al. 2016, figure 4."""
    stem: Annotated[Stem | None, _QUIET] = None
    """What comes before the first block."""
    stem_width: Number = None
    """Channels the stem puts out."""
    groups: Number = None
    """Groups of the 3x3 convolutions (ResNeXt)."""
    stride_on: Annotated[Literal["conv1", "conv2"] | None, _QUIET] = None
    """The convolution of a bottleneck that carries the stride."""
    shortcut_pool: Annotated[bool | None, _QUIET] = None
    """Average-pool in front of strided shortcuts (ResNet-D)."""
    shortcut_norm: Annotated[bool | None, _QUIET] = None
    """Batch norm after the 1x1 of a shortcut."""
    conv_bias: Annotated[bool | None, _QUIET] = None
    """Convolutions with biases."""
    se_reduction: Number = None
    """Squeeze-and-excitation with this reduction; 0 is none."""

    def run(self) -> int:
        names = {field.name for field in fields(Architecture)} & {field.name for field in fields(self)}
        arch = architecture(self.name, **{name: getattr(self, name) for name in names if getattr(self, name) is not None})
        size = image_size(self.image_size) if self.image_size else native_size(arch)
        print(json.dumps(describe_network(self.name, arch, size), indent=1) if self.json else shape_table(self.name, arch, size))
        return 0
