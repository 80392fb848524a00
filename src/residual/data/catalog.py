"""The data sets that have a short name: where the hub keeps each one and what its columns are called.

The surprising thing: food101 and imagenet publish no labelled test set; what everybody reports on is their "validation" split,
so that split is opened as the test set here and a validation split is cut from the training pictures.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One data set of the hub.

    Attributes:
        hub: its name there.
        config: the configuration to load, or None where there is only one.
        image: column of the pictures.
        label: column of the labels.
        test: the split that is the test set.
        mean: of the training pixels scaled to 0..1, per channel; None where nobody published it.
        std: likewise.
        licence_note: what a person has to do before the hub hands it out; empty for most.
    """

    hub: str
    config: str | None = None
    image: str = "image"
    label: str = "label"
    test: str = "test"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    licence_note: str = ""


_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

CATALOG: dict[str, Entry] = {
    "mnist": Entry(hub="ylecun/mnist", mean=(0.1307,), std=(0.3081,)),
    "fashion-mnist": Entry(hub="zalando-datasets/fashion_mnist", mean=(0.2860,), std=(0.3530,)),
    "cifar10": Entry(hub="uoft-cs/cifar10", image="img", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    "cifar100": Entry(hub="uoft-cs/cifar100", image="img", label="fine_label", mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "svhn": Entry(hub="ufldl-stanford/svhn", config="cropped_digits"),
    "food101": Entry(hub="ethz/food101", test="validation"),
    "imagenet": Entry(
        hub="ILSVRC/imagenet-1k",
        test="validation",
        mean=_IMAGENET["mean"],
        std=_IMAGENET["std"],
        licence_note="accept its terms on https://huggingface.co/datasets/ILSVRC/imagenet-1k and run `hf auth login`",
    ),
}
