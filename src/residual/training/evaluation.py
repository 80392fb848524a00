"""Measuring a trained model on a split, and writing down what came out, and that somebody looked.

The surprising thing: looking at a test set leaves a trace. Each opening is added to `run.json` before a single picture is read.
"""

import datetime
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from residual.backends import check_backend
from residual.data import Frame, Lazy, Problem, Records, Source, check_losses, decode, decode_into, memory_plan, open_source
from residual.data.cache import PictureCache, open_cache
from residual.data.decode import are_large
from residual.runs import Run, as_json, open_run
from residual.spelling import nearest
from residual.training.feed import Normaliser, Resident, Streamed
from residual.training.inference import answers
from residual.training.machine import device_memory
from residual.training.metrics import Evaluation, measure
from residual.training.prediction import Classifier, frame_of, open_classifier
from residual.training.prepare import splits
from residual.weights import write_whole

SPLITS = ("train", "validation", "test")
_HALF = ("Computed in bfloat16.",)
_SHOWN = 24  # pictures kept for the report's gallery, of mistakes and of right answers


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An evaluation and what it was computed from: probabilities N x classes of the readable pictures, which are `records`.

    Attributes:
        worst: positions of the most confident mistakes, most confident first; `best` likewise of the right answers.
    """

    evaluation: Evaluation
    probabilities: npt.NDArray[np.float64]
    records: Records
    frame: Frame
    worst: npt.NDArray[np.int64]
    best: npt.NDArray[np.int64]

    def pictures(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Those pictures as the network sees them, read anew, N H W C; black where one cannot be read now."""
        images = np.zeros((len(positions), *self.frame.size, self.frame.channels), np.uint8)
        lazy = Lazy(records=self.records, frame=self.frame)
        for place, position in enumerate(positions):
            read = lazy.read(int(position))
            if not isinstance(read, Problem):
                images[place] = read
        return images


