"""What `residual reproduce` can be asked for: the papers' tables and figures, their numbers, and the protocols to make them.

The surprising thing: a table may hold nets that no variant is; they are asked for by what changes in one. Numbers are those of the
papers; where they print none, the study's claims stand in for them.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from residual.architecture import Architecture
from residual.spelling import nearest
from residual.study.reproduction import Published
from residual.variants import VARIANTS, architecture, spelled

Kind = Literal["count", "training", "degradation", "responses", "landscape"]
_HE2015 = "He et al. 2015, arXiv:1512.03385"
_HE2016 = "He et al. 2016, arXiv:1603.05027"
_LI = "Li et al. 2018, arXiv:1712.09913"
_D2L = "Zhang et al., Dive into Deep Learning, chapter Residual Networks"


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network of a table: `label` as the paper calls it, a variant, and what is changed in it."""

    label: str
    variant: str
    changes: tuple[tuple[str, Any], ...] = ()

    def architecture(self) -> Architecture:
        return architecture(self.variant, **dict(self.changes))

    def trained_as(self) -> str:
        """The name that this very network has among the variants, or the variant's name with the changes."""
        wanted = self.architecture()
        return next((name for name, arch in VARIANTS.items() if arch == wanted), spelled(self.variant, dict(self.changes)))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the numbers are made.

    Attributes:
        data: name in the catalog.
        changes: fields of the recipe.
        seeds: trainings of each net.
        points, pictures, planes: of the study of the trained nets; 0 pictures is all.
    """

    nets: tuple[Net, ...]
    data: str = ""
    recipe: str = ""
    changes: tuple[tuple[str, Any], ...] = ()
    seeds: int = 0
    points: int = 0
    pictures: int = 0
    planes: int = 0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A table or figure.

    Attributes:
        published: its numbers; empty where it prints none and claims are tested.
        counts: pictures of the data's training and test split, by which it is recognised beside its name.
        notes: sentences to read the result by.
    """

    name: str
    title: str
    source: str
    kind: Kind
    published: tuple[Published, ...]
    full: Protocol
    small: Protocol
    counts: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()


def target(name: str) -> Target:
    """The target `name`. ValueError with the nearest right name where there is none."""
    if name not in TARGETS:
        raise ValueError(f"There is no target {name!r} to reproduce.{nearest(name, TARGETS)} Targets: {', '.join(TARGETS)}.")
    return TARGETS[name]


def _nets(*variants: str) -> tuple[Net, ...]:
    return tuple(Net(label=label(name), variant=name) for name in variants)


def label(variant: str) -> str:
    """ "ResNet-20" for "cifar_resnet20", "plain-20" for "cifar_plain20"; other names stay."""
    for prefix, told in (("cifar_resnet", "ResNet-"), ("cifar_plain", "plain-")):
        if variant.startswith(prefix) and variant.removeprefix(prefix).isdigit():
            return told + variant.removeprefix(prefix)
    return variant


def _errors(values: dict[str, float], source: str) -> tuple[Published, ...]:
    return tuple(Published(what=f"{net}, test error", value=value, digits=2, unit="%", source=source) for net, value in values.items())


def _counted() -> tuple[Published, ...]:
    macs = {
        "ResNet-18, option A": 1.8, "ResNet-18, option B": 1.8, "ResNet-34, option A": 3.6, "ResNet-34, option B": 3.6, "ResNet-50": 3.8,
        "ResNet-101": 7.6, "ResNet-152": 11.3,
    }  # fmt: skip
    parameters = {
        "ResNet-18, option B": 11_689_512, "ResNet-34, option B": 21_797_672, "ResNet-50": 25_557_032, "ResNet-101": 44_549_160,
        "ResNet-152": 60_192_808,
    }  # fmt: skip
    sides = {"conv1": 112, "conv2_x": 56, "conv3_x": 28, "conv4_x": 14, "conv5_x": 7}
    table, zoo = f"{_HE2015}, table 1", "torchvision's documentation of the same networks (stride elsewhere, same parameters)"
    return (
        *(Published(what=f"{n}, multiply-adds", value=v, digits=1, unit="billion", source=table, rule="digits") for n, v in macs.items()),
        *(Published(what=f"{n}, parameters", value=v, digits=0, unit="", source=zoo, rule="digits") for n, v in parameters.items()),
        *(Published(what=f"{n}, output side", value=v, digits=0, unit="pixels", source=table, rule="digits") for n, v in sides.items()),
    )


