"""Fits the default recipe and the `auto` model to the pictures, the machine and the time, and says why.

A residual net is sized by trying: the largest whose measured training steps still show it every picture often enough in the time there is.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from residual.architecture import Architecture
from residual.cost import cost
from residual.recipe import Recipe, adjusted
from residual.shortage import enough_memory
from residual.training.ladder import MANY, SMALL, Data, Rung, in_patches, ladder, wanted_epochs
from residual.training.machine import Machine, Trial, Way, pays, settle_threads, training_rate, training_way
from residual.training.shown import augmentation, passes_of, pruning
from residual.variants import architecture
from residual.weights import SavedModel

PATIENT_SECONDS = 120.0  # what a training may take where the user names neither time nor epochs
_BATCH = 128  # of a trial, and what learning rates are told for
_BATCHES = ((_BATCH, 60), (64, 0))  # and the steps from which one is taken: docs/performance.md
_MUON_BATCHES = ((512, 150), (384, 40), (256, 40), (192, 0))  # the same with optimizer="muon", whose step of 64 is nearly as long as of 192
_MUON_MOMENTUM = 0.8  # so short a training learns less with 0.9
_HELD = 0.05  # of many pictures held out: 1,000 at least
_FEW = 5_000  # pictures below which a training is short
_MUON_RATE = 1.5  # pictures that it trains on while SGD, in batches of 128 as in a trial, trains on one
_LONG = 600.0  # seconds of training from which it is tried whether compiling pays: it costs a minute to find out


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What will be trained. `reasons` are sentences for the user."""

    architecture: Architecture
    model: str
    recipe: Recipe
    size: tuple[int, int]
    half: bool
    reasons: tuple[str, ...]


def choose(
    base: Recipe, fit: bool, fixed: dict[str, Any], data: Data, machine: Machine, *,
    start: SavedModel | None = None, freezes: bool = True,
) -> Choice:  # fmt: skip
    """The architecture and recipe to train. With `fit` the fields not in `fixed` (what the user set) follow data and machine.

    With `start` the architecture and the size of the pictures are those of that model. `freezes`: the first layer may be a frozen one.

    Raises:
        ValueError: the model's name, its size or a field does not fit the data.
    """
    recipe, reasons = adjusted(base, fixed), list[str]()
    halves = _halves(recipe.precision, machine)
    size = start.preprocessing.size if start and start.preprocessing else _image_size(recipe, data, machine, reasons)
    if settle_threads(ladder(size, data, False)[1].architecture, size, Trial(batch=16, seconds=_seconds(recipe, data))):
        reasons.append("Threads: one; something else keeps a processor busy, and on all of them training was slower.")
    if fit:
        recipe = _fitted(recipe, _batch(data, _BATCH, fixed) | ({"validation": _HELD} if data.count >= MANY else {}), fixed)
    if recipe.model == "auto" and start is None:
        muon = fit and freezes and machine.device == "cpu" and data.count >= MANY and in_patches(size)
        recipe = _fitted(recipe, _first_layer(size, data, fixed, freezes, reasons) if fit else {}, fixed)
        recipe = _fitted(recipe, {"optimizer": "muon"} if muon else {}, fixed)
        tried = halves[-1:] if recipe.optimizer == "muon" else halves  # its batches are larger than a trial's: bfloat16 gains more there
        arch, epochs, way = _sized(recipe, size, data, fixed, tried, reasons)
        recipe = _fitted(adjusted(recipe, {"epochs": epochs}), {"channels_last": way.channels_last} if fit else {}, fixed)
    else:
        tried = halves[-1:]  # no trial: the same net is to train to the same bits
        arch = start.architecture if start else architecture(recipe.model, in_channels=data.channels, num_classes=len(data.classes))
        told = "that of the weights to start from" if start else recipe.model
        reasons.append(f"Model: {told}, with {data.channels} input channel(s) and {len(data.classes)} classes.")
        way = Way(rate=0.0, channels_last=recipe.channels_last, half=tried[0])
        if fit:
            way = _way(recipe, data, arch, size, tried, (recipe.channels_last,))
            recipe = _fitted(recipe, {"epochs": max(1, min(wanted_epochs(data), int(PATIENT_SECONDS * way.rate / data.count)))}, fixed)
    if fit:
        recipe = _schooled(recipe, data, arch, size, way, fixed, reasons)
    if base.decay_norm_and_bias and "warmup_rate" not in fixed and sum(arch.depths) >= 54:
        recipe = adjusted(recipe, {"warmup_rate": 0.01})
        reasons.append("Warm-up: learning rate 0.01 until the training error is under 80 %, as the 2015 paper did for 110 layers.")
    _check(recipe, arch, size)
    if recipe.precision == "auto":
        why = "as a trial of this net decided" if len(tried) > 1 else "by what this machine has instructions for"
        reasons.append(f"Arithmetic: {'bfloat16' if way.half else 'float32'}, {why}.")
    if recipe.compile and (not fit or "compile" in fixed):
        reasons.append("Compilation: used, as asked for; the first step waits for it, often a minute.")
    return Choice(architecture=arch, model=recipe.model, recipe=recipe, size=size, half=way.half, reasons=tuple(reasons))


