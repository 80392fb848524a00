"""Depths are counted as the papers count them, and short numbers are rounded right."""

import pytest

from residual.describe import _short, depth, shape_table
from residual.variants import VARIANTS
from tests.nets import SMALL


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "plain34", "preact_resnet200"])
def test_depth_is_in_the_name(name: str) -> None:
    assert name.endswith(str(depth(VARIANTS[name])))


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("cifar_")])
def test_depth_of_the_cifar_nets(name: str) -> None:
    assert name.endswith((f"resnet{depth(VARIANTS[name])}", f"plain{depth(VARIANTS[name])}"))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.00 K"), (9_994, "9.99 K"), (9_996, "10.0 K"), (99_960, "100 K"), (269_722, "270 K"),
        (999_600, "1.00 M"), (11_689_512, "11.7 M"), (4_089_184_256, "4.09 G"), (123_456_789_012, "123 G"),
    ],
)  # fmt: skip
def test_short_numbers(number: int, text: str) -> None:
    assert _short(number) == text


def test_the_table_is_aligned() -> None:
    lines = shape_table("small", SMALL, (8, 9)).splitlines()
    rule = next(line for line in lines if set(line) == {"-"})
    assert lines.count(rule) == 2
    body = lines[lines.index(rule) + 1 : -3]
    assert all(len(line) == len(rule) for line in body)
    assert [line.split()[0] for line in body[:3]] == ["input", "conv1", "bn1"]
