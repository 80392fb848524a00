"""The nets that `default` sizes by, from the fastest to the widest, for the pictures there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from residual.architecture import Architecture, Order, Stem

SMALL = 64  # pictures up to this side keep their size
MANY = 20_000  # pictures from which a few passes are enough
_WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128)  # multiples of 8: others are slower for their size
_PATCHES = 32  # filters of the first layer where it looks at patches: all 16 components of grey ones, and their negatives
_Net = tuple[tuple[int, ...], tuple[int, ...], Stem, float]  # widths, strides, stem, and the passes from which it beats the one before it
_COARSE: tuple[_Net, ...] = (  # for many small pictures
    ((16, 32), (2, 2), "patch", 0.0), ((16, 32, 64), (2, 2, 2), "patch", 0.1),
)  # fmt: skip
_GREY: tuple[_Net, ...] = (  # behind them
    ((32, 64, 128), (2, 2, 2), "patch", 1.0),
    ((48, 96, 192), (2, 2, 2), "dense-patch", 3.0),
    ((64, 128, 256), (2, 2, 2), "dense-patch", 16.0),
    ((128, 256, 512), (2, 2, 2), "dense-patch", 24.0),
)
_COLOUR: tuple[_Net, ...] = (  # CIFAR-10 in 60 s: 81.4 % with 32-64-128/1-2-2, 80.0 % with 48-96-192/2-2-2
    ((32, 64, 128), (2, 2, 2), "patch", 2.0),
    ((32, 64, 128), (1, 2, 2), "patch", 3.5),
    ((48, 96, 192), (1, 2, 2), "patch", 4.0),
    ((64, 128, 256), (1, 2, 2), "patch", 6.0),
    ((128, 256, 512), (1, 2, 2), "patch", 8.0),
)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What choosing needs to know of the training pictures: their usual height and width, channels, count and class names."""

    size: tuple[int, int]
    channels: int
    count: int
    classes: Sequence[str]


def wanted_epochs(data: Data) -> int:
    """Passes that are enough where neither time nor epochs are given: measured on Fashion-MNIST, digits and flowers."""
    return 4 if data.count >= MANY else 30 if data.count >= 1_000 else 60


def in_patches(size: tuple[int, int]) -> bool:
    """Whether the first convolution looks at patches of 4x4."""
    return max(size) <= SMALL and min(size) >= 24


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A net, and the passes from which it is better than the one before it: with much data a narrow one soon learns no more."""

    architecture: Architecture
    worth: float


def ladder(size: tuple[int, int], data: Data, frozen: bool) -> tuple[Rung, ...]:
    """The nets that `default` sizes by, the fastest first: one block a stage.

    For many small pictures, grey or behind a frozen first layer, they are coarse: wider, at a quarter of the places or less, of grey ones
    later behind a first layer that looks at every place (docs/performance.md, "A frozen first layer" and what follows it).
    """
    large, patches = max(size) > SMALL, in_patches(size)
    whole = patches and (frozen or data.channels == 1)  # the first layer has room for what whitening finds
    whole_stem: Stem = "imagenet" if large else "patch" if patches else "cifar"
    rungs = list[Rung]()
    coarse = whole and data.count >= MANY
    order: Order = "preact" if coarse else "original"
    nets = (*_COARSE, *(_GREY if data.channels == 1 else _COLOUR)) if coarse else _full(large, data, whole_stem)
    for widths, strides, stem, worth in nets:
        arch = Architecture(
            depths=(1,) * len(widths), inner_widths=widths, out_widths=widths, strides=strides,
            stem=stem, stem_width=_PATCHES if whole and rungs else max(widths[0], 16), order=order,
            in_channels=data.channels, num_classes=len(data.classes),
        )  # fmt: skip
        rungs.append(Rung(architecture=arch, worth=worth))
    return tuple(rungs)


def _full(large: bool, data: Data, stem: Stem) -> Iterator[_Net]:
    """Nets of full resolution."""
    factors, strides = ((1, 2, 4, 8), (1, 2, 2, 2)) if large else ((1, 2, 4), (1, 2, 2))
    for width in _WIDTHS if data.count >= 5_000 else _WIDTHS[:3]:
        worth = wanted_epochs(data) * (min(1.0, width / 24) if data.count >= MANY else 1.0)
        yield tuple(width * factor for factor in factors), strides, stem, worth
