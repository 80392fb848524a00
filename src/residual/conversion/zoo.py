"""What the model zoos of Gluon and Keras have in common: widths told by shapes, and numbers that move between tensors.

A bias before a batch norm is a shift of its mean, and another epsilon a shift of its variance: both are the same function in
evaluation, so a library that lacks the one or fixes the other still takes the net.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise

import numpy as np

from residual.architecture import Architecture
from residual.layers import Conv, Network, Norm
from residual.tensors import manifest
from residual.weights import Weights

Shape = tuple[int, ...]
CONV = re.compile(r"layer(\d+)\.(\d+)\.conv(\d)\.weight")
LISTED = 5


def shaped(shapes: Mapping[str, Shape]) -> Architecture:
    """The depths and widths that shapes under our names tell; each stage but the first halves, and all else is as the defaults have it.

    ValueError where the stem, the head, a block or a convolution is missing.
    """
    for name, dimensions in (("conv1.weight", 4), ("fc.weight", 2)):
        if len(shapes.get(name, ())) != dimensions:
            raise ValueError(f"its {'stem' if dimensions == 4 else 'classifier'} is missing or has the shape {shapes.get(name)}")
    blocks: dict[int, dict[int, dict[int, Shape]]] = {}
    for name, shape in shapes.items():
        if found := CONV.fullmatch(name):
            if len(shape) != 4:
                raise ValueError(f"{name} has the shape {shape}, which no convolution has")
            stage, block, conv = map(int, found.groups())
            blocks.setdefault(stage, {}).setdefault(block, {})[conv] = shape
    if not blocks or sorted(blocks) != list(range(1, len(blocks) + 1)):
        raise ValueError(f"it has the stages {sorted(blocks)}")
    for stage, found_blocks in blocks.items():
        if sorted(found_blocks) != list(range(len(found_blocks))) or not found_blocks[0].keys() >= {1, 2}:
            raise ValueError(f"blocks or convolutions of stage {stage} are missing")
    firsts = [blocks[stage][0] for stage in sorted(blocks)]
    return Architecture(
        depths=tuple(len(blocks[stage]) for stage in sorted(blocks)),
        inner_widths=tuple(convs[1][0] for convs in firsts),
        out_widths=tuple(convs[max(convs)][0] for convs in firsts),
        strides=(1, *(2,) * (len(blocks) - 1)),
        block="bottleneck" if 3 in firsts[0] else "basic",
        stem_width=shapes["conv1.weight"][0],
        in_channels=shapes["conv1.weight"][1],
        num_classes=shapes["fc.weight"][0],
    )


def completed(network: Network, weights: Weights) -> Weights:
    """`weights` in the plan's order, with zeros for the biases of convolutions that a library leaves out; what is unknown stays."""
    biases = {f"{layer.name}.bias" for layer in network.layers() if isinstance(layer, Conv)}
    wanted = manifest(network)
    zeros = {name: np.zeros(shape, np.float32) for name, shape in wanted.items() if name in biases and name not in weights}
    found = {name: (weights | zeros)[name] for name in wanted if name in weights or name in zeros}
    return found | {name: value for name, value in weights.items() if name not in wanted}


def fitted(network: Network, weights: Weights, *, biased: Collection[str], epsilon: float) -> Weights:
    """The same function with biases in the convolutions `biased` only and with `epsilon` in every batch norm.

    ValueError where a bias that must go has no batch norm behind it.
    """
    found = dict(weights)
    norms = {conv.name: norm.name for conv, norm in _followed(network)}
    for layer in network.layers():
        name = layer.name
        if isinstance(layer, Norm) and layer.epsilon != epsilon:
            variance = found[f"{name}.running_var"].astype(np.float64) + layer.epsilon - epsilon
            found[f"{name}.running_var"] = variance.astype(np.float32)
        elif isinstance(layer, Conv) and name in biased:
            found.setdefault(f"{name}.bias", np.zeros(layer.out_channels, np.float32))
        elif isinstance(layer, Conv) and layer.bias:
            bias = found.pop(f"{name}.bias")
            if name in norms:
                found[f"{norms[name]}.running_mean"] = found[f"{norms[name]}.running_mean"] - bias
            elif bias.any():
                raise ValueError(f"conv_bias is True, but {name} can have no bias there, and no batch norm follows that could take it up")
    return found


def listed(names: Collection[str]) -> str:
    """The first few names, for a message."""
    shown = sorted(names)[:LISTED]
    return ", ".join(shown) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _followed(network: Network) -> Iterator[tuple[Conv, Norm]]:
    chains = [network.stem, *(chain for block in network.blocks() for chain in (block.branch, block.shortcut or ()))]
    for chain in chains:
        for layer, following in pairwise(chain):
            if isinstance(layer, Conv) and isinstance(following, Norm):
                yield layer, following
