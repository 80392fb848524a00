"""An architecture is found again from the names and shapes of its tensors alone, up to what they cannot show."""

from dataclasses import replace

import pytest

from residual.architecture import Architecture
from residual.conversion.inferred import STRIDE_NOTE, inferred
from residual.plan import plan
from residual.tensors import manifest
from residual.variants import VARIANTS
from tests.nets import SMALL, scaled_down

WIDE_STEPS = Architecture(
    depths=(2, 1, 2, 3), inner_widths=(64, 64, 128, 128), out_widths=(64, 64, 128, 128), strides=(2, 1, 2, 1), num_classes=5
)  # fmt: skip
NETS = {
    **{name: arch for name, arch in VARIANTS.items() if arch.order == "original" and arch.shortcut != "none"},
    **{f"{name}, scaled down": scaled_down(VARIANTS[name]) for name in ("resnet18", "cifar_resnet20", "se_resnet50", "resnet50d")},
    "strides where no width changes": WIDE_STEPS,
    "a strided first stage": replace(VARIANTS["resnet18"], strides=(2, 2, 2, 2)),
    "option C": replace(VARIANTS["resnet34"], shortcut="projection-all"),
    "option C, bottlenecks": replace(VARIANTS["resnet50"], shortcut="projection-all"),
    "no step at all": replace(SMALL, inner_widths=(4, 4), out_widths=(4, 4), strides=(1, 1)),
    "a patch": replace(VARIANTS["resnet18"], stem="patch"),
    "grouped 3x3": replace(VARIANTS["resnet18"], groups=4),
    "wide grey": replace(VARIANTS["resnext50_32x4d"], in_channels=1, num_classes=2),
}  # fmt: skip
UNSEEN = {"stride_on": "conv2", "initialisation": "he"}


@pytest.mark.parametrize("name", NETS)
def test_what_the_tensors_show(name: str) -> None:
    arch = NETS[name]
    found, notes = inferred(manifest(plan(arch)), {})
    assert found == replace(arch, **UNSEEN)
    assert (STRIDE_NOTE in notes) == (arch.block == "bottleneck")
    assert any("option A" in note for note in notes) == (arch.shortcut == "pad")
    assert any("no max pool" in note for note in notes) == (arch.stem == "cifar")
    assert any("every second pixel (stem=" in note for note in notes) == (arch.stem == "patch")


def test_what_the_format_says_goes_first() -> None:
    found, notes = inferred(manifest(plan(VARIANTS["resnet50_v1"])), {"stride_on": "conv1"})
    assert found == VARIANTS["resnet50_v1"]
    assert notes == ()
