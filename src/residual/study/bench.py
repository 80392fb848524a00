"""What a study of models on pictures starts from: the models side by side, and one fixed subset of pictures, prepared for each.

The surprising thing: pictures of a test split leave a trace in every run that is looked at, as `residual evaluate` does.
"""

import hashlib
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from residual.preprocessing import Preprocessing
from residual.runs import Run, as_json
from residual.spelling import nearest
from residual.study.store import Finding, Parts, open_parts
from residual.study.subjects import Subject, distinct, open_subject, run_of

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
_SPLITS = ("train", "validation", "test")
_SMALL_SIDE = 64  # pictures up to this side keep their size where a model does not say what it takes


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What every study of models is asked for.

    Attributes:
        models: runs, model files or variants.
        data: a name, a folder, or arrays (images, labels); None or "" is what the first run was trained on.
        count: pictures, drawn without replacement by `seed`, the same for every model; 0 is all.
        seed: of the subset, of first values and of all that a study draws.
        out: folder that the result and the finished parts are kept in; None keeps nothing.
        small: fewer repetitions, as each study says.
    """

    models: tuple[str, ...]
    data: Any = None
    split: str = "test"
    count: int = 1000
    seed: int = 0
    out: str | Path | None = None
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Models and pictures. `records` are the chosen ones; `told` says which they are, ready for JSON."""

    ask: Ask
    subjects: tuple[Subject, ...]
    source: Any
    records: Any
    told: dict[str, Any]
    decoded: dict[Any, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        labels: Labels = self.records.labels
        return labels

    def pictures(self, subject: Subject) -> Images:
        """The pictures as `subject` takes them: N C H W float32, normalised."""
        cleaned = subject.preprocessing
        assert cleaned is not None
        return cleaned.normalise(self._pixels(cleaned))

    def targets(self, subject: Subject) -> Labels:
        """The labels as numbers of the model's outputs."""
        if not subject.classes or self.source.kind == "arrays":
            return self.labels
        places = np.array([subject.classes.index(name) for name in self.source.classes], np.int64)
        return places[self.labels]

    def _pixels(self, cleaned: Preprocessing) -> npt.NDArray[np.uint8]:
        return _decoded(self.records, cleaned, self.decoded)

    def parts(self, study: str, settings: dict[str, Any]) -> Parts:
        """The parts kept so far of the study of these models on these pictures with `settings`."""
        return open_parts(self.ask.out, study, self.settings(settings))

    def settings(self, own: dict[str, Any]) -> dict[str, Any]:
        """All that fixes the result: the weights, the pictures and the study's own settings."""
        models = [{"label": s.label, "depth": s.depth, "kind": s.kind, "trained": s.trained, "hash": s.digest()} for s in self.subjects]
        return {"models": models, "data": self.told, "seed": self.ask.seed, **own}

    def finding(self, study: str, settings: dict[str, Any], parts: Parts, result: Any, scaled_down: tuple[str, ...]) -> Finding:
        """The result with all that is to be known of how it came about."""
        from residual.training import machine, versions

        return Finding(
            study=study, settings=self.settings(settings), scaled_down=scaled_down, data=self.told, machine=machine.machine().as_dict(),
            versions=versions.versions(), seconds=parts.seconds, command=shlex.join(["residual", *sys.argv[1:]]), result=result,
        )  # fmt: skip


def open_bench(ask: Ask, study: str) -> Bench:
    """The models and pictures that are asked for. ValueError for a model, data or split that is not there, or that do not fit."""
    if not ask.models:
        raise ValueError(f"The study {study} needs at least one model: a run's folder, a model file or a variant.")
    if ask.count < 0 or ask.count == 1:
        raise ValueError(f"count is {ask.count}, but must be at least 2, or 0 for all pictures.")
    runs = [run for run in map(run_of, ask.models) if run is not None]
    source, own = _source(ask, runs)
    records = _split(source, ask.split, own)
    rows = np.arange(len(records), dtype=np.int64)
    if 0 < ask.count < len(records):
        rows = np.sort(np.random.Generator(np.random.Philox(key=ask.seed)).permutation(len(records))[: ask.count])
    chosen = records.subset(rows)
    decoded: dict[Any, Any] = {}
    subjects = _prepared(ask, source, chosen, decoded)
    told = {
        "name": source.name, "split": ask.split, "count": len(chosen), "of": len(records), "seed": ask.seed, "classes": len(source.classes),
        "hash": hashlib.sha256(chosen.rows.tobytes() + repr(as_json(source.fingerprint)).encode()).hexdigest()[:16],
    }  # fmt: skip
    if ask.split == "test":
        from residual.training import note_opening

        for run in {str(run.folder.resolve()): run for run in runs}.values():
            note_opening(run, by=f"study {study}", count=len(chosen), data=source.name)
    return Bench(ask=ask, subjects=subjects, source=source, records=chosen, told=told, decoded=decoded)


def _source(ask: Ask, runs: list[Run]) -> tuple[Any, Run | None]:
    """The data, and the first run that was trained on it."""
    from residual.training import open_source

    data = ask.data
    if data is None or (isinstance(data, str) and not data):
        if not runs:
            raise ValueError("None of the models is a run, so none knows its data: name the data, e.g. --data digits.")
        if runs[0].record["data"]["kind"] == "arrays":
            raise ValueError(f"The run {runs[0].folder} was trained on arrays: name other data, e.g. --data digits.")
        data = runs[0].record["data"]["source"]
    source = open_source(data)
    told = as_json(source.fingerprint)
    return source, next((run for run in runs if run.record["data"]["fingerprint"] == told), None)


def _split(source: Any, split: str, own: Run | None) -> Any:
    if split not in _SPLITS:
        raise ValueError(f"There is no split {split!r}.{nearest(split, _SPLITS)} Splits: {', '.join(_SPLITS)}.")
    found = source.splits
    if own is not None:
        from residual.training import splits

        found = splits(source, own.recipe, [problem["file"] for problem in own.record["data"]["problems"]])
    if split not in found:
        raise ValueError(f"{source.name} has no {split} split here; its splits: {', '.join(found)}.")
    return found[split]


def _prepared(ask: Ask, source: Any, records: Any, decoded: dict[Any, Any]) -> tuple[Subject, ...]:
    """The subjects, each with a preprocessing: its own, or one made from the chosen pictures."""
    from dataclasses import replace

    from residual.training import look

    seen = look(records)
    found: list[Subject] = []
    for name in ask.models:
        subject = open_subject(name, seed=ask.seed, channels=seen.channels, num_classes=len(source.classes))
        _check_classes(subject, source)
        if subject.preprocessing is None:
            channels = subject.network.in_channels
            size = seen.size if max(seen.size) <= _SMALL_SIDE else (224, 224)
            subject = replace(subject, preprocessing=_from_pictures(records, size, channels, decoded))
        found.append(subject)
    return distinct(found)


def _check_classes(subject: Subject, source: Any) -> None:
    outputs = subject.network.num_classes
    if subject.classes and source.kind != "arrays":
        strange = [name for name in source.classes if name not in subject.classes]
        if strange:
            raise ValueError(
                f"{source.name} has the class {strange[0]!r}, which {subject.label} does not know.{nearest(strange[0], subject.classes)}"
            )
    elif len(source.classes) > outputs:
        raise ValueError(f"{source.name} has {len(source.classes)} classes, but {subject.label} has {outputs} outputs.")


def _from_pictures(records: Any, size: tuple[int, int], channels: int, decoded: dict[Any, Any]) -> Preprocessing:
    """Mean and deviation of each channel over the chosen pictures."""
    neutral = Preprocessing(size=size, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)
    pixels = _decoded(records, neutral, decoded).reshape(-1, channels) / 255.0
    mean, std = (tuple(round(float(v), 6) for v in values) for values in (pixels.mean(0), np.maximum(pixels.std(0), 1e-3)))
    return Preprocessing(size=size, channels=channels, mean=mean, std=std)


def _decoded(records: Any, cleaned: Preprocessing, kept: dict[Any, Any]) -> npt.NDArray[np.uint8]:
    from residual.training import decode, frame_of

    frame = frame_of(cleaned)
    if frame not in kept:
        found = decode(records, frame)
        if found.problems:
            first = found.problems[0]
            raise ValueError(f"{first.file} cannot be read ({first.reason}): `residual doctor` finds all such pictures; remove them.")
        kept[frame] = found.images
    images: npt.NDArray[np.uint8] = kept[frame]
    return images


__all__ = ["Ask", "Bench", "Images", "Labels", "open_bench"]