def evaluate(
    run: Run | str | Path, data: Any = None, split: str = "test", *, backend: str = "torch", precision: str = "float32"
) -> Evaluation:
    """The scores of a run, or of the model in a .safetensors file, on a split of its own data or of `data`.

    A run gets the scores and the most confident mistakes written into its folder, and openings of a test set into `run.json`.
    `backend` is the framework that runs the model, `precision` "float32" or (PyTorch only) "bfloat16". `data` that has no test set
    of its own and was not trained on is measured whole as "test".

    Raises:
        ValueError: there is no such run, split, backend, precision or data, or the classes of `data` are not the model's.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}.{nearest(split, SPLITS)} Splits: {', '.join(SPLITS)}.")
    check_backend(backend)
    if not isinstance(run, Run) and not _is_run(Path(run)):
        if data is None:
            raise ValueError(f"{run} is a model file and does not know its data: name the data to measure it on.")
        classifier = open_classifier(run, backend, precision=precision)
        records, notes = _foreign(open_source(data), split, classifier.classes)
        outcome = evaluate_model(classifier, records, split=split)
        return replace(outcome.evaluation, data=_name(data), notes=notes + _HALF[: classifier.half])
    opened = run if isinstance(run, Run) else open_run(run)
    if data is None and opened.record["data"]["kind"] == "arrays":
        raise ValueError(f"The run {opened.folder} was trained on arrays: pass them, or other data, to evaluate it.")
    source = open_source(opened.record["data"]["source"] if data is None else data)
    return evaluate_run(opened, source, split, by="evaluate", backend=backend, precision=precision)


def _is_run(path: Path) -> bool:
    """Whether `path` is to be opened as a run: all but files and folders that other libraries keep a model in."""
    return not path.is_file() and not (path / "config.json").is_file()


def evaluate_run(run: Run, source: Source, split: str, *, by: str, backend: str = "torch", precision: str = "float32") -> Evaluation:
    """The scores of a run on a split of opened data, written into its folder; `by` is who opened the test set.

    Data that the run was not trained on, and another arithmetic, are kept in files of their own, so that the run's own result stays.
    """
    classifier = open_classifier(run, backend, precision=precision)
    own, notes = _is_own(run, source), tuple[str, ...]()
    if own:
        records = _own(run, source, split)
    else:
        records, notes = _foreign(source, split, classifier.classes)
    name = run.record["data"]["source"] if own else source.name
    if split == "test":
        note_opening(run, by=by, count=len(records), data=name)
    kept, cache = split if split in source.splits else "train", None
    if not notes:  # notes tell of two splits in one
        cache, _ = open_cache(source, kept, frame_of(classifier.preprocessing), making_room=False)
    outcome = evaluate_model(classifier, records, split=split, cache=cache)
    outcome = replace(outcome, evaluation=replace(outcome.evaluation, data=name, notes=notes + _HALF[: classifier.half]))
    stem = f"evaluation-{split}" if own else f"evaluation-{split}-on-{_slug(source.name)}"
    keep(run.folder / (f"{stem}-bfloat16" if classifier.half else stem), outcome)
    return outcome.evaluation


def evaluate_model(
    classifier: Classifier, records: Records, *, split: str, memory: float = 0.4, cache: PictureCache | None = None
) -> Outcome:
    """The scores of a model on records whose labels are indices into its classes, on its device; nothing is written but the cache.

    On a CPU large pictures are read from the cache, where there is one and they take some memory, or decoded as they are needed; so are all
    that take more than the share `memory` of the free memory. The others are decoded before.
    """
    preprocessing, device, workers = classifier.preprocessing, classifier.device, os.cpu_count() or 1
    frame = frame_of(preprocessing)
    cached = cache is not None and device.type == "cpu"
    place = memory_plan(len(records), frame, memory, cached=cached, device_free=device_memory(device)).place
    if place == "cache" and cache is not None:  # decoding beside the network would slow both down
        decode_into(cache, records, frame, workers=workers)
        place = "memory" if cache.fault else place
    elif place == "memory" and device.type == "cpu" and are_large(records):
        place = "stream"  # up to a twelfth slower, but two batches of memory instead of all
    if place == "memory":
        decoded = decode(records, frame, workers=workers, cache=cache)
        problems, records = list(decoded.problems), records.subset(decoded.kept)
        feed: Resident | Streamed = Resident(decoded, None, device)
    else:
        feed, problems = Streamed(Lazy(records=records, frame=frame, cache=cache), None, device, workers), list[Problem]()
    values = answers(
        classifier.scores, feed, Normaliser(preprocessing, device), size=preprocessing.size, classes=len(classifier.classes),
        batch=classifier.batch,
    )  # fmt: skip
    if isinstance(feed, Streamed):
        problems = [Problem(file=file, reason=reason) for file, reason in feed.problems.items()]
        kept = np.flatnonzero([name not in feed.problems for name in records.names]).astype(np.int64)
        check_losses(records, kept, tuple(problems))
        values, records = values[torch.from_numpy(kept)], records.subset(kept)
    shares = torch.softmax(values.double(), 1).numpy()
    evaluation = replace(measure(shares, records.labels, split=split, classes=classifier.classes), unreadable=tuple(problems))
    return _outcome(evaluation, shares, records, frame)


def note_opening(run: Run, *, by: str, count: int, data: str) -> None:
    """Adds an opening of a test split to the run's record and writes it."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run.record.setdefault("test_openings", []).append({"time": now, "split": "test", "count": count, "by": by, "data": data})
    run.write()


