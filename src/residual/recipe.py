"""How a network is trained, as plain values every framework reads. The learning rate is a pure function of progress.

Progress runs from 0 to 1: the share of the steps done, or with a time budget the share of the time used.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

from residual.preprocessing import Views
from residual.spelling import nearest


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that fixes a training besides the data.

    Attributes:
        model: a variant's name, or "auto": sized to the pictures, the machine and the time.
        image_size: side in pixels that pictures are brought to; 0 takes it from the data.
        epochs: passes over the training data; with `time` the passes end when the time does.
        time: seconds of training, validation included; 0 is no budget. The schedule then follows the time used.
        batch_size: pictures per optimizer step.
        accumulate: parts that a batch is cut into to fit in memory; gradients are summed over them.
        optimizer: "sgd", "adamw", or "muon": filters step along their orthogonalised momentum, all else as with "sgd" (Jordan et al. 2024).
        learning_rate: the peak of the schedule.
        momentum: of SGD and Muon; beta 1 of AdamW.
        nesterov: Nesterov's form of SGD's momentum.
        weight_decay: of convolutions and linear layers, in the gradient (SGD) or apart from it (AdamW, Muon's filters).
        decay_norm_and_bias: weight decay also on batch norm and biases, as the 2015 papers did.
        schedule: "constant", "steps" (times `step_factor` at each milestone), "cosine", "triangle" (up to `warmup`, then linearly down).
        milestones: shares of progress at which "steps" lowers the rate.
        step_factor: what the rate is multiplied by at each milestone.
        warmup: share of progress in which the rate rises linearly from 0.
        final_share: where "cosine" and "triangle" end, as a share of `learning_rate`.
        warmup_rate: rate until the running training error falls below `warmup_error`; 0 is no such rule. He et al. 2015, section 4.2.
        warmup_error: the training error, as a share, at which `warmup_rate` ends.
        label_smoothing: share of the target that is spread evenly over all classes. Szegedy et al. 2016, section 7.
        flip: mirror at random, or in turn ("alternate": each picture in every second epoch; Jordan 2024).
        crop_padding: pixels added on each side before a random crop of the old size.
        crop_mode: what `crop_padding` adds: mean pixels ("zero") or mirrored ones.
        crop_scale: area range of a random resized crop; (1, 1) is none.
        crop_ratio: range of width / height of a random resized crop.
        lighting: standard deviation of AlexNet's colour noise along the principal components of ImageNet's colours.
        erasing: probability that a rectangle of a picture is erased. Zhong et al. 2017.
        mixup: alpha of mixup (Zhang et al. 2018); 0 is none.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 is none. With mixup too, one or the other at random.
        data_pruning: share of the pictures with a loss below the mean that an epoch leaves out, drawn anew each time; the rest of them
            weigh more for it. InfoBatch: Qin et al. 2024, arXiv:2303.04947. 0 is none.
        pruning_from: the first epoch that leaves pictures out: 2, or 1, by what a linear classifier of the thinned pictures finds easy.
        ema: decay per step of the averaged weights, which are then those validated and kept; 0 is none.
        precision: "bfloat16" is autocast, on a CPU but for the last layer; "auto" takes it where the machine is fast at it (or, sizing a
            net, where a trial says so).
        channels_last: memory layout N H W C of pictures and weights.
        compile: torch.compile of the model.
        first_layer: first values of the first convolution: drawn from the seed as all others, or "whitened": the principal components
            of the training patches and their negatives. "frozen" keeps these as they are, and the batch norm behind with the statistics
            that it has then. Jordan 2024, arXiv:2404.00498, section 3.2.
        centering: what is subtracted from the pixels: the mean of each channel (and divided by its deviation), of each pixel, or nothing.
        crop: share of the short side kept at evaluation.
        views: what validation, test and prediction see of a picture that the network is not sure of: only the picture, also its mirror
            image, also its four shifts by a pixel, or both, with the shifts of the mirror image.
        validation: share of the training data held out to choose on; 0 is none.
        patience: epochs without a better validation accuracy after which training stops; 0 is never.
        keep: which weights are saved: of the best epoch on the validation split, or of the last.
        snapshots: the first values and the weights after every epoch are saved too, in the run's `snapshots`: the path of a training.
        seed: of first values, of the validation cut and of all augmentation.
    """

    model: str = "auto"
    image_size: int = 0
    epochs: int = 10
    time: float = 0.0
    batch_size: int = 128
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_norm_and_bias: bool = False
    schedule: Literal["constant", "steps", "cosine", "triangle"] = "triangle"
    milestones: tuple[float, ...] = (0.5, 0.75)
    step_factor: float = 0.1
    warmup: float = 0.2
    final_share: float = 0.0
    warmup_rate: float = 0.0
    warmup_error: float = 0.8
    label_smoothing: float = 0.1
    flip: Literal["none", "random", "alternate"] = "none"
    crop_padding: int = 0
    crop_mode: Literal["zero", "reflect"] = "reflect"
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)
    lighting: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    data_pruning: float = 0.0
    pruning_from: int = 2
    ema: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    first_layer: Literal["random", "whitened", "frozen"] = "random"
    centering: Literal["channel", "pixel", "none"] = "channel"
    crop: float = 1.0
    views: Views = "one"
    validation: float = 0.1
    patience: int = 0
    keep: Literal["best", "last"] = "last"
    snapshots: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value!r}, but must lie between {low:g} and {high:g}.")
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {(low, high)}, but must be two numbers above 0, the smaller one first.")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale is {self.crop_scale}, but a crop cannot be larger than its picture: at most 1.")
        if list(self.milestones) != sorted(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones is {self.milestones}, but must rise and lie between 0 and 1: they are shares of the run.")
        if self.data_pruning and (self.mixup or self.cutmix):
            raise ValueError("data_pruning goes by the loss of each picture, but mixup and cutmix mix pictures: set one of them to 0.")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, more parts than the {self.batch_size} pictures of a batch.")


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """What one epoch gave.

    Attributes:
        losses: the loss of each step.
        seconds: since training began, pauses between resumed parts left out.
    """

    epoch: int
    steps: int
    train_loss: float
    train_accuracy: float
    losses: tuple[float, ...] = ()
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    learning_rate: float = 0.0
    progress: float = 0.0
    seconds: float = 0.0
    images_per_second: float = 0.0


class Epoch(Protocol):
    """Batches, each of images (N C H W float32) and labels (N int64) in NumPy; they may be made as they are asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Any, Any]]: ...


Batches = Sequence[Epoch]


def learning_rate(progress: float, recipe: Recipe) -> float:
    """The rate at `progress` in [0, 1]; values outside are clipped."""
    progress = min(max(progress, 0.0), 1.0)
    peak, warmup = recipe.learning_rate, recipe.warmup
    if progress < warmup:
        return peak * progress / warmup
    if recipe.schedule == "constant":
        return peak
    if recipe.schedule == "steps":
        return peak * recipe.step_factor ** sum(progress >= milestone for milestone in recipe.milestones)
    rest = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    fall = 1 - rest if recipe.schedule == "triangle" else (1 + math.cos(math.pi * rest)) / 2
    return peak * (recipe.final_share + (1 - recipe.final_share) * fall)


def adjusted(base: Recipe, changes: dict[str, Any]) -> Recipe:
    """`base` with fields replaced; lists become tuples. ValueError names an unknown field and the nearest right one."""
    names = [field.name for field in fields(Recipe)]
    for name in changes:
        if name not in names:
            raise ValueError(f"A recipe has no field {name!r}.{nearest(name, names)} Fields: {', '.join(names)}.")
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
    return replace(base, **values)


_RANGES = (
    ("image_size", 0, 4096), ("epochs", 1, 1_000_000), ("time", 0, 1e9), ("batch_size", 1, 1_000_000), ("accumulate", 1, 100_000),
    ("learning_rate", 1e-12, 1e6), ("momentum", 0, 0.999999), ("weight_decay", 0, 1e3), ("step_factor", 0, 1), ("warmup", 0, 0.99),
    ("final_share", 0, 1), ("warmup_rate", 0, 1e6), ("warmup_error", 0, 1), ("label_smoothing", 0, 0.99), ("crop_padding", 0, 1024),
    ("lighting", 0, 10), ("erasing", 0, 1), ("mixup", 0, 100), ("cutmix", 0, 100), ("data_pruning", 0, 0.99),
    ("pruning_from", 1, 2), ("ema", 0, 0.9999999), ("crop", 0.1, 1),
    ("validation", 0, 0.9), ("patience", 0, 1_000_000), ("seed", 0, 2**63 - 1),
)  # fmt: skip


def _check_types(recipe: Recipe) -> None:
    for name, hint in get_type_hints(Recipe).items():
        value = getattr(recipe, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if get_origin(hint) is Literal:
            good, wanted = value in get_args(hint), "one of " + ", ".join(map(repr, get_args(hint)))
        elif get_origin(hint) is tuple:
            pair = get_args(hint)[-1] is not Ellipsis
            good = isinstance(value, tuple) and all(isinstance(v, int | float) for v in value) and (len(value) == 2 or not pair)
            wanted = "two numbers" if pair else "a tuple of numbers"
        elif hint is bool:
            good, wanted = isinstance(value, bool), "true or false"
        elif hint is str:
            good, wanted = isinstance(value, str), "a name"
        else:
            good, wanted = (
                number and (hint is float or isinstance(value, int)) and value == value,
                "a whole number" if hint is int else "a number",
            )
        if not good:
            hinted = nearest(value, get_args(hint)) if isinstance(value, str) and get_origin(hint) is Literal else ""
            raise ValueError(f"{name} is {value!r}, but must be {wanted}.{hinted}")
