"""What a study found, on disk: `results/<name>/result.json` is the result and all that is needed to judge and repeat it.

A long study keeps its finished parts beside it, in `parts/`: run again with the same settings, it goes on from there.
"""

import hashlib
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from residual.spelling import nearest
from residual.study.plain import from_plain, to_plain
from residual.weights import write_whole

FORMAT = 1
RESULT_FILE, PARTS = "result.json", "parts"
_SETTINGS = "settings.json"

# name -> the module that holds its `Result`
STUDIES: dict[str, str] = {
    "blocks": "residual.study.blocks",
    "degradation": "residual.study.degradation",
    "gradients": "residual.study.gradients",
    "landscape": "residual.study.landscape",
    "lesion": "residual.study.lesion",
    "nesting": "residual.study.nesting",
    "reproduction": "residual.study.reproduction",
    "responses": "residual.study.responses",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A study's result and what it was made from.

    Attributes:
        study: its name, a key of STUDIES.
        settings: plain values; two findings with the same settings hold the same numbers on the same machine.
        scaled_down: sentences on what is smaller here than in the paper.
        data: name, split, count and hash of the pictures; empty where there are none.
        seconds: of computing, those of parts that were kept included.
        result: the `Result` of the study's module.
    """

    study: str
    settings: dict[str, Any]
    scaled_down: tuple[str, ...]
    data: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, Any]
    seconds: float
    command: str
    result: Any


def save(finding: Finding, folder: str | Path) -> Path:
    """The file that was written, beside its place and renamed into it. ValueError for a study that is not in STUDIES."""
    _module(finding.study)
    place = Path(folder)
    _make(place)
    values = {"format": FORMAT, **to_plain(finding)}
    write_whole(place / RESULT_FILE, json.dumps(values, indent=1, allow_nan=False).encode())
    return place / RESULT_FILE


def load(folder: str | Path) -> Finding:
    """What `save` wrote into `folder`; its `result` is the `Result` of the study. ValueError says what is missing or damaged."""
    place = Path(folder)
    file = place if place.name == RESULT_FILE else place / RESULT_FILE
    if not file.is_file():
        if (file.parent / PARTS).is_dir():
            raise ValueError(f"The study in {file.parent} is not finished: run its command again, and it goes on from its parts.")
        raise ValueError(f"There is no study's result in {file.parent}: it has no {RESULT_FILE}; `residual study` makes one.")
    values = _object(file)
    if values.get("format") != FORMAT or not isinstance(values.get("study"), str):
        raise ValueError(f"{file} was not written by this version of residual (result format {FORMAT}).")
    try:
        kind = _module(values["study"]).Result
        told = {field.name: from_plain(field.type, values[field.name], field.name) for field in fields(Finding) if field.name != "result"}
        return Finding(**told, result=from_plain(kind, values["result"], "result"))
    except KeyError as error:
        raise ValueError(f"{file} is damaged: it has no {error}.") from error
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {str(error).rstrip('.')}.") from error


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The finished parts of a study; with no folder nothing is kept."""

    folder: Path | None
    spent: list[float]

    @property
    def seconds(self) -> float:
        """What all parts that were asked for took to compute, now or in an earlier run."""
        return sum(self.spent)

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The part `name` as plain values: as it was kept, or made now and kept."""
        file = self.folder / f"{_file_name(name)}.json" if self.folder else None
        if file is not None and file.is_file():
            kept = _object(file)
            if kept.get("part") != name or "values" not in kept or not isinstance(kept.get("seconds"), float):
                raise ValueError(f"{file} is damaged: it is not the part {name!r}; delete it to compute it again.")
            self.spent.append(kept["seconds"])
            return kept["values"]
        began = time.perf_counter()
        values = to_plain(make())
        self.spent.append(time.perf_counter() - began)
        text = json.dumps({"part": name, "seconds": self.spent[-1], "values": values}, allow_nan=False)
        if file is not None:
            write_whole(file, text.encode())
        return json.loads(text)["values"]


def open_parts(folder: str | Path | None, study: str, settings: dict[str, Any]) -> Parts:
    """The parts kept in `folder` by a study with the same settings; a new, empty place for them where there are none.

    ValueError when the folder holds parts of another study or of other settings; it names the first that differs.
    """
    if folder is None:
        return Parts(folder=None, spent=[])
    place = Path(folder) / PARTS
    told = {"study": study, **to_plain(settings)}
    file = place / _SETTINGS
    if file.is_file():
        before = _object(file)
        if _hash(before) != _hash(told):
            name = next(key for key in sorted({*before, *told}) if before.get(key) != told.get(key))
            raise ValueError(
                f"{folder} holds a study with another {name} ({_short(before.get(name))}, and now {_short(told.get(name))}): "
                f"give another --out, or delete {place} to begin anew."
            )
    else:
        _make(place)
        write_whole(file, json.dumps(told, indent=1, allow_nan=False).encode())
    return Parts(folder=place, spent=[])


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    told = json.dumps(value)
    return told if len(told) <= 60 else f"{told[:57]}..."


def _file_name(name: str) -> str:
    """Readable and one for each name: what a file system may refuse is replaced, and a digest keeps names apart."""
    readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _module(study: str) -> Any:
    if study not in STUDIES:
        raise ValueError(f"There is no study {study!r}.{nearest(study, STUDIES)} Studies: {', '.join(STUDIES)}.")
    return importlib.import_module(STUDIES[study])


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"A result cannot be written to {folder}: {error.strerror}.") from error


def _object(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {str(error).rstrip('.')}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} is damaged: it holds no object.")
    return values


__all__ = ["FORMAT", "RESULT_FILE", "STUDIES", "Finding", "Parts", "load", "open_parts", "save"]
