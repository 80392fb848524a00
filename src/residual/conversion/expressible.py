"""What another library's network can have: a field that it cannot is refused by its name."""

from collections.abc import Mapping
from typing import Any

from residual.architecture import Architecture
from residual.weights import SavedModel

_WHY = {
    "stride_on": "it would hold the same tensors and compute another function",
    "bn_epsilon": "the file would not say so, and the network would compute another function",
    "pool_padding": "the file would not say so, and the network would compute another function",
}


def check_fields(library: str, arch: Architecture, wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """Nothing where each field of `arch` has one of the values `wanted`. ValueError names the first one that has not."""
    for name, choices in wanted.items():
        value = getattr(arch, name)
        if value not in choices:
            why = f": {_WHY[name]}" if name in _WHY else ""
            have = " or ".join(map(repr, choices))
            raise ValueError(f"{library} cannot hold this network: {name} is {value!r}, and there it is always {have}{why}.")


def training_notes(library: str, saved: SavedModel) -> tuple[str, ...]:
    """Sentences on what the network has only in training, or beside it, and a state dict does not say."""
    arch, notes = saved.architecture, []
    for name in ("dropout", "drop_path"):
        if getattr(arch, name):
            notes.append(f"{name}={getattr(arch, name)} acts in training only; a file for {library} does not hold it.")
    if arch.bn_momentum != 0.1:
        notes.append(f"bn_momentum={arch.bn_momentum} acts in training only; a file for {library} does not hold it.")
    if library != "transformers" and (saved.classes or saved.preprocessing):
        notes.append(f"A file for {library} holds neither class names nor preprocessing: the certificate does.")
    return tuple(notes)
