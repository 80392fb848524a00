"""What a reproduction takes from a run's folder: its numbers, and in what it falls short of the paper's protocol.

The surprising thing: what was scaled down is read off the run's own recipe, field by field, and never written by hand, so that nothing
can be left out of it. Data is recognised by its name and its counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from residual.architecture import architecture_from, changed
from residual.recipe import EpochEnd, Recipe
from residual.runs import Run
from residual.study.reproduction import Curve, Lack
from residual.study.targets import Target, label

# fields that change no number but for rounding, or that are named elsewhere; the rule for 110 layers sets the warm-up itself
_SAME_NUMBERS = ("model", "seed", "compile", "channels_last", "accumulate", "warmup_rate", "keep")
_WORDS = {
    "image_size": "pictures of side {used} instead of {full}", "epochs": "{used} epochs instead of {full}",
    "validation": "{used:.0%} of the training pictures held out instead of {full:.0%}",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of one net of a target.

    Attributes:
        values: quantity ("test error", ...) -> number; those that the run does not have yet are left out.
        scaled: in what its recipe is not the protocol's, in words; "" where it is.
        short: sentences on what else is less than, or other than, the protocol.
        lacks: both as the verdicts name them.
        machine: where it ran.
    """

    net: str
    seed: int
    values: dict[str, float]
    curve: Curve
    scaled: str
    short: tuple[str, ...]
    lacks: tuple[Lack, ...]
    data: str
    machine: str


def training(run: Run, target: Target, full: Recipe) -> Training:
    """What `run` says to `target`, whose protocol's recipe is `full`. ValueError where the run is of another network."""
    net = net_of(run, target)
    ends, seed = list(run.events()), int(run.record["seed"])
    scaled, short = ", ".join(differences(full, run.recipe)), list[str]()
    lacks: list[Lack] = ["scaled down"] if scaled else []
    data, counts = run.record["data"]["source"], run.record["data"]["counts"]
    if not is_published(target, data, counts):
        short.append(f"{shown(data)} ({counts.get('train', 0):,} and {counts.get('test', 0):,} pictures) instead of {target.full.data}.")
        lacks.append("other data")
    if run.record["status"] != "finished":
        short.append(f"{net}, seed {seed}: the run is not finished, {len(ends)} of {run.recipe.epochs} epochs are done.")
        lacks.append("not finished")
    return Training(
        net=net, seed=seed, values=values_of(run, ends), curve=_curve(net, seed, ends), scaled=scaled,
        short=tuple(short), lacks=tuple(lacks),
        data=shown(data), machine=str(run.record["machine"].get("name", "")),
    )  # fmt: skip


def net_of(run: Run, target: Target) -> str:
    """The label of the run's network. ValueError where a target of numbers has no such network."""
    own = changed(architecture_from(run.record["architecture"]), {"in_channels": 3, "num_classes": 10})
    nets = {net.label: net for net in (*target.full.nets, *target.small.nets)}
    for name, net in nets.items():
        if changed(net.architecture(), {"in_channels": 3, "num_classes": 10}) == own:
            return name
    if target.kind == "training":
        raise ValueError(f"The run {run.folder} is a {run.record['model']}, which {target.name} has not; its nets: {', '.join(nets)}.")
    return label(str(run.record["model"]))


def differences(full: Recipe, used: Recipe) -> tuple[str, ...]:
    """In what `used` is not the protocol `full`, a phrase for each field that can change a number."""
    ours, theirs = asdict(used), asdict(full)
    found = []
    for name, value in theirs.items():
        if name not in _SAME_NUMBERS and ours[name] != value:
            form = _WORDS.get(name, f"{name.replace('_', ' ')} {{used}} instead of {{full}}")
            found.append(form.format(used=ours[name], full="their own" if name == "image_size" and not value else value))
    return tuple(found)


def is_published(target: Target, data: str, counts: Mapping[str, int]) -> bool:
    """Whether `data`, a name or a folder, is the target's by its name and its number of training and test pictures."""
    name = Path(data).name.lower().replace("_", "-")
    return name == target.full.data and (counts.get("train"), counts.get("test")) == target.counts


def shown(data: str) -> str:
    """A data set's name without the folders that it lies in."""
    return Path(data).name or data


def values_of(run: Run, ends: Sequence[EpochEnd]) -> dict[str, float]:
    """Quantity -> number: of the last epoch, the median speed, and of the test where it was made."""
    found: dict[str, float] = {}
    if ends:
        speeds = sorted(end.images_per_second for end in ends)
        middle = len(speeds) // 2
        found = {
            "training loss": ends[-1].train_loss, "training accuracy": ends[-1].train_accuracy,
            "pictures per second": speeds[middle] if len(speeds) % 2 else (speeds[middle - 1] + speeds[middle]) / 2,
        }  # fmt: skip
    test = run.record["result"].get("test")
    if test:
        found |= {"test accuracy": test["top1"], "test error": 100 * (1 - test["top1"])}
    return found


def _curve(net: str, seed: int, ends: Sequence[EpochEnd]) -> Curve:
    held = [end.validation_accuracy for end in ends]
    return Curve(
        net=net, seed=seed, train=tuple(round(1 - end.train_accuracy, 6) for end in ends),
        validation=tuple(round(1 - value, 6) for value in held if value is not None),
    )  # fmt: skip


__all__ = ["Training", "differences", "is_published", "net_of", "shown", "training", "values_of"]