def _schooled(
    recipe: Recipe, data: Data, arch: Architecture, size: tuple[int, int], way: Way, fixed: dict[str, Any], reasons: list[str]
) -> Recipe:  # fmt: skip
    """The recipe with all that follows from the net and its speed: batch, augmentation, what is left or held out, compilation."""
    rate = way.rate * (_MUON_RATE if recipe.optimizer == "muon" else 1)
    pictures = recipe.time * rate or (recipe.epochs * data.count if recipe.optimizer == "muon" else 0)
    recipe = _fitted(recipe, _batch(data, largest_batch(pictures, recipe.optimizer), fixed), fixed)
    recipe = _fitted(recipe, {"momentum": _MUON_MOMENTUM} if recipe.optimizer == "muon" else {}, fixed)
    steps = {"sgd": "SGD with Nesterov momentum", "muon": "Muon for the filters, SGD with Nesterov momentum for all else"}
    reasons.append(
        f"Batch: {recipe.batch_size} of {data.count} pictures; {steps.get(recipe.optimizer, recipe.optimizer)}, learning rate up to "
        f"{recipe.learning_rate} and down in a triangle."
    )
    recipe = _fitted(recipe, pruning(recipe, data, fixed, reasons), fixed)
    passes = recipe.time * rate / (data.count * (1 - recipe.validation)) if recipe.time else passes_of(recipe)
    recipe = _fitted(recipe, augmentation(data, size, arch, passes, fixed, reasons), fixed)
    seconds = recipe.time or data.count * (1 - recipe.validation) * passes_of(recipe) / way.rate
    if not recipe.time:
        reasons.append(f"Epochs: {recipe.epochs}, about {seconds:.0f} s of training here.")
    if seconds >= _LONG and "compile" not in fixed:
        recipe = adjusted(recipe, {"compile": _pays_to_compile(recipe, arch, size, seconds, way.half, reasons)})
    return recipe


def _check(recipe: Recipe, arch: Architecture, size: tuple[int, int]) -> None:
    """ValueError for pictures that are too small for the strides, and for a first layer that cannot be frozen."""
    if recipe.first_layer == "frozen" and arch.input_norm:
        raise ValueError(f"first_layer='frozen' is for nets that begin with a convolution, but {recipe.model} has a batch norm before it.")
    cost(arch, size)


def _halves(precision: str, machine: Machine) -> tuple[bool, ...]:
    """Whether to compute in bfloat16; both answers, the likelier one last, where only a trial on the net itself can tell."""
    if precision != "auto" or not machine.half:
        return (precision == "bfloat16",)
    return (False, True) if machine.device == "cpu" else (True,)


