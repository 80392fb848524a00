"""A trained network made deeper without changing what it computes: the new blocks start as the identity.

The surprising thing: only the last layer of each new branch is zero. All its other layers have first values, so that it learns at once.
Source: He et al. 2015, section 1 (the identity as a solution by construction); 2016, section 3.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from residual.architecture import Architecture
from residual.backends import open_backend
from residual.layers import Block, Conv, Network, Norm
from residual.plan import plan
from residual.study.inception import renamed
from residual.tensors import shapes
from residual.variants import architecture
from residual.weights import SavedModel, Weights, initialise

TOLERANCE = 1e-5
_FREE = ("depths", "in_channels", "num_classes", "initialisation", "zero_last_gamma", "dropout", "drop_path", "bn_momentum")
_SIDE = 64  # of the pictures that old and new are compared on, where the model does not say what it takes


@dataclass(frozen=True, kw_only=True)
class Grown:
    """A deeper model that computes what the old one does.

    Attributes:
        added: names of the new blocks.
        difference: the largest between old and new logits, on `pictures` random pictures.
        parameters: trained and running values of the old and of the new model.
    """

    saved: SavedModel
    added: tuple[str, ...]
    difference: float
    pictures: int
    parameters: tuple[int, int]


def target(arch: Architecture, to: str) -> Architecture:
    """The description of the deeper net: `to` is a variant of the same family, or blocks per stage such as 3,4,6,3.

    ValueError where it is of another family, or not deeper in any stage.
    """
    if all(part.strip().isdigit() for part in to.split(",")):
        return _checked(arch, replace(arch, depths=tuple(int(part) for part in to.split(","))), to)
    wanted = architecture(to)
    for field in fields(Architecture):
        if field.name not in _FREE and getattr(wanted, field.name) != getattr(arch, field.name):
            told = f"{field.name}={getattr(wanted, field.name)!r}, and the model {getattr(arch, field.name)!r}"
            raise ValueError(f"The model cannot grow into {to}, which has {told}: only the number of blocks may differ.")
    return _checked(arch, replace(arch, depths=wanted.depths), to)


def grown(saved: SavedModel, to: Architecture, *, seed: int = 0, pictures: int = 4) -> Grown:
    """The model with the blocks that `to` has more of; their first values are of `seed`.

    ValueError where a new block cannot be the identity, or where the logits differ by more than 1e-5 nevertheless.
    """
    _check_identity(saved.architecture)
    old, new = plan(saved.architecture), plan(to)
    origin = _origins(old, new)
    weights = deepened(new, origin, saved.weights, seed=seed)
    found = replace(saved, architecture=to, weights=weights)
    difference = _difference(saved, found, pictures)
    if not difference <= TOLERANCE:
        raise ValueError(f"The deeper model does not compute what the old one does: its logits differ by up to {difference:.1e}.")
    return Grown(
        saved=found, added=tuple(name for name, source in origin.items() if source is None), difference=difference, pictures=pictures,
        parameters=(_count(saved.weights), _count(weights)),
    )  # fmt: skip


def deepened(network: Network, origin: dict[str, str | None], weights: Weights, *, seed: int = 0) -> Weights:
    """Weights of `network`: its block takes those of the block `origin[name]`, or becomes the identity where that is None."""
    found = initialise(network, seed)
    for layer in (*network.stem, *network.head):
        found.update({name: weights[name].copy() for name in shapes(layer)})
    for block in network.blocks():
        source = origin[block.name]
        for layer in block.layers():
            for name in shapes(layer):
                if source is not None:
                    found[name] = weights[source + name.removeprefix(block.name)].copy()
        if source is None:
            for name in shapes(_last(block)):
                if not name.rpartition(".")[2].startswith("running"):
                    found[name] = np.zeros_like(found[name])
    return found


def _last(block: Block) -> Conv | Norm:
    """The layer whose zeros silence the branch: its last norm, or in a pre-activation net its last convolution."""
    return [layer for layer in block.branch if isinstance(layer, Conv | Norm)][-1]


def _check_identity(arch: Architecture) -> None:
    if arch.shortcut == "none":
        raise ValueError(
            "A plain network cannot grow: without a shortcut a new block would have to copy its input by its convolutions, and in training "
            "batch norm would change even that, so what the network has learned would be lost."
        )
    if arch.shortcut == "projection-all":
        raise ValueError("A network with shortcut='projection-all' cannot grow: its new blocks would have a projection, and no identity.")
    if arch.order == "bn-after-addition":
        raise ValueError("A network with order='bn-after-addition' cannot grow: its batch norm after the addition is no identity.")
    if arch.order == "relu-before-addition":
        raise ValueError("A network with order='relu-before-addition' cannot grow: a ReLU over a silent branch never passes a gradient.")


def _checked(arch: Architecture, wanted: Architecture, to: str) -> Architecture:
    told = f"{to} has {'-'.join(map(str, wanted.depths))} blocks a stage, and the model {'-'.join(map(str, arch.depths))}"
    if any(new < old for new, old in zip(wanted.depths, arch.depths, strict=True)):
        raise ValueError(f"A model can only grow: {told}.")
    if wanted.depths == arch.depths:
        raise ValueError(f"There is nothing to grow: {told}.")
    return wanted


def _origins(old: Network, new: Network) -> dict[str, str | None]:
    """New block -> the old block it is, or None. Old blocks keep their place; one that carries the stride at the end stays at the end."""
    found: dict[str, str | None] = {}
    for before, after in zip(old.stages, new.stages, strict=True):
        kept = list(before.blocks)
        last = [kept.pop()] if new.architecture.stride_block == "last" and len(kept) > 1 else []
        added = len(after.blocks) - len(kept) - len(last)
        sources: list[Block | None] = [*kept, *[None] * added, *last]
        for block, source in zip(after.blocks, sources, strict=True):
            if source is not None and renamed(source, block.name) != replace(block, drop_path=source.drop_path):
                raise ValueError(f"{source.name} would change its shape as {block.name}: this stage cannot grow.")
            if source is None and (block.shortcut != () or block.before):
                raise ValueError(f"The new block {block.name} would have no identity for its shortcut: this stage cannot grow.")
            found[block.name] = None if source is None else source.name
    return found


def _difference(old: SavedModel, new: SavedModel, pictures: int) -> float:
    """The largest difference of the logits on random pictures of the size that the model takes."""
    size = old.preprocessing.size if old.preprocessing else (_SIDE, _SIDE)
    x = np.random.default_rng(0).standard_normal((pictures, old.architecture.in_channels, *size), np.float32)
    backend, logits = open_backend("torch"), []
    for saved in (old, new):
        model = backend.build(plan(saved.architecture), weights=saved.weights)
        logits.append(backend.forward(model, x)["logits"])
    return float(np.abs(logits[0] - logits[1]).max())


def _count(weights: Weights) -> int:
    return sum(value.size for value in weights.values())


__all__ = ["TOLERANCE", "Grown", "deepened", "grown", "target"]
