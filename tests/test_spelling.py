"""The nearest right name, and silence where nothing is near."""

import pytest

from residual.spelling import nearest

NAMES = ("resnet50", "resnet101", "cifar_resnet20", "relu-only-preact", "--image-size")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resent50", "resnet50"),
        ("ResNet50", "resnet50"),
        ("resnet-101", "resnet101"),
        ("CIFAR-ResNet20", "cifar_resnet20"),
        ("relu only preact", "relu-only-preact"),
        ("--imagesize", "--image-size"),
    ],
)
def test_nearest_is_named(wrong: str, right: str) -> None:
    assert nearest(wrong, NAMES) == f" Did you mean {right!r}?"


@pytest.mark.parametrize("wrong", ["", "vgg", "zzzzzzzz"])
def test_nothing_near_is_no_advice(wrong: str) -> None:
    assert nearest(wrong, NAMES) == ""


def test_no_choices() -> None:
    assert nearest("resnet50", ()) == ""


def test_choices_may_be_any_iterable() -> None:
    assert nearest("resnet5", iter(NAMES)) == " Did you mean 'resnet50'?"
