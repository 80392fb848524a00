"""Weights of other libraries, read and written: `convert` turns any known file into any other, and proves that both compute the same.

The surprising thing: a target appears under its name only after it was read back and compared; until then it lies beside its place.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from residual.conversion.certificate import Certificate, certificate_path, certify
from residual.conversion.formats import READ, WRITTEN, read, writer
from residual.conversion.found import Found
from residual.conversion.inferred import STRIDE_NOTE
from residual.conversion.preprocessed import ABOUT
from residual.preprocessing import Preprocessing


def convert(
    source: str | Path, target: str | Path, to: str = "torchvision", *, classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None, stride_on: Literal["conv1", "conv2"] | None = None, tolerance: float = 1e-4,
) -> Certificate:  # fmt: skip
    """Writes the network in `source`, a file of any known format or a run, as `target`; gives the proof, also beside it as JSON.

    `to` is torchvision, timm (.pth or .safetensors by the target's suffix), transformers (a folder), keras, gluon or residual.
    `classes` and `preprocessing` go into the target and the certificate in place of the source's own. `stride_on` says where the
    bottlenecks of a file that cannot say so carry their stride.

    Raises:
        ValueError: the source is not known or damaged, the target's format cannot express the network, or the logits of the two differ by
            more than `tolerance` times the largest; nothing is written then.
    """
    source, target, module = Path(source), Path(target), writer(to)
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance!r}, but must lie between 0 and 1: it is a share of the largest logit.")
    _check_place(source, target, to)
    found = _changed(read(source), source, tuple(map(str, classes)), preprocessing, stride_on)
    saved = found.saved()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".residual-") as folder:
        beside = Path(folder) / target.name
        try:
            notes = module.write(saved, beside)
            certificate = certify(found, beside, to, names=(str(source), str(target)), tolerance=tolerance, notes=notes)
        except ValueError as error:
            raise ValueError(str(error).replace(str(beside), str(target))) from error
        certificate_path(target).unlink(missing_ok=True)  # that of a file which was there before
        if target.is_dir():
            target.rmdir()  # an empty one
        beside.replace(target)
        certificate.write(certificate_path(target))
    return certificate


def _check_place(source: Path, target: Path, to: str) -> None:
    if not target.parent.is_dir():
        raise ValueError(f"{target} cannot be written: there is no folder {target.parent}.")
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target} is the source itself: name another target.")
    if to == "transformers":
        if target.is_file() or (target.is_dir() and any(target.iterdir())):
            raise ValueError(f"{target} is there already: transformers' format is a folder, name a new one.")
    elif target.is_dir():
        raise ValueError(f"{target} is a folder: the format {to} is a file, name one.")
    suffixes = (".pth", ".pt", ".bin", ".safetensors")
    if to in ("torchvision", "timm") and target.suffix not in suffixes:
        raise ValueError(f"{target} must end in one of {', '.join(suffixes)}: the suffix says which kind of file {to} gets.")


def _changed(
    found: Found, source: Path, classes: tuple[str, ...], preprocessing: Preprocessing | None, stride_on: Literal["conv1", "conv2"] | None
) -> Found:
    """`found` with what the user says of it; sentences that are settled by that are left out."""
    notes = found.notes
    if stride_on is not None:
        if stride_on not in ("conv1", "conv2"):
            raise ValueError(f"stride_on is {stride_on!r}, but must be 'conv1' or 'conv2'.")
        if STRIDE_NOTE not in notes:
            raise ValueError(f"stride_on does not apply to {source}: it says itself where the stride is, or has no bottlenecks.")
        found = replace(found, architecture=replace(found.architecture, stride_on=stride_on))
        notes = tuple(note for note in notes if note != STRIDE_NOTE)
    if preprocessing is not None:
        found = replace(found, preprocessing=preprocessing)
        notes = tuple(note for note in notes if ABOUT not in note)
    return replace(found, classes=classes or found.classes, notes=notes)


__all__ = ["READ", "WRITTEN", "Certificate", "Found", "convert", "read"]