_TABLE1 = Protocol(
    nets=(
        Net(label="ResNet-18, option A", variant="resnet18", changes=(("shortcut", "pad"),)),
        Net(label="ResNet-18, option B", variant="resnet18"),
        Net(label="ResNet-34, option A", variant="resnet34", changes=(("shortcut", "pad"),)),
        Net(label="ResNet-34, option B", variant="resnet34"),
        Net(label="ResNet-50", variant="resnet50_v1"),
        Net(label="ResNet-101", variant="resnet101_v1"),
        Net(label="ResNet-152", variant="resnet152_v1"),
    )
)
_LITTLE = (("image_size", 16), ("crop_padding", 2))
_SMALL = Protocol(nets=(), data="cifar10", recipe="paper-cifar", seeds=1)
_CIFAR = (50_000, 10_000)


def _small(nets: tuple[Net, ...], epochs: int, *, points: int = 0, pictures: int = 0, planes: int = 0) -> Protocol:
    """The same on pictures of a quarter of the area, for fewer epochs."""
    changes = (*_LITTLE, ("epochs", epochs))
    return replace(_SMALL, nets=nets, changes=changes, points=points, pictures=pictures, planes=planes)


_TABLE6 = Target(
    name="table6", title="CIFAR-10 test error by depth", source=f"{_HE2015}, table 6", kind="training", counts=_CIFAR,
    published=_errors(
        {"ResNet-20": 8.75, "ResNet-32": 7.51, "ResNet-44": 7.17, "ResNet-56": 6.97, "ResNet-110": 6.61, "ResNet-1202": 7.93},
        f"{_HE2015}, table 6",
    ),
    full=Protocol(
        nets=_nets(*(f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110))), data="cifar10", recipe="paper-cifar", seeds=5,
    ),
    small=_small(_nets("cifar_resnet20", "cifar_resnet32"), 4),
    notes=("ResNet-110: 6.61 is the paper's mean of 5 runs (standard deviation 0.16; the best run 6.43). ResNet-1202 is not trained.",),
)  # fmt: skip

_FIGURE6 = Target(
    name="fig6", title="Training error of plain and residual nets by depth", source=f"{_HE2015}, figure 6", kind="degradation",
    published=(), counts=_CIFAR, full=Protocol(nets=(), data="cifar10", recipe="paper-cifar", seeds=3),
    small=Protocol(nets=(), data="cifar10", recipe="paper-cifar", seeds=3),
    notes=("The paper prints no numbers here; it says that plain nets get worse with depth in training error, and residual nets better.",),
)  # fmt: skip

_FIGURE7 = Target(
    name="fig7", title="Standard deviation of layer responses", source=f"{_HE2015}, figure 7", kind="responses", published=(),
    full=Protocol(
        nets=_nets("cifar_resnet20", "cifar_resnet56", "cifar_resnet110", "cifar_plain20", "cifar_plain56"), data="cifar10",
        recipe="paper-cifar", seeds=3,
    ),
    small=_small(_nets("cifar_resnet8", "cifar_plain8", "cifar_resnet14", "cifar_plain14"), 2, pictures=1000), counts=_CIFAR,
    notes=("The paper prints no numbers here, and does not say on which pictures; these are training pictures.",),
)  # fmt: skip


def _orders() -> tuple[tuple[Net, ...], tuple[Published, ...]]:
    """The nets and numbers of table 2 of the 2016 paper: 110 basic layers, and 164 layers of bottlenecks."""
    told = {
        "original": (6.61, 5.93), "bn-after-addition": (8.17, 6.50), "relu-before-addition": (7.84, 6.14), "relu-only-preact": (6.71, 5.91),
        "preact": (6.37, 5.46),
    }  # fmt: skip
    nets, errors = [], {}
    for number, (depth, variant) in enumerate(((110, "cifar_resnet110"), (164, "cifar_preact_resnet164"))):
        for order, values in told.items():
            changes = () if (order == "original" and depth == 110) else (("order", order),)
            nets.append(Net(label=f"{order} {depth}", variant=variant, changes=changes))
            errors[f"{order} {depth}"] = values[number]
    return tuple(nets), _errors(errors, f"{_HE2016}, table 2")


