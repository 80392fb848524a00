"""The proof of a conversion: the tensors paired, and how far the outputs of source and target lie apart on one fixed input.

The surprising thing: the target is read back from the disk by its own reader before anything is said of it, and by its own library
too where that is installed.
"""

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.architecture import Architecture
from residual.backends import open_backend
from residual.conversion.formats import format_module
from residual.conversion.found import Found
from residual.conversion.libraries import computed
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.tensors import manifest
from residual.weights import write_whole

SEED, COUNT = 2015, 2
_SIDES = {"cifar": (32, 33), "patch": (32, 33), "dense-patch": (32, 33)}
_PACKAGES = ("residual", "torch", "torchvision", "timm", "transformers", "keras", "tensorflow", "jax", "mxnet", "numpy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One tensor under our name and under the source's and the target's; `shape` is ours."""

    ours: str
    source: str
    target: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was compared when `source` became `target`; differences are the largest absolute ones.

    Attributes:
        input_shape: N C H W of the pictures: standard normal numbers from NumPy's default generator with `seed`.
        difference: of the logits, between the source in our PyTorch backend and the target read back into it.
        stages: the same for the output of each stage.
        library: the target's own library, whose own network took the file with its strictest check; "" where it is not installed.
        library_difference: between the source's logits and those that network computed.
        tolerance: what a difference of logits may be, as a share of `largest_logit`.
        preprocessing: what belongs to the weights; None where nobody said.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    tensors: tuple[Pair, ...]
    seed: int
    input_shape: tuple[int, ...]
    largest_logit: float
    difference: float
    stages: dict[str, float]
    library: str
    library_difference: float | None
    tolerance: float
    architecture: Architecture
    classes: tuple[str, ...]
    preprocessing: Preprocessing | None
    notes: tuple[str, ...]
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {"format_version": 1, **dataclasses.asdict(self)}

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps(self.as_dict(), indent=1).encode())


def certificate_path(target: Path) -> Path:
    """Beside the target, its name with .certificate.json after it."""
    return target.with_name(f"{target.name}.certificate.json")


def certify(found: Found, written: Path, to: str, *, names: tuple[str, str], tolerance: float, notes: tuple[str, ...]) -> Certificate:
    """The comparison of `found` with the file at `written`; `names` are what source and target are called in it.

    ValueError where the logits differ by more than `tolerance` times the largest of them.
    """
    back = format_module(to).read(written)
    images = _images(found.architecture)
    source, target = _outputs(found, images), _outputs(back, images)
    theirs = computed(to, written, found.architecture, images)
    largest = float(np.abs(source["logits"]).max())
    differences = {name: _apart(value, target[name]) for name, value in source.items() if name in target}
    certificate = Certificate(
        source=names[0], target=names[1], source_format=found.format, target_format=to, tensors=_pairs(found, back), seed=SEED,
        input_shape=images.shape, largest_logit=largest, difference=differences.pop("logits"), stages=differences,
        library=theirs.library if theirs else "", library_difference=_apart(source["logits"], theirs.logits) if theirs else None,
        tolerance=tolerance, architecture=found.architecture, classes=found.classes, preprocessing=found.preprocessing,
        notes=(*found.notes, *notes), versions=_versions(),
    )  # fmt: skip
    _check(certificate)
    return certificate


def _check(certificate: Certificate) -> None:
    allowed = certificate.tolerance * certificate.largest_logit
    for whose, apart in (("read back", certificate.difference), (f"in {certificate.library}", certificate.library_difference)):
        if apart is not None and not apart <= allowed:
            raise ValueError(
                f"{certificate.target} was not written: {whose}, its logits differ from those of {certificate.source} by {apart:.3g}, "
                f"more than the tolerance {certificate.tolerance:g} of the largest logit {certificate.largest_logit:.3g}."
            )


def _images(arch: Architecture) -> npt.NDArray[np.float32]:
    sides = _SIDES.get(arch.stem, (64, 65))
    return np.random.default_rng(SEED).standard_normal((COUNT, arch.in_channels, *sides), np.float32)


def _outputs(found: Found, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Logits and the output of each stage, by our PyTorch backend."""
    backend, network = open_backend("torch"), plan(found.architecture)
    model = backend.build(network, weights=found.weights)
    return backend.forward(model, images, [stage.name for stage in network.stages])  # type: ignore[no-any-return]


def _apart(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    return float(np.abs(first - second).max()) if first.shape == second.shape else float("inf")


def _pairs(found: Found, back: Found) -> tuple[Pair, ...]:
    shapes = manifest(plan(found.architecture))
    return tuple(Pair(ours=n, source=found.pairs.get(n, ""), target=back.pairs.get(n, ""), shape=shape) for n, shape in shapes.items())


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
