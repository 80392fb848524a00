"""The nets of the chapter "Residual Networks" (Dive into Deep Learning) as readers save them from PyTorch: state dicts of nn.Sequential.

The surprising thing: its blocks call their 1x1 shortcut `conv3`, so that a ResNet-18 looks like a bottleneck. There is no batch
norm behind it, and every convolution has a bias.
"""

import re
from pathlib import Path

from residual.conversion.files import Shapes, is_state_dict, outline
from residual.conversion.found import Found
from residual.conversion.inferred import assembled
from residual.conversion.preprocessed import prepared

NAME = "chapter"
_STAGE = re.compile(r"(?:net\.)?(?:b|resnet_block)?(\d{1,3})\.(\d{1,4})\.(conv[123]|bn[12])\.(\w+)", re.ASCII)
_STEM = re.compile(r"(?:net\.)?(?:0\.)?([01])\.(\w+)", re.ASCII)
_HEAD = re.compile(r"(?:net\.)?(?:\d{1,3}|last\.\d|fc\.\d)\.(weight|bias)", re.ASCII)
_LAYERS = {"0": "conv1", "1": "bn1"}


def recognise(path: Path) -> bool:
    return is_state_dict(path) and _names(outline(path).shapes) is not None


def read(path: Path) -> Found:
    state = outline(path)
    names = _names(state.shapes)
    if names is None:
        raise ValueError(f"{path} holds no net of the chapter: its tensors are named otherwise.")
    found = assembled(NAME, state, names, {"initialisation": "xavier"})
    return prepared(found, None, "")


def _names(shapes: Shapes) -> dict[str, str] | None:
    """Our name -> theirs; None where a tensor is not named as the chapter's are."""
    matched = {name: match for name in shapes if (match := _STAGE.fullmatch(name))}
    if not matched or not any(match[3] == "conv1" for match in matched.values()):
        return None
    first = min(int(match[1]) for match in matched.values())  # what stands before it is counted in one way or another
    found = {_block_name(match, first): name for name, match in matched.items()}
    for name in shapes:
        if name in matched:
            continue
        stem, head = _STEM.fullmatch(name), _HEAD.fullmatch(name)
        if stem and not (head and len(shapes[name]) == 2):
            found[f"{_LAYERS[stem[1]]}.{stem[2]}"] = name
        elif head:
            found[f"fc.{head[1]}"] = name
        else:
            return None
    return found


def _block_name(match: re.Match[str], first: int) -> str:
    layer = "downsample.0" if match[3] == "conv3" else match[3]
    return f"layer{int(match[1]) - first + 1}.{match[2]}.{layer}.{match[4]}"
