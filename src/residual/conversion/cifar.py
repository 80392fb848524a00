"""The CIFAR nets that travel as checkpoints of training scripts: 3x3 stems, heads called `linear` or `fc`, shortcuts called `shortcut`.

The surprising thing: the widespread ResNet-20 to -1202 files have no tensors for their shortcuts at all, which are option A.
"""

import re
from dataclasses import replace
from pathlib import Path

from residual.architecture import Architecture
from residual.conversion.files import Shapes, is_state_dict, outline
from residual.conversion.found import Found
from residual.conversion.inferred import IMAGENET, assembled
from residual.conversion.preprocessed import prepared
from residual.preprocessing import Preprocessing

NAME = "cifar"


def recognise(path: Path) -> bool:
    return is_state_dict(path) and _is_cifar(outline(path).shapes)


def read(path: Path) -> Found:
    state = outline(path)
    ours = {re.sub(r"^linear\.", "fc.", name).replace(".shortcut.", ".downsample."): name for name in state.shapes}
    found = assembled(NAME, state, ours, {})
    return prepared(found, _preprocessing(found.architecture), "the training script these files come from")


def _is_cifar(shapes: Shapes) -> bool:
    return shapes.get("conv1.weight", ())[2:] == (3, 3) and "layer1.0.bn1.weight" in shapes


def _preprocessing(arch: Architecture) -> Preprocessing | None:
    """The option A files are trained with ImageNet's mean and deviation; others differ from script to script."""
    if arch.shortcut != "pad" or arch.stem_width != 16 or arch.in_channels != 3:
        return None
    return replace(IMAGENET, size=(32, 32), crop=1.0)
