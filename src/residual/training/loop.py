"""The training loop: it yields what happened after every step and every epoch, and who listens is the caller's affair.

All randomness of a step is drawn after seeding torch with a number made from (seed, epoch, step), so that a run that was stopped and
resumed takes the very same steps.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from residual.backends.torch import ResidualNet, set_learning_rate
from residual.backends.torch_convolution import in_layout
from residual.recipe import EpochEnd, Recipe, learning_rate
from residual.training.augment import augment, colour_noise, mixed
from residual.training.feed import BRIEF, Batch, Feed, Normaliser
from residual.training.guess import guessed_losses
from residual.training.inference import chunked, logits, validation_batch
from residual.training.pruning import Pruning


@dataclass(frozen=True, kw_only=True)
class StepEnd:
    """One optimizer step. `loss` stays on the device: reading it waits for the device.

    Attributes:
        seen: pictures of this epoch so far.
        right: how many of them were classified rightly (a tensor on the device); with data pruning as they weigh.
    """

    epoch: int
    step: int
    progress: float
    learning_rate: float
    loss: Tensor
    seen: int
    right: Tensor
    seconds: float


@dataclass(kw_only=True)
class State:
    """Everything that training changes; a checkpoint holds just this.

    Attributes:
        epoch: epochs finished.
        batch: batches of the current epoch that are done.
        step: optimizer steps done in all.
        losses: of the current epoch, one a step.
        warm: the recipe's warm-up rule no longer holds; `running_error` is what it watches.
        average: the averaged weights, where the recipe keeps them.
        pruning: the loss of each picture, where the recipe prunes the data.
        done: the time budget is used up.
    """

    model: ResidualNet
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor] | None = None
    pruning: Pruning | None = None
    epoch: int = 0
    batch: int = 0
    step: int = 0
    seen: int = 0
    right: Tensor = field(default_factory=lambda: torch.zeros(()))
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    warm: bool = True
    running_error: float = 1.0
    best_accuracy: float = -1.0
    best_epoch: int = 0
    done: bool = False

    def finished(self, recipe: Recipe) -> bool:
        """Whether no step is left: the epochs are over, the time is up, or patience is at its end."""
        if recipe.patience and self.best_epoch and self.epoch - self.best_epoch >= recipe.patience:
            return True
        return self.done if recipe.time else self.epoch >= recipe.epochs


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a training needs and does not change.

    Attributes:
        size: height and width that the network sees.
        reserve: seconds of a time budget kept for the last validation.
        half: validation is computed in bfloat16.
        call: logits of pictures in training, which lead to the model's gradients: its own, or those of a faster form.
    """

    recipe: Recipe
    train: Feed
    validation: Feed | None
    normalise: Normaliser
    size: tuple[int, int]
    device: torch.device
    half: bool
    call: Callable[[Tensor], Tensor]
    reserve: float = 0.0


def fit(state: State, setting: Setting) -> Iterator[StepEnd | EpochEnd]:
    """A StepEnd after each step, an EpochEnd after each epoch; picks up where `state` stands.

    A training that the time budget ends within an epoch ends with that epoch's EpochEnd.
    """
    recipe, began, before = setting.recipe, time.perf_counter(), state.seconds
    while not state.finished(recipe):
        if state.batch == 0:
            state.losses, state.seen, state.right = [], 0, torch.zeros((), device=setting.device)
            _prune(state, setting)
        chunks = order(len(setting.train), recipe, state.epoch, state.pruning)
        state.model.train()
        start = (state.seen, time.perf_counter())
        for batch in setting.train.read(chunks[state.batch :]):
            _seed(setting.device, key(recipe.seed, state.epoch, state.batch))
            rate = _rate(state, recipe, _progress(state, setting, len(chunks)))
            set_learning_rate(state.optimizer, rate)
            loss, right = _step(state, setting, batch)
            if not state.warm:
                _watch(state, recipe, 1 - float(right) / len(batch[1]), len(batch[1]))
            state.batch, state.step, state.seen = state.batch + 1, state.step + 1, state.seen + len(batch[1])
            state.right += right
            state.losses.append(loss)
            del batch  # its memory may be that of the next but one, which is begun when the next is asked for
            state.seconds = before + time.perf_counter() - began
            yield StepEnd(
                epoch=state.epoch + 1, step=state.step, progress=_progress(state, setting, len(chunks)), learning_rate=rate,
                loss=loss, seen=state.seen, right=state.right, seconds=state.seconds,
            )  # fmt: skip
            if recipe.time and _progress(state, setting, len(chunks)) >= 1:
                break
        losses = torch.stack(state.losses).float().cpu()  # on a GPU, when its steps are done
        rate = (state.seen - start[0]) / max(time.perf_counter() - start[1], 1e-9)
        yield _end_epoch(state, setting, losses, batches=len(chunks), origin=began - before, images_per_second=rate)


