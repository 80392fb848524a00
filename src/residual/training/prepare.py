"""From an opened data set to the feeds of a training: the validation cut, decoding or streaming, and the pixel statistics.

The test split is not touched here: nothing that decides anything may see it.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from residual.data import (
    Frame,
    Lazy,
    MemoryPlan,
    Problem,
    Records,
    Source,
    check_losses,
    cut,
    decode,
    decode_into,
    digest,
    memory_plan,
    screen,
)
from residual.data.cache import PictureCache, open_cache
from residual.data.memory import Place
from residual.preprocessing import Preprocessing
from residual.recipe import Recipe
from residual.training.feed import Feed, Resident, Streamed
from residual.training.inference import chunked
from residual.training.machine import device_memory

_SAMPLE, _STREAMED_SAMPLE = 10_000, 1_000  # pictures that the pixel statistics are taken over; the latter where each is decoded for it
_CHUNK = 4_000_000  # pixels taken together in the statistics: 48 MB of float32 colour
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Feeds of uint8 pictures and what is to be known of them.

    Attributes:
        split: counts, share, seed and hash of the validation cut, ready for JSON.
        plan: where the pictures are.
    """

    train: Feed
    validation: Feed | None
    preprocessing: Preprocessing
    problems: tuple[Problem, ...]
    split: dict[str, Any]
    plan: MemoryPlan


