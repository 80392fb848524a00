"""How Gluon calls the tensors of a residual net: by its place in the zoo's net, by a prefix and a count, or by the chapter's order.

The counted names (`resnetv10_stage1_conv2_weight`) follow the order in which layers were made: a block's body first, then its shortcut.
"""

import re
from collections.abc import Mapping
from typing import Literal

from residual.conversion.zoo import listed
from residual.layers import Network, Norm
from residual.tensors import shapes
from residual.weights import Weights

Layout = Literal["v1", "v2", "chapter"]
PARTS = {"gamma": "weight", "beta": "bias"}
BACK = {"weight": "gamma", "bias": "beta"}
PLACE = re.compile(r"features\.(?P<place>\d+)(?:\.(?P<block>\d+)\.(?P<inside>.+))?")
COUNTED = re.compile(
    r"(?:.*?_)??(?:stage(?P<stage>\d+)_)?(?P<kind>conv|batchnorm|dense)(?P<number>\d+)_(?P<part>weight|bias|gamma|beta|running_mean|running_var)"
)
CHAPTER = re.compile(r"(?P<place>\d+)(?:\.(?P<block>\d+)\.(?P<inside>conv[123]|bn[12]))?")
BODY = re.compile(r"body\.(\d)")
V1_STEM, V2_STEM = {0: "conv1", 1: "bn1"}, {0: "norm0", 1: "conv1", 2: "bn1"}
FIRST_STAGE = {"v1": 4, "v2": 5, "chapter": 4}


def ours(tensors: Weights) -> tuple[Layout, dict[str, str]]:
    """The layout, and our name -> the file's name for every tensor. ValueError names what is not known."""
    bare = {re.sub(r"^(arg|aux):", "", name): name for name in tensors}
    layout: Layout
    if any(name.startswith("features.") for name in bare):
        layout = "v1" if any(".body." in name for name in bare) else "v2"
        found = {name: _placed(name, layout) for name in bare}
    elif bare and all(COUNTED.fullmatch(name) for name in bare):
        layout = "v2" if sum(_counts(name)[:2] == (0, "batchnorm") for name in bare) > 4 else "v1"
        found = _counted({name: tensors[bare[name]] for name in bare}, layout)
    else:
        layout = "chapter"
        flat = {name: _flat(name) for name in bare}
        last = max((int(place.partition(".")[0]) for place in flat.values() if place), default=0)
        found = {name: _chapter(flat[name], last) for name in bare}
    if unknown := [bare[name] for name, our in found.items() if not our]:
        raise ValueError(f"it has tensors that neither the zoo's resnets nor the chapter's net has: {listed(unknown)}")
    pairs = {our: bare[name] for name, our in found.items()}
    if len(pairs) != len(tensors):
        raise ValueError("several of its names mean the same tensor")
    return layout, pairs


def theirs(network: Network, *, version: int) -> dict[str, str]:
    """Our name -> the zoo's structural name, for every tensor a layer of `network` can have there, biases included."""
    found: dict[str, str] = {}
    for layer in network.layers():
        parts = {name.rpartition(".")[2] for name in shapes(layer)}
        if not parts:
            continue
        outside = _place_of(layer.name, version, len(network.stages))
        for part in parts | {"bias"}:
            found[f"{layer.name}.{part}"] = f"{outside}.{BACK.get(part, part) if isinstance(layer, Norm) else part}"
    return found


def _place_of(name: str, version: int, stages: int) -> str:
    """Where the zoo has our layer `name`."""
    stem = {ours: place for place, ours in (V1_STEM if version == 1 else V2_STEM).items()}
    if name in stem:
        return f"features.{stem[name]}"
    if found := re.fullmatch(r"layer(\d+)\.(\d+)\.(.+)", name):
        stage, block, inside = found.groups()
        place = f"features.{int(stage) - 1 + FIRST_STAGE[f'v{version}']}.{block}"
        if version == 2:
            return f"{place}.{inside.removesuffix('.0')}"
        kind, number = inside[:-1], inside[-1]
        return f"{place}.{inside}" if kind == "downsample." else f"{place}.body.{3 * (int(number) - 1) + (kind == 'bn')}"
    return {"fc": "output", "norm": f"features.{stages + FIRST_STAGE['v2']}"}.get(name, name)