def _end_epoch(state: State, setting: Setting, losses: Tensor, *, batches: int, origin: float, images_per_second: float) -> EpochEnd:
    """Validates, where it is due, and closes the epoch; `origin` is when training began on the clock."""
    recipe = setting.recipe
    progress = _progress(state, setting, batches)
    state.epoch, state.batch, state.done = state.epoch + 1, 0, progress >= 1
    loss = accuracy = None
    due = progress >= 1 or not recipe.time or setting.reserve <= BRIEF * recipe.time
    if setting.validation is not None and due:
        loss, accuracy = scored(_validate(state, setting, setting.validation), setting.validation.labels)
        if accuracy > state.best_accuracy:
            state.best_accuracy, state.best_epoch = accuracy, state.epoch
    state.seconds = time.perf_counter() - origin
    return EpochEnd(
        epoch=state.epoch, steps=state.step, train_loss=float(losses.mean()), train_accuracy=float(state.right) / max(state.seen, 1),
        losses=tuple(losses.tolist()), validation_loss=loss, validation_accuracy=accuracy,
        learning_rate=state.optimizer.param_groups[0]["lr"], progress=progress, seconds=state.seconds,
        images_per_second=images_per_second,
    )  # fmt: skip


def _prune(state: State, setting: Setting) -> None:
    """Draws what the coming epoch leaves out, where the recipe prunes the data."""
    recipe, pruning = setting.recipe, state.pruning
    if pruning is None:
        return
    if state.epoch == 0 and recipe.pruning_from == 1:
        pruning.losses = guessed_losses(setting.train, state.model.plan.num_classes, seconds=recipe.time / 20 or math.inf)
    pruning.draw(recipe.data_pruning, key(recipe.seed, state.epoch, -3))