def keep(stem: Path, outcome: Outcome) -> None:
    """Writes `stem`.json (the evaluation) and `stem`.npz (probabilities as float32, labels, names, the gallery's pictures)."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, probabilities=outcome.probabilities.astype(np.float32), labels=outcome.records.labels,
        names=np.array(outcome.records.names, str), worst=outcome.worst, best=outcome.best,
        worst_images=outcome.pictures(outcome.worst), best_images=outcome.pictures(outcome.best),
    )  # fmt: skip
    write_whole(stem.with_name(f"{stem.name}.npz"), buffer.getvalue())
    write_whole(stem.with_name(f"{stem.name}.json"), json.dumps(outcome.evaluation.as_dict()).encode())


def _outcome(evaluation: Evaluation, shares: npt.NDArray[np.float64], records: Records, frame: Frame) -> Outcome:
    guess, sure = shares.argmax(1), shares.max(1)
    order = np.argsort(-sure, kind="stable")
    worst = order[guess[order] != records.labels[order]][:_SHOWN]
    best = order[guess[order] == records.labels[order]][:_SHOWN]
    return Outcome(evaluation=evaluation, probabilities=shares, records=records, frame=frame, worst=worst, best=best)


def _is_own(run: Run, source: Source) -> bool:
    """Whether the run was trained on `source`. ValueError where it was, but on another state of it whose test cut may overlap."""
    told = run.record["data"]
    if as_json(source.fingerprint) == told["fingerprint"]:
        return True
    if told["kind"] == "arrays" or source.kind == "arrays" or _where(source.name) != _where(told["source"]):
        return False
    raise ValueError(
        f"{source.name} has changed since the run {run.folder} was trained on it, so its test set may hold training pictures; "
        "restore it, or put the new pictures into a folder of their own."
    )


def _own(run: Run, source: Source, split: str) -> Records:
    before, now = run.record["data"]["source"], _where(source.name)  # the folder may have been moved
    left_out = [problem["file"] for problem in run.record["data"]["problems"]]
    found = splits(source, run.recipe, [now + file.removeprefix(before) if file.startswith(before) else file for file in left_out])
    if split not in found:
        raise ValueError(f"The run {run.folder} has no {split} split: its recipe held none out; its splits: {', '.join(found)}.")
    wanted = run.record["split"].get(split, len(found[split]))
    if len(found[split]) != wanted:
        raise ValueError(
            f"The {split} split of {source.name} has {len(found[split])} pictures now, but had {wanted} in the run {run.folder}; "
            "restore the data, or measure on the test split."
        )
    return found[split]


def _foreign(source: Source, split: str, classes: Sequence[str]) -> tuple[Records, tuple[str, ...]]:
    """A split of data that was not trained on, its labels made the model's, and sentences on it."""
    if split not in source.splits:
        raise ValueError(f"{source.name} has no {split} split; its splits: {', '.join(source.splits)}.")
    records, notes = source.splits[split], tuple[str, ...]()
    if split == "test" and "test_cut" in source.fingerprint:
        parts = (source.splits["train"], source.splits["test"])
        rows, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "labels"))
        records = Records(store=records.store, rows=rows, labels=labels)
        notes = (f"{source.name} has no test set of its own: all its {len(records)} pictures were measured.",)
    return _relabelled(records, source, classes), notes


def _relabelled(records: Records, source: Source, classes: Sequence[str]) -> Records:
    """The records with labels that are indices into the model's `classes`; of arrays the labels are such already."""
    if source.kind == "arrays":
        if len(source.classes) > len(classes):
            raise ValueError(f"The labels go up to {len(source.classes) - 1}, but the model has {len(classes)} classes.")
        return records
    strange = [name for name in source.classes if name not in classes]
    if strange:
        told = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
        numbers = tuple(classes) == tuple(map(str, range(len(classes))))
        unnamed = " Where its file has no names, `residual convert MODEL TARGET --to residual --classes ...` gives them." if numbers else ""
        raise ValueError(
            f"{source.name} has the class {strange[0]!r}, which the model does not know.{nearest(strange[0], classes)} "
            f"The model's classes: {told}.{unnamed}"
        )
    places = np.array([list(classes).index(name) for name in source.classes], np.int64)
    return replace(records, labels=places[records.labels])


def _where(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _name(data: Any) -> str:
    return str(data) if isinstance(data, str | Path) else "arrays"


def _slug(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in Path(name).name).strip("-")[:60] or "data"


__all__ = ["SPLITS", "Evaluation", "Outcome", "evaluate", "evaluate_model", "evaluate_run", "keep", "note_opening"]
