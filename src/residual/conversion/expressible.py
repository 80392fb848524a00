"""What another library's network can have: a field that it cannot is refused by its name.

A field that a network makes no use of, such as the place of a bottleneck's stride in a net of basic blocks, is held by any library.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from residual.architecture import PREACT, Architecture
from residual.weights import SavedModel

Choices = Mapping[str, tuple[Any, ...]]
# what trains a net but does not change what it computes
_TRAINING_ONLY = ("bn_momentum", "dropout", "drop_path", "zero_last_gamma", "initialisation")
_WHY = {
    "stride_on": "it would hold the same tensors and compute another function",
    "bn_epsilon": "the file would not say so, and the network would compute another function",
    "pool_padding": "the file would not say so, and the network would compute another function",
}


def only(wanted: Architecture, *, free: Collection[str]) -> Choices:
    """Every field of `wanted` as its one choice, but for the fields `free` and those of training."""
    names = [field.name for field in fields(Architecture) if field.name not in {*_TRAINING_ONLY, *free}]
    return {name: (getattr(wanted, name),) for name in names}


def misfit(arch: Architecture, choices: Choices) -> str:
    """The first field of `arch` that has none of the values `choices`, as a clause; "" where there is none."""
    unused = _unused(arch)
    for name, values in choices.items():
        value = getattr(arch, name)
        if name not in unused and value not in values:
            why = f": {_WHY[name]}" if name in _WHY else ""
            return f"{name} is {value!r}, and there it is always {' or '.join(map(repr, values))}{why}"
    return ""


def check_fields(library: str, arch: Architecture, choices: Choices) -> None:
    """Nothing where each field of `arch` has one of the values `choices`. ValueError names the first one that has not."""
    if reason := misfit(arch, choices):
        raise ValueError(f"{library} cannot hold this network: {reason}.")


def training_notes(library: str, saved: SavedModel) -> tuple[str, ...]:
    """Sentences on what the network has only in training, or beside it, and a file for `library` does not hold."""
    arch, notes = saved.architecture, []
    for name, absent in (("dropout", 0), ("drop_path", 0), ("bn_momentum", 0.1)):
        if getattr(arch, name) != absent:
            notes.append(f"{name}={getattr(arch, name)} acts in training only; a file for {library} does not hold it.")
    if library != "transformers" and (saved.classes or saved.preprocessing):
        notes.append(f"A file for {library} holds neither class names nor preprocessing: the certificate does.")
    return tuple(notes)


def _unused(arch: Architecture) -> set[str]:
    unused = set()
    if arch.block == "basic":
        unused.add("stride_on")
    if arch.order in PREACT:
        unused.add("shortcut_norm")
    if arch.preact_start != "block":  # what is pooled then comes out of a ReLU
        unused.add("pool_padding")
    return unused