def prepare(
    source: Source,
    recipe: Recipe,
    size: tuple[int, int],
    channels: int,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> Prepared:
    """The feeds for training on `source` at `size`.

    Pictures that cannot be read are left out before the cut. ValueError where too few are left.
    """
    records, frame = source.splits["train"], Frame(size=_stored(size, recipe), channels=channels)
    seen = Frame(size=size, channels=channels, crop=recipe.crop)
    cache, told = open_cache(source, "train", frame)
    feeds, plan = _placed(records, frame, cache, device, progress)
    decoded, other, own = None, None, "validation" in source.splits
    if plan.place == "memory":
        decoded = decode(records, frame, workers=feeds.workers, progress=progress, cache=cache)
        problems, kept = decoded.problems, decoded.kept
    else:
        if recipe.validation:
            other, _ = open_cache(source, "validation" if own else "train", seen, beside=cache)
        problems = feeds.screened(records, frame, cache, None if own else other)
        kept = _without(records, (problem.file for problem in problems))
        check_losses(records, kept, problems)
    good = records.subset(kept)
    chosen, held = held_out(good.labels, source, recipe)
    train: Feed = (
        Resident(decoded, chosen, device)
        if decoded is not None
        else Streamed(Lazy(records=good.subset(chosen), frame=frame, cache=cache), None, device, feeds.workers)
    )
    validation: Feed | None = None
    if own and recipe.validation:
        validation, more = feeds.make(source.splits["validation"], seen, other)
        problems += more
    elif len(held) and decoded is not None and isinstance(train, Resident) and frame == seen:
        validation = train.part(decoded.labels, held)
    elif len(held):
        validation, _ = feeds.make(good.subset(held), seen, other)
    return Prepared(
        train=train, validation=validation, problems=problems,
        preprocessing=_statistics(train, recipe, size, channels, plan.place),
        split=_split(source, recipe, train, validation) | {"hash": digest(kept[chosen], kept[held])},
        plan=replace(plan, cache=cache.fault if cache and cache.fault else told),
    )  # fmt: skip


def _placed(
    records: Records, frame: Frame, cache: PictureCache | None, device: torch.device, progress: Progress | None
) -> tuple["_Feeds", MemoryPlan]:  # fmt: skip
    """Where the pictures go. A cache that is to hold them is filled; they are held in memory where the disk fails at that."""
    feeds = _Feeds(device=device, workers=os.cpu_count() or 1, place="cache", progress=progress)
    plan = memory_plan(len(records), frame, cached=cache is not None and device.type == "cpu", device_free=device_memory(device))
    if plan.place == "cache" and cache is not None:
        decode_into(cache, records, frame, workers=feeds.workers, progress=progress)
        plan = replace(plan, place="memory") if cache.fault else plan
    return replace(feeds, place=plan.place), plan


def _split(source: Source, recipe: Recipe, train: Feed, validation: Feed | None) -> dict[str, Any]:
    return {
        "rule": "the data's own" if "validation" in source.splits else "cut from the training pictures, by class",
        "validation_share": recipe.validation, "seed": recipe.seed, "train": len(train),
        "validation": len(validation) if validation is not None else 0,
    }  # fmt: skip


def splits(source: Source, recipe: Recipe, left_out: Iterable[str]) -> dict[str, Records]:
    """The records "train", "validation" (where there is one) and "test" of a run that left out the files `left_out`."""
    records = source.splits["train"]
    good = records.subset(_without(records, left_out))
    chosen, held = held_out(good.labels, source, recipe)
    found = {"train": good.subset(chosen), "test": source.splits["test"]}
    if "validation" in source.splits and recipe.validation:
        found["validation"] = source.splits["validation"]
    elif len(held):
        found["validation"] = good.subset(held)
    return found


def held_out(labels: npt.NDArray[np.int64], source: Source, recipe: Recipe) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions to train on and positions held out for validation; none where the data brings its own, or the recipe wants none."""
    if not recipe.validation or "validation" in source.splits:
        return np.arange(len(labels), dtype=np.int64), np.zeros(0, np.int64)
    return cut(labels, share=recipe.validation, seed=recipe.seed)


@dataclass(frozen=True, kw_only=True)
class _Feeds:
    """Makes a feed of records, in memory or streamed."""

    device: torch.device
    workers: int
    place: Place
    progress: Progress | None

    def make(self, records: Records, frame: Frame, cache: PictureCache | None) -> tuple[Feed, tuple[Problem, ...]]:
        held = self.place == "memory" or (self.place == "cache" and cache is None)
        if held and memory_plan(len(records), frame, device_free=device_memory(self.device)).place == "memory":
            decoded = decode(records, frame, workers=self.workers, progress=self.progress, cache=cache)
            return Resident(decoded, None, self.device), decoded.problems
        problems = self.screened(records, frame, cache)
        good = records.subset(_without(records, (problem.file for problem in problems)))
        return Streamed(Lazy(records=good, frame=frame, cache=cache), None, self.device, self.workers), problems

    def screened(self, records: Records, frame: Frame, cache: PictureCache | None, *caches: PictureCache | None) -> tuple[Problem, ...]:
        """The pictures that cannot be read; those in a cache were read before. Where pictures would fit into memory all are decoded into
        their cache; else headers and ends are looked at."""
        if self.place == "cache" and cache is not None:
            return decode_into(cache, records, frame, workers=self.workers, progress=self.progress)
        unknown = np.ones(len(records), np.bool_)
        for each in (cache, *caches):
            if each is not None:
                unknown &= ~each.known(records.rows)
        return screen(records.subset(np.flatnonzero(unknown)), workers=self.workers, progress=self.progress)


def _stored(size: tuple[int, int], recipe: Recipe) -> tuple[int, int]:
    """The size at which training pictures are kept: larger where crops of them are enlarged, at most twice."""
    share = recipe.crop_scale[0] ** 0.5 if recipe.crop_scale != (1.0, 1.0) else recipe.crop
    factor = min(2.0, 1 / share)
    return round(size[0] * factor), round(size[1] * factor)


def _without(records: Records, files: Iterable[str]) -> npt.NDArray[np.int64]:
    left_out = set(files)
    if not left_out:
        return np.arange(len(records), dtype=np.int64)
    return np.array([i for i, name in enumerate(records.names) if name not in left_out], np.int64)


def _statistics(train: Feed, recipe: Recipe, size: tuple[int, int], channels: int, place: Place) -> Preprocessing:
    """Mean and deviation over at most 10,000 evenly spaced training pictures; over 1,000 where each may have to be decoded for it."""
    most = _STREAMED_SAMPLE if place == "stream" else _SAMPLE
    if recipe.centering == "none":
        return Preprocessing(size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels, crop=recipe.crop)
    chosen = np.unique(np.linspace(0, len(train) - 1, most).astype(np.int64))
    total, squares = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    count, image = 0, None
    for pictures, _, _ in train.read(chunked(chosen, max(1, _CHUNK // (size[0] * size[1])))):
        x = pictures.to(torch.float32) / 255
        count += len(x)
        total = total + x.mean((1, 2)).sum(0).double().cpu()
        squares = squares + (x * x).mean((1, 2)).sum(0).double().cpu()
        image = x.sum(0).double() if image is None else image + x.sum(0).double()
    mean, square = total / count, squares / count
    if recipe.centering == "pixel":
        assert image is not None
        mean = _cut_to(image.cpu() / count, size).permute(2, 0, 1).flatten()
        return Preprocessing(size=size, channels=channels, mean=_rounded(mean), std=(1.0,) * channels, crop=recipe.crop)
    std = (square - mean**2).clamp(min=1e-6).sqrt()
    return Preprocessing(size=size, channels=channels, mean=_rounded(mean), std=_rounded(std), crop=recipe.crop)


def _cut_to(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """An H W C mean picture brought to `size`."""
    if tuple(image.shape[:2]) == size:
        return image
    stretched = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True)
    return stretched[0].permute(1, 2, 0)


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
