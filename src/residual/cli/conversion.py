"""`residual convert`: weights of one library into a file of another, and the certificate that says how far the two lie apart."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from residual.cli.values import image_size
from residual.preprocessing import Preprocessing

if TYPE_CHECKING:
    from residual.conversion import Certificate

_QUIET = arg(help_behavior_hint="")
_SHOWN = 6  # pairs printed; the certificate has them all


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Read weights of any known library, write them for another, and prove that both compute the same.

    SOURCE is known by its content: state dicts of torchvision and timm, CIFAR checkpoints, folders of transformers, Keras Applications
    files, Gluon's .params, the chapter's nets, residual's own files and runs. TARGET.certificate.json is the proof.
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """A file of weights, a folder of transformers or a run."""
    target: Positional[Annotated[str, arg(metavar="TARGET")]]
    """What to write: a file, for transformers a folder."""
    to: Annotated[str, arg(metavar="FORMAT")] = "torchvision"
    """torchvision, timm (.pth or .safetensors by TARGET's suffix), transformers, keras, gluon or residual."""
    classes: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")] = ()
    """Names of the classes, in the order of the outputs."""
    mean: Annotated[tuple[float, ...], _QUIET] = ()
    """What is subtracted from pixels in [0, 1]: one number per channel."""
    std: Annotated[tuple[float, ...], _QUIET] = ()
    """What they are then divided by."""
    image_size: Annotated[str, arg(metavar="H[xW]", help_behavior_hint="")] = ""
    """Size of the pictures in pixels: 224 or 96x128."""
    stride_on: Annotated[Literal["conv1", "conv2"] | None, _QUIET] = None
    """Where bottlenecks carry their stride, for files that cannot say so: conv2 (torchvision) is assumed, conv1 is the 2015 paper's."""
    tolerance: float = 1e-4
    """How far logits may differ, as a share of the largest one; beyond it nothing is written."""
    json: Annotated[bool, _QUIET] = False
    """Print the certificate as JSON."""

    def run(self) -> int:
        from residual.conversion import convert

        cleaned = self._preprocessing()
        found = convert(
            self.source,
            self.target,
            self.to,
            classes=self.classes,
            preprocessing=cleaned,
            stride_on=self.stride_on,
            tolerance=self.tolerance,
        )
        if self.json:
            print(json.dumps(found.as_dict(), indent=1))
        else:
            _print(found)
        return 0

    def _preprocessing(self) -> Preprocessing | None:
        """What the options say, on top of what the source says; None where they say nothing."""
        size = image_size(self.image_size) if self.image_size else None
        if not (self.mean or self.std or size):
            return None
        from residual.conversion import read

        own = read(self.source).preprocessing
        if own is None:
            if not (self.mean and self.std and size):
                raise ValueError(f"{self.source} does not say how pictures are prepared: give --mean, --std and --image-size together.")
            return Preprocessing(size=size, channels=len(self.std), mean=self.mean, std=self.std)
        return replace(own, size=size or own.size, mean=self.mean or own.mean, std=self.std or own.std)


def _print(found: "Certificate") -> None:
    print(f"{found.source} ({found.source_format}) -> {found.target} ({found.target_format})")
    width = max(len(pair.ours) for pair in found.tensors[:_SHOWN])
    for pair in found.tensors[:_SHOWN]:
        print(f"  {pair.ours:<{width}}  {pair.source or '(none)'} -> {pair.target or '(none)'}  {'x'.join(map(str, pair.shape))}")
    if len(found.tensors) > _SHOWN:
        print(f"  and {len(found.tensors) - _SHOWN} more tensors")
    shape = "x".join(map(str, found.input_shape))
    print(f"Largest differences on {shape} standard normal numbers (seed {found.seed}), source against target read back:")
    for name, apart in found.stages.items():
        print(f"  {name:<10}{apart:.3g}")
    print(f"  {'logits':<10}{found.difference:.3g} of {found.largest_logit:.3g} (tolerance {found.tolerance:g} of that)")
    if found.library:
        print(f"  {'logits':<10}{found.library_difference:.3g} against {found.library}, which loaded the file with its strictest check")
    if found.preprocessing:
        cleaned = found.preprocessing
        size = "x".join(map(str, cleaned.size))
        numbers = (
            f"mean {cleaned.mean}, std {cleaned.std}" if len(cleaned.mean) == cleaned.channels else f"a mean per pixel, std {cleaned.std}"
        )
        print(f"Pictures: {size}, crop {cleaned.crop:g}, {numbers}")
    for note in found.notes:
        print(note)
    print(f"Certificate: {Path(found.target).name}.certificate.json")