_ORDERS, _ORDER_ERRORS = _orders()
_TABLE2 = Target(
    name="table2-2016", title="CIFAR-10 test error by the order of activations", source=f"{_HE2016}, table 2", kind="training",
    published=_ORDER_ERRORS, counts=_CIFAR, full=Protocol(nets=_ORDERS, data="cifar10", recipe="paper-cifar", seeds=5),
    small=_small(tuple(net for net in _ORDERS if net.label in ("original 110", "preact 110")), 1),
    notes=("The paper prints the median of 5 runs.",),
)  # fmt: skip

_CHAPTER = Net(label="ResNet-18 of the chapter", variant="resnet18_d2l")


def _chapter(what: str, value: float, digits: int) -> Published:
    return Published(what=f"{_CHAPTER.label}, {what}", value=value, digits=digits, unit="", source=f"{_D2L}, PyTorch")


_D2L_TARGET = Target(
    name="d2l", title="The chapter's ResNet-18 on Fashion-MNIST", source=_D2L, kind="training", counts=(60_000, 10_000),
    published=(
        _chapter("training loss", 0.012, 3), _chapter("training accuracy", 0.997, 3), _chapter("test accuracy", 0.893, 3),
        Published(
            what=f"{_CHAPTER.label}, pictures per second", value=5032.7, digits=1, unit="1/s", source=f"{_D2L}, PyTorch on one GPU",
            rule="machine",
        ),
    ),
    full=Protocol(nets=(_CHAPTER,), data="fashion-mnist", recipe="d2l", seeds=5),
    small=Protocol(
        nets=(_CHAPTER,), data="fashion-mnist", recipe="d2l", seeds=1, changes=(("image_size", 32), ("epochs", 1)),
    ),
    notes=(
        "The chapter's own output in MXNet: loss 0.011, train 0.997, test 0.894. Other readers' runs of the cell: test 0.915 to 0.922.",
        "Training loss and accuracy are of the last epoch, as its steps went by.",
    ),
)  # fmt: skip

_LANDSCAPE = Target(
    name="landscape", title="Loss landscapes with and without shortcuts", source=f"{_LI}, figure 5", kind="landscape",
    published=_errors(
        {"ResNet-20": 7.37, "plain-20": 8.18, "ResNet-56": 5.89, "plain-56": 13.31, "ResNet-110": 5.79, "plain-110": 16.44},
        f"{_LI}, figure 5",
    ),
    full=Protocol(
        nets=_nets(*(f"cifar_{kind}{depth}" for depth in (20, 56, 110) for kind in ("resnet", "plain"))), data="cifar10",
        recipe="paper-cifar", seeds=3, points=51, planes=3,
        changes=(
            ("epochs", 300), ("milestones", (150 / 300, 225 / 300, 275 / 300)), ("nesterov", True), ("weight_decay", 5e-4),
            ("centering", "channel"), ("warmup_rate", 0.0), ("validation", 0.0),
        ),
    ),
    small=_small(_nets("cifar_resnet20", "cifar_plain20"), 2, points=9, pictures=128, planes=3), counts=_CIFAR,
    notes=("The paper trains its deep nets without shortcuts at a rate of 0.01; here every net starts at 0.1.",),
)  # fmt: skip

TARGETS: dict[str, Target] = {
    "table1": Target(
        name="table1", title="Cost of the ImageNet nets", source=f"{_HE2015}, table 1", kind="count", published=_counted(), full=_TABLE1,
        small=_TABLE1,
        notes=(
            "Multiply-adds of convolutions and the linear layer for one picture of 224x224; bottlenecks have the stride on the first 1x1, "
            "as in the paper. It uses option A (zero padding) for 18 and 34 layers beside the plain nets, and option B (projections) for "
            "50 and more; table 1 does not say which it counts, so both are here.",
            "The printed digits follow no one rule: 3.858 would be 3.9 rounded and is 3.8 cut off, but 7.570 is 7.6 rounded and would be "
            "7.5 cut off.",
            "The table prints no parameters.",
        ),
    ),
    "table6": _TABLE6,
    "fig6": _FIGURE6,
    "fig7": _FIGURE7,
    "table2-2016": _TABLE2,
    "d2l": _D2L_TARGET,
    "landscape": _LANDSCAPE,
}  # fmt: skip

__all__ = ["TARGETS", "Kind", "Net", "Protocol", "Target", "label", "target"]
