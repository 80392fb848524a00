"""torchvision's ResNets: resnet18 to resnet152, wide_resnet and resnext, as state dicts.

The names are ours; what has to be found is the architecture. The 2015 paper's bottleneck (stride on the first 1x1) has the same
tensors and is another function: it is refused in writing, because the file could not say so.
"""

from pathlib import Path

from residual.architecture import Architecture
from residual.conversion.expressible import check_fields, training_notes
from residual.conversion.files import Shapes, is_state_dict, outline, write_tensors
from residual.conversion.found import Found
from residual.conversion.inferred import assembled, imagenet_preprocessing
from residual.conversion.preprocessed import prepared_by_timm
from residual.variants import VARIANTS
from residual.weights import SavedModel

NAME = "torchvision"
NETS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d",
    "resnext101_32x8d",
)  # fmt: skip


def recognise(path: Path) -> bool:
    return is_state_dict(path) and _is_plain(outline(path).shapes)


def read(path: Path) -> Found:
    state = outline(path)
    found = assembled(NAME, state, {name: name for name in state.shapes}, {})
    return prepared_by_timm(found, path, imagenet_preprocessing(found.architecture), "torchvision's first ImageNet weights")


def write(saved: SavedModel, path: Path) -> tuple[str, ...]:
    """Notes on what was written: a state dict that torchvision's own network loads with strict=True.

    ValueError names the field that torchvision's ResNet cannot have.
    """
    arch = saved.architecture
    check_fields(NAME, arch, RESNET | {"stem": ("imagenet",), "stem_width": (64,), "in_channels": (3,), "shortcut_pool": (False,)})
    check_fields(NAME, arch, {"se_reduction": (0,), "out_widths": (out_widths(arch),)})
    base_width(arch, NAME)
    write_tensors(path, saved.weights)
    name = net(arch)
    built = f"torchvision.models.{name}(num_classes={arch.num_classes})" if name else f"a torchvision ResNet of layers {list(arch.depths)}"
    return (f"It loads with strict=True into {built}.", *training_notes(NAME, saved))


# What torchvision's and timm's ResNet have in common.
RESNET = {
    "order": ("original",), "shortcut": ("projection",), "strides": ((1, 2, 2, 2),), "pool_padding": ("lowest",), "input_norm": (False,),
    "stride_on": ("conv2",), "stride_block": ("first",), "shortcut_norm": (True,), "conv_bias": (False,), "bn_epsilon": (1e-5,),
}  # fmt: skip


def out_widths(arch: Architecture) -> tuple[int, ...]:
    """Those of every torchvision ResNet with such blocks."""
    expansion = 4 if arch.block == "bottleneck" else 1
    return tuple(64 * 2**stage * expansion for stage in range(4))


def base_width(arch: Architecture, library: str) -> int:
    """torchvision's `width_per_group`. ValueError where the widths or groups are no ResNet's of `library`."""
    if arch.block == "basic":
        check_fields(library, arch, {"groups": (1,)})
        return 64
    base = arch.inner_widths[0] // arch.groups
    widths = tuple(2**stage * base * arch.groups for stage in range(4))
    check_fields(library, arch, {"inner_widths": (widths,)})
    return base


def net(arch: Architecture) -> str:
    """The name of torchvision's function that builds it; "" where none does."""
    fields = ("depths", "inner_widths", "out_widths", "block", "groups")
    return next((name for name in NETS if all(getattr(VARIANTS[name], f) == getattr(arch, f) for f in fields)), "")


def _is_plain(shapes: Shapes) -> bool:
    special = any(".se." in name or (".downsample.1." in name and len(shape) == 4) for name, shape in shapes.items())
    return shapes.get("conv1.weight", ())[2:] == (7, 7) and "layer1.0.bn1.weight" in shapes and not special
