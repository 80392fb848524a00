"""How Keras Applications calls the layers of its ResNets, and which layer a place in a weight file belongs to.

Keras 3 numbers the groups of a weight file by class, in the order of depth, so that a block's shortcut stands before its last convolution:
the two have the same shape in the first stage, and their order alone tells them apart.
"""

import re
from collections.abc import Iterator, Mapping

from residual.conversion.keras_files import Stored
from residual.conversion.zoo import listed
from residual.weights import Weights

NORM_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
PARTS = {**NORM_PARTS, "kernel": "weight", "bias": "bias"}
NUMBERED = re.compile(r"layers/(?P<group>(?P<kind>[a-z0-9_]+?)(?:_(?P<number>\d+))?)/vars/(?P<place>\d+)")
BLOCK = re.compile(r"conv(\d+)_block(\d+)_(?:(\d)_(conv|bn)|(preact)_bn)")
ANCIENT = re.compile(r"(?:^|/)(res\d[a-z]\d*_branch|bn_conv1|fc1000)")
HEAD = "predictions"


def tensors(stored: Stored) -> dict[tuple[str, str], str]:
    """(layer, our part) -> place in the file, layers under their Keras names. ValueError where a place says neither."""
    if any(ANCIENT.search(place) for place in stored.tensors):
        raise ValueError(
            "it has the layer names of Keras before 2.2.5 (res2a_branch2a), whose ResNet50 had another epsilon and pooling; "
            "save it again from a current keras.applications.ResNet50"
        )
    if any(place.startswith("layers/") for place in stored.tensors):
        return _numbered(stored)
    found: dict[tuple[str, str], str] = {}
    for place in stored.tensors:
        layer, _, last = place.removeprefix("model_weights/").partition("/")
        part = last.rpartition("/")[2].partition(":")[0]
        if part not in PARTS:
            raise ValueError(f"{place} in it belongs to no layer of a ResNet")
        found[layer, PARTS[part]] = place
    return found


def head_of(shapes: Mapping[tuple[str, str], tuple[int, ...]]) -> str:
    """The name of the one dense layer. ValueError where there is none or several."""
    dense = [layer for (layer, part), shape in shapes.items() if part == "weight" and len(shape) == 2]
    if not dense:
        raise ValueError("it has no classifier: it was saved with include_top=False; save the network with its dense layer")
    if len(dense) > 1:
        raise ValueError(f"it has {len(dense)} dense layers ({listed(dense)}), where a ResNet has one")
    return dense[0]


def ours(layer: str, *, version: int, head: str = HEAD) -> str:
    """Our name of the layer that Keras Applications calls `layer`; "" where its ResNets have none."""
    fixed = {head: "fc", "conv1_conv": "conv1"} | ({"conv1_bn": "bn1"} if version == 1 else {"post_bn": "norm"})
    if layer in fixed:
        return fixed[layer]
    found = BLOCK.fullmatch(layer)
    if not found:
        return ""
    stage, block, number, kind, preact = found.groups()
    place = f"layer{int(stage) - 1}.{int(block) - 1}"
    if preact:
        return f"{place}.bn1" if version == 2 else ""
    if number == "0":
        return f"{place}.downsample.{int(kind == 'bn')}"
    return f"{place}.{kind}{int(number) + (version == 2 and kind == 'bn')}"


def _numbered(stored: Stored) -> dict[tuple[str, str], str]:
    places: dict[str, tuple[str, int, int]] = {}
    for place in stored.tensors:
        found = NUMBERED.fullmatch(place)
        if found and found["kind"] == "seed_generator":
            continue
        if not found or found["kind"] not in ("conv2d", "batch_normalization", "dense"):
            raise ValueError(f"{place} in it belongs to no layer of a ResNet")
        places[place] = (found["kind"], int(found["number"] or 0), int(found["place"]))
    groups = {place: place.rpartition("/vars/")[0] for place in places}
    names = stored.names
    if not all(group in names for group in groups.values()):
        order = _order(stored.tensors, places)
        names = {group: order.get(places[place][:2], "") for place, group in groups.items()}
    found_parts: dict[tuple[str, str], str] = {}
    for place, (kind, _, number) in places.items():
        parts = list(NORM_PARTS.values()) if kind == "batch_normalization" else ["weight", "bias"]
        if number >= len(parts) or not names[groups[place]]:
            raise ValueError(f"{place} in it belongs to no layer of a ResNet")
        found_parts[names[groups[place]], parts[number]] = place
    return found_parts


def _order(weights: Weights, places: Mapping[str, tuple[str, int, int]]) -> dict[tuple[str, int], str]:
    """(class, number) -> layer, for files of Keras before 3.10, which do not tell names: from the kernels' sizes alone."""
    sizes = {number: weights[place].shape[0] for place, (kind, number, part) in places.items() if kind == "conv2d" and part == 0}
    if sorted(sizes) != list(range(len(sizes))) or len(sizes) < 4:
        raise ValueError("its convolutions are not those of a ResNet")
    norms = {number for kind, number, _ in places.values() if kind == "batch_normalization"}
    version = 1 if len(norms) == len(sizes) else 2
    convs, normed = ["conv1_conv"], ["conv1_bn"] if version == 1 else []
    for block, shortcut in _blocks([sizes[number] for number in range(len(sizes))]):
        after = [f"{block}_0"] if shortcut else []
        convs += [f"{name}_conv" for name in (f"{block}_1", f"{block}_2", *after, f"{block}_3")]
        before = [f"{block}_1_bn", f"{block}_2_bn"]
        normed += [*before, *(f"{name}_bn" for name in (*after, f"{block}_3"))] if version == 1 else [f"{block}_preact_bn", *before]
    normed += [] if version == 1 else ["post_bn"]
    found = {("conv2d", number): name for number, name in enumerate(convs)}
    found |= {("batch_normalization", number): name for number, name in enumerate(normed)}
    return found | {("dense", 0): HEAD}


def _blocks(sizes: list[int]) -> Iterator[tuple[str, bool]]:
    """Each bottleneck's name and whether it has a shortcut: 1x1, 3x3, [1x1,] 1x1 after the stem's 7x7."""
    stage, block, place = 1, 0, 1
    middles = [place for place, size in enumerate(sizes) if size == 3]
    for middle, following in zip(middles, [*middles[1:], len(sizes) + 1], strict=True):
        shortcut = following - middle == 4
        if middle != place + 1 or following - middle not in (3, 4):
            raise ValueError("its convolutions are not those of a ResNet of bottlenecks")
        stage, block, place = (stage + 1, 1, following - 1) if shortcut else (stage, block + 1, following - 1)
        yield f"conv{stage}_block{block}", shortcut