def _placed(name: str, layout: Layout) -> str:
    """Our name for a structural name of the zoo; "" where there is none."""
    outside, _, part = name.rpartition(".")
    part = PARTS.get(part, part)
    if outside == "output":
        return f"fc.{part}"
    found = PLACE.fullmatch(outside)
    if not found:
        return ""
    place = int(found["place"])
    if found["block"] is None:
        stem = V1_STEM if layout == "v1" else V2_STEM
        last = "norm" if layout == "v2" and place > FIRST_STAGE["v2"] else ""
        layer = stem.get(place, last)
        return f"{layer}.{part}" if layer else ""
    inside = found["inside"]
    if layout == "v2":
        inside = "downsample.0" if inside == "downsample" else inside if re.fullmatch(r"(conv|bn)[123]", inside) else ""
    elif body := BODY.fullmatch(inside):
        number, kind = divmod(int(body[1]), 3)  # convolution, batch norm, ReLU and again
        inside = f"{('conv', 'bn')[kind]}{number + 1}" if kind < 2 else ""
    elif inside not in ("downsample.0", "downsample.1"):
        inside = ""
    return f"layer{place - FIRST_STAGE[layout] + 1}.{int(found['block'])}.{inside}.{part}" if inside else ""


def _counts(name: str) -> tuple[int, str, int, str]:
    """Stage (0: none), kind, number and part of a counted name."""
    found = COUNTED.fullmatch(name)
    assert found
    return int(found["stage"] or 0), found["kind"], int(found["number"]), PARTS.get(found["part"], found["part"])


def _counted(tensors: Weights, layout: Layout) -> dict[str, str]:
    convs: dict[int, dict[int, tuple[int, ...]]] = {}
    for name, value in tensors.items():
        stage, kind, number, part = _counts(name)
        if kind == "conv" and part == "weight":
            convs.setdefault(stage, {})[number] = value.shape
    stem = {("conv", 0): "conv1", ("dense", 0): "fc"}
    norms = {("batchnorm", 0): "bn1"} if layout == "v1" else {("batchnorm", i): name for i, name in enumerate(("norm0", "bn1", "norm"))}
    found: dict[str, str] = {}
    for name in tensors:
        stage, kind, number, part = _counts(name)
        layer = _inside(stage, kind, number, convs=convs.get(stage, {}), layout=layout) if stage else (stem | norms).get((kind, number), "")
        found[name] = f"{layer}.{part}" if layer else ""
    return found


def _inside(stage: int, kind: str, number: int, *, convs: Mapping[int, tuple[int, ...]], layout: Layout) -> str:
    """Our layer for the `number`th convolution or batch norm of a stage, whose convolutions have the shapes `convs`."""
    if kind not in ("conv", "batchnorm") or len(convs.get(0, ())) != 4:
        return ""
    per_block = 3 if convs[0][2] == 1 else 2
    shortcut = len(convs) % per_block == 1 and (kind == "conv" or layout == "v1")
    if shortcut and number == per_block:
        return f"layer{stage}.0.downsample.{int(kind == 'batchnorm')}"
    block, place = divmod(number - (shortcut and number > per_block), per_block)
    return f"layer{stage}.{block}.{'conv' if kind == 'conv' else 'bn'}{place + 1}"


def _chapter(flat: str, last: int) -> str:
    """Our name in the chapter's net for a flat name, such as `4.0.conv1.weight`; its layer `last` is the classifier."""
    outside, _, part = flat.rpartition(".")
    part, found = PARTS.get(part, part), CHAPTER.fullmatch(outside)
    if not found:
        return ""
    place = int(found["place"])
    if found["block"] is None:
        layer = "fc" if place == last else V1_STEM.get(place, "")
        return f"{layer}.{part}" if layer else ""
    inside = "downsample.0" if found["inside"] == "conv3" else found["inside"]
    return f"layer{place - FIRST_STAGE['chapter'] + 1}.{int(found['block'])}.{inside}.{part}"


def _flat(name: str) -> str:
    """The name in the flat form, whose first number counts the stem's four layers singly, also for the chapter's class (`net.0.0.weight`).

    "" where it begins with no number.
    """
    if found := re.match(r"net\.(\d+)\.(.+)", name):
        return found[2] if found[1] == "0" else f"{int(found[1]) + FIRST_STAGE['chapter'] - 1}.{found[2]}"
    return name if re.match(r"\d+\.", name) else ""
