"""Taking blocks out of a trained network, or putting them in another order: a plan in, another plan or other weights out.

The surprising thing: nothing is trained or patched. A block without its branch is a block whose branch is its old shortcut, and a new
order of blocks is other names for the same tensors; so every backend, and the NumPy reference, computes the damaged network.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from residual.layers import Block, Conv, Layer, Network, Norm, PadChannels
from residual.tensors import manifest
from residual.weights import Weights

Unit = Literal["block", "layer"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that can be removed: a block, or in a plain network also a single convolution with its batch norm.

    Attributes:
        keeps_shape: whether the block puts out the shape it takes in; else its projection or padding stays.
    """

    name: str
    unit: Unit
    keeps_shape: bool


def removable(network: Network) -> tuple[Part, ...]:
    """What can be removed, in the order of the forward pass.

    Of a residual network every block: its shortcut stays. Of a plain one the blocks, and in the original order also the layers, that put
    out the shape they take in: nothing else would fit together.
    """
    found: list[Part] = []
    for block in network.blocks():
        same = _keeps_shape(block.branch) if not block.shortcut else False
        if block.shortcut is not None or same:
            found.append(Part(name=block.name, unit="block", keeps_shape=same))
        if block.shortcut is None and network.architecture.order == "original":
            layers = (layer for layer in block.branch if isinstance(layer, Conv) and _keeps_shape((layer,)))
            found += [Part(name=layer.name, unit="layer", keeps_shape=True) for layer in layers]
    return tuple(found)


def without(network: Network, names: Collection[str]) -> Network:
    """The network without the parts called `names`. ValueError for a name that `removable` does not give.

    Of a block its shortcut is left: after(shortcut(before(x))). Of a plain network's block only `after` is left, which is a ReLU.
    """
    known = {part.name for part in removable(network)}
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} cannot be removed from this network; what can: {', '.join(sorted(known)) or 'nothing'}.")
    stages = tuple(replace(stage, blocks=tuple(_cut(block, names) for block in stage.blocks)) for stage in network.stages)
    return replace(network, stages=stages)


def remaining(network: Network, weights: Weights) -> Weights:
    """Those of `weights` that `network` has."""
    return {name: weights[name] for name in manifest(network)}


def interchangeable(network: Network) -> tuple[tuple[str, ...], ...]:
    """Groups of at least two blocks of one stage that are alike in all but their names, so that they can change places."""
    groups: list[tuple[str, ...]] = []
    for stage in network.stages:
        alike: dict[Block, list[str]] = {}
        for block in stage.blocks:
            alike.setdefault(_nameless(block), []).append(block.name)
        groups += [tuple(names) for names in alike.values() if len(names) > 1]
    return tuple(groups)


def reordered(network: Network, weights: Weights, source: dict[str, str]) -> Weights:
    """The weights with the block `source[name]` in the place of the block `name`; places that are not named keep theirs.

    ValueError where a block would be lost or put in an unlike place.
    """
    place_of = {name: group for group in interchangeable(network) for name in group}
    for name, other in source.items():
        if name != other and (name not in place_of or other not in place_of[name]):
            raise ValueError(f"The block {other!r} cannot stand in the place of {name!r}.")
    if sorted(source) != sorted(source.values()):
        raise ValueError("A new order must hold each of its blocks once.")
    found = dict(weights)
    for name, other in source.items():
        for tensor in weights:
            if tensor.startswith(f"{name}."):
                found[tensor] = weights[f"{other}.{tensor.removeprefix(f'{name}.')}"]
    return found


def kendall_tau(order: Sequence[int]) -> float:
    """Kendall's rank correlation of a permutation with its sorted order: 1 where nothing moved, -1 where all is reversed."""
    pairs = [(i, j) for i in range(len(order)) for j in range(i + 1, len(order))]
    if not pairs:
        return 1.0
    return sum(1 if order[i] < order[j] else -1 for i, j in pairs) / len(pairs)


def _keeps_shape(layers: Sequence[Layer]) -> bool:
    convs = [layer for layer in layers if isinstance(layer, Conv | PadChannels)]
    if not all(isinstance(layer, Conv) and layer.stride == 1 for layer in convs):
        return False
    first, last = convs[0], convs[-1]
    return isinstance(first, Conv) and isinstance(last, Conv) and first.in_channels == last.out_channels


def _cut(block: Block, names: Collection[str]) -> Block:
    if block.name in names:
        return replace(block, branch=block.shortcut or (), shortcut=None, drop_path=0.0)
    left: list[Layer] = []
    gone = False
    for layer in block.branch:
        gone = layer.name in names or (gone and isinstance(layer, Norm))  # a removed convolution takes its batch norm along
        left += [] if gone else [layer]
    return replace(block, branch=tuple(left)) if len(left) < len(block.branch) else block


def _nameless(block: Block) -> Block:
    """The block with names that do not tell where it stands."""

    def plain(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        return tuple(replace(layer, name=layer.name.removeprefix(f"{block.name}.")) for layer in layers)

    shortcut = None if block.shortcut is None else plain(block.shortcut)
    return Block(
        name="", before=plain(block.before), branch=plain(block.branch), shortcut=shortcut, after=plain(block.after), drop_path=0.0
    )


__all__ = ["Part", "interchangeable", "kendall_tau", "remaining", "removable", "reordered", "without"]