def _image_size(recipe: Recipe, data: Data, machine: Machine, reasons: list[str]) -> tuple[int, int]:
    if recipe.image_size:
        return recipe.image_size, recipe.image_size
    if max(data.size) <= SMALL:
        reasons.append(f"Pictures: used at their own size, {data.size[0]}x{data.size[1]}.")
        return data.size
    side = 224 if machine.device != "cpu" else 128
    side = min(side, max(32, min(data.size) // 32 * 32))
    reasons.append(f"Pictures: brought from about {data.size[0]}x{data.size[1]} to {side}x{side}, which this machine can train on in time.")
    return side, side


def _fitted(recipe: Recipe, picked: dict[str, Any], fixed: dict[str, Any]) -> Recipe:
    """The recipe with what was picked, but for what the user set."""
    return adjusted(recipe, {name: value for name, value in picked.items() if name not in fixed})


def _first_layer(size: tuple[int, int], data: Data, fixed: dict[str, Any], freezes: bool, reasons: list[str]) -> dict[str, Any]:
    """Whitened patches of pictures at their own size, frozen so: as good, and quicker. Trained they help grey ones only."""
    if not in_patches(size) or max(data.size) > SMALL or "first_layer" in fixed or (data.channels > 1 and not freezes):
        return {}
    kept = ", and is not trained" if freezes else ", to begin with"
    reasons.append(f"First layer: it holds the principal components of patches of the training pictures, and their negatives{kept}.")
    return {"first_layer": "frozen" if freezes else "whitened"}


def _batch(data: Data, most: int, fixed: dict[str, Any]) -> dict[str, Any]:
    """About 20 steps an epoch at least; the rate falls with the root of the batch, the user's own too."""
    size, large = most, data.count >= MANY
    while size > 16 and data.count / size < 20:
        size = max(16, size // 2)
    return {
        "batch_size": size,
        "learning_rate": round((0.4 if large else 0.2) * (fixed.get("batch_size", size) / _BATCH) ** 0.5, 3),
        "warmup": 0.1 if large else 0.2,
    }


def largest_batch(pictures: float, optimizer: str = "sgd") -> int:
    """The largest batch for a training that has time for so many pictures (0: for as many as it likes): of 128 for 60 steps at least, or
    of 64. Muon, whose steps count for more, has batches of 192 to 512: for 40 steps at least above 192, of 512 for 150."""
    return next(size for size, least in (_MUON_BATCHES if optimizer == "muon" else _BATCHES) if not 0 < pictures / size < least)


def _way(
    recipe: Recipe, data: Data, arch: Architecture, size: tuple[int, int], halves: tuple[bool, ...], layouts: tuple[bool, ...]
) -> Way:  # fmt: skip
    """How `arch` trains fastest, by steps of not more pictures than training holds at a time."""
    batch = min(data.count, max(1, recipe.batch_size // recipe.accumulate), _BATCH if max(size) <= SMALL else 16)
    trial = Trial(batch=batch, seconds=_seconds(recipe, data), frozen=recipe.first_layer == "frozen")
    return training_way(arch, size, trial, halves=halves, layouts=layouts)


def _seconds(recipe: Recipe, data: Data) -> float:
    """Seconds of steps to try a net: less where the whole training is short."""
    return min(0.3, (recipe.time or (PATIENT_SECONDS if data.count >= _FEW else 2.0)) / 40)


def _sized(
    recipe: Recipe, size: tuple[int, int], data: Data, fixed: dict[str, Any], halves: tuple[bool, ...], reasons: list[str]
) -> tuple[Architecture, int, Way]:
    """The largest net that sees each picture often enough in the time; the epochs that fit; how it trains fastest."""
    rungs, most = ladder(size, data, recipe.first_layer == "frozen"), recipe.epochs if "epochs" in fixed else None
    seconds, wanted = recipe.time or PATIENT_SECONDS, most or wanted_epochs(data)
    layouts = (recipe.channels_last,) if "channels_last" in fixed else (True, False)
    count, fastest = data.count * (1 - recipe.validation), rungs[0].architecture

    def tried(rung: Rung) -> Way:
        return _way(recipe, data, rung.architecture, size, halves, layouts)

    def fits(rung: Rung, way: Way) -> bool:
        return count * min(most or rung.worth, rung.worth) / way.rate <= seconds

    rung, way = _climbed(rungs, tried, fits, down=data.count < _FEW)
    arch, worth = rung.architecture, rung.worth
    wanted = most or max(wanted, ceil(worth))
    passes = seconds * way.rate / count
    epochs = recipe.epochs if "epochs" in fixed else min(max(1, int(passes)), wanted)
    why = f"the largest that sees every picture often enough for its size in {seconds:.0f} s, {passes:.1f} times"
    if arch == fastest and passes < wanted:
        why = f"the fastest there is; it sees every picture {passes:.1f} times in {seconds:.0f} s"
    elif data.count < _FEW and arch == rungs[-1].architecture:
        times = f"about {passes:.0f}" if recipe.time else f"{epochs}"
        why = f"as wide as so few pictures call for; it sees each {times} times"
    reasons.append(
        f"Model: a residual net of {2 + 2 * sum(arch.depths)} layers, widths {'-'.join(map(str, arch.out_widths))}, which trains on about "
        f"{way.rate:,.0f} pictures/s here: {why}."
    )
    return arch, epochs, way


def _climbed(
    rungs: Sequence[Rung], tried: Callable[[Rung], Way], fits: Callable[[Rung, Way], bool], *, down: bool
) -> tuple[Rung, Way]:  # fmt: skip
    """The last of the rungs that fit, or the first of all, and how it trains. With `down` the last one is tried first, which for few
    pictures nearly always fits: trials take as long as a tenth of such a training."""
    if down and fits(rungs[-1], way := tried(rungs[-1])):
        return rungs[-1], way
    taken, kept = rungs[0], tried(rungs[0])
    for rung in rungs[1:]:
        way = tried(rung)
        if not fits(rung, way):
            break
        taken, kept = rung, way
    return taken, kept


def _pays_to_compile(recipe: Recipe, arch: Architecture, size: tuple[int, int], seconds: float, half: bool, reasons: list[str]) -> bool:
    """Whether compiling pays back in a training of about `seconds`: tried on the net itself."""
    trial = Trial(batch=-(-recipe.batch_size // recipe.accumulate), frozen=recipe.first_layer == "frozen")
    way = {"half": half, "channels_last": recipe.channels_last}
    with enough_memory(recipe, size):
        rate, began = training_rate(arch, size, trial, **way), time.perf_counter()
        compiled = training_rate(arch, size, trial, **way, compiled=True)
        cost = time.perf_counter() - began
    used = pays(seconds, rate=rate, compiled=compiled, cost=cost)
    reasons.append(
        f"Compilation: {'used' if used else 'not used'}; it takes {cost:.0f} s and makes a step {compiled / rate:.2f} times as fast "
        f"in a training of about {seconds:.0f} s."
    )
    return used