def _step(state: State, setting: Setting, batch: Batch) -> tuple[Tensor, Tensor]:
    """One optimizer step on `batch`; its loss and how many pictures were right, still on the device; with data pruning both as estimates
    of the whole data's: easy pictures that were kept stand for those left out."""
    recipe = setting.recipe
    x, (first, second, share) = mixed(inputs(setting, batch, state.epoch), batch[1], recipe)
    x = in_layout(x, channels_last=recipe.channels_last)
    state.optimizer.zero_grad(set_to_none=True)
    total, right = torch.zeros((), device=x.device), torch.zeros((), device=x.device)
    stands = torch.ones(()) if state.pruning is None else state.pruning.weights[batch[2]]
    parts = -(-len(x) // recipe.accumulate)
    for start in range(0, len(x), parts):
        cut = slice(start, start + parts)
        scores = setting.call(x[cut]).float()
        rightly = scores.detach().argmax(1) == first[cut]
        if state.pruning is None:
            loss = share * F.cross_entropy(scores, first[cut], label_smoothing=recipe.label_smoothing)
            if share < 1:
                loss = loss + (1 - share) * F.cross_entropy(scores, second[cut], label_smoothing=recipe.label_smoothing)
            loss = loss * (len(scores) / len(x))
            told, found = loss.detach(), rightly.sum()
        else:
            each = F.cross_entropy(scores, first[cut], label_smoothing=recipe.label_smoothing, reduction="none")
            state.pruning.note(batch[2][cut], each)
            loss = (each * stands[cut].sqrt()).sum() / stands.sqrt().sum()
            told, found = (each.detach() * stands[cut]).sum() / stands.sum(), (rightly * stands[cut]).sum() * (len(x) / stands.sum())
        loss.backward()  # type: ignore[no-untyped-call]
        total += told
        right += found
    state.optimizer.step()
    if state.average is not None:
        _average(state, recipe.ema)
    return total, right


def inputs(setting: Setting, batch: Batch, epoch: int) -> Tensor:
    """The pictures of `batch` as the network sees them in training: N C H W, normalised and augmented by torch's global random stream."""
    recipe, (pictures, _, index) = setting.recipe, batch
    x = setting.normalise(pictures)
    if recipe.lighting and x.shape[1] == 3:
        x = x + colour_noise(len(x), recipe.lighting, x.device) * 255 * setting.normalise.scale
    return augment(x, recipe, setting.size, _turns(recipe, index, epoch))


def _validate(state: State, setting: Setting, feed: Feed) -> Tensor:
    """Logits of `feed`, of the averaged weights where the recipe keeps them."""
    model, recipe = state.model, setting.recipe
    kept = None
    if state.average is not None:
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(state.average)
    try:
        batch = validation_batch(recipe)
        return logits(model, feed, setting.normalise, size=setting.size, batch=batch, half=setting.half, views=recipe.views)
    finally:
        if kept is not None:
            model.load_state_dict(kept)


def scored(found: Tensor, labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of logits; pictures that could not be read (NaN) do not count."""
    read, targets = found[:, 0].isfinite(), torch.from_numpy(labels)
    found, targets = found[read], targets[read]
    return float(F.cross_entropy(found, targets)), float((found.argmax(1) == targets).float().mean())


def order(count: int, recipe: Recipe, epoch: int, pruning: Pruning | None = None) -> list[npt.NDArray[np.int64]]:
    """The batches of an epoch, as index arrays: a pure function of (seed, epoch) and what `pruning` leaves out. A last batch of one
    picture, which batch norm cannot take, is left out; a compiled model leaves out any smaller last batch."""
    stream = np.random.Generator(np.random.Philox(key=key(recipe.seed, epoch, -1)))
    shuffled = stream.permutation(count)
    if pruning is not None:
        shuffled = shuffled[pruning.weights.cpu().numpy()[shuffled] > 0]
    chunks = chunked(shuffled, recipe.batch_size)
    smallest = recipe.batch_size if recipe.compile else 2
    return chunks[:-1] if len(chunks) > 1 and len(chunks[-1]) < smallest else chunks


def _seed(device: torch.device, number: int) -> None:
    """`torch.manual_seed`, which takes a twentieth of a small net's step where there is no GPU to tell it to."""
    (torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed)(number)


def key(seed: int, epoch: int, step: int) -> int:
    """A 63-bit number that differs for each (seed, epoch, step); SplitMix64's mixing function."""
    z = (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + (step + 2) * 0x94D049BB133111EB) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) >> 1


def _turns(recipe: Recipe, index: Tensor, epoch: int) -> Tensor | None:
    """Which pictures are mirrored when flips alternate: a coin thrown once for each picture, then turned over every epoch."""
    if recipe.flip != "alternate":
        return None
    coin = (index * 2654435761 + key(recipe.seed, 0, -2) % 2**31) // 65536
    return (coin + epoch) % 2 == 0


def _progress(state: State, setting: Setting, batches: int) -> float:
    """The share of the training that is over; the present epoch has `batches`."""
    if setting.recipe.time:
        return min(state.seconds / max(setting.recipe.time - setting.reserve, 1e-9), 1.0)
    return min((state.epoch * batches + state.batch) / (setting.recipe.epochs * batches), 1.0)


def _rate(state: State, recipe: Recipe, progress: float) -> float:
    """The recipe's rate, but for its warm-up rule: He et al. 2015, section 4.2, ResNet-110."""
    return learning_rate(progress, recipe) if state.warm else recipe.warmup_rate


def _watch(state: State, recipe: Recipe, error: float, count: int) -> None:
    """Ends the warm-up once the training error of about the last 2,000 pictures is under the recipe's bound."""
    state.running_error += max(count / 2000, 1 / (state.step + 1)) * (error - state.running_error)
    state.warm = state.running_error < recipe.warmup_error


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """average <- d * average + (1 - d) * weights; d grows from 0.1 to `decay`, so that the first steps are soon forgotten."""
    assert state.average is not None
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, value in state.model.state_dict().items():
        if value.is_floating_point():
            state.average[name].lerp_(value, 1 - decay)
        else:
            state.average[name].copy_(value)
