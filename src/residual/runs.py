"""A run is a folder: `run.json` says what was run, `events.jsonl` what happened, `model.safetensors` is what came out.

The test set's openings are written into `run.json`, so that nobody has to believe how often it was looked at.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from residual.recipe import EpochEnd, Recipe, adjusted
from residual.spelling import as_file_name
from residual.weights import SavedModel, load, write_whole

RUN_FORMAT = 1
MODEL_FILE, EVENTS_FILE, RUN_FILE = "model.safetensors", "events.jsonl", "run.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A folder with a training in it.

    Attributes:
        record: what `run.json` holds: `model`, `backend`, `architecture`, `recipe`, `recipe_name`, `reasons`, `data` (source, classes,
            counts, hashes, problems), `split`, `seed`, `versions`, `machine`, `command`, `test_openings`, `result`.
    """

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return adjusted(Recipe(), self.record["recipe"])

    @property
    def backend(self) -> str:
        """The framework that trained it."""
        return str(self.record.get("backend", "torch"))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.record["data"]["classes"])

    def saved(self) -> SavedModel:
        """The model that the run kept."""
        return load(self.folder / MODEL_FILE)

    def events(self) -> Iterator[EpochEnd]:
        """One record an epoch, oldest first; an epoch that was run again after a resume counts once, the later time."""
        path = self.folder / EVENTS_FILE
        lines = path.read_text().splitlines() if path.is_file() else []
        found: dict[int, EpochEnd] = {}
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:  # the line that a killed process was writing
                continue
            found[values["epoch"]] = EpochEnd(**{**values, "losses": tuple(values["losses"])})
        yield from (found[epoch] for epoch in sorted(found))

    def append(self, end: EpochEnd) -> None:
        """Adds a record to the events; one that a killed process left unfinished keeps to its own line."""
        with (self.folder / EVENTS_FILE).open("ab+") as file:
            file.seek(max(file.seek(0, 2) - 1, 0))
            unfinished = file.read(1) not in (b"", b"\n")
            file.write(("\n" * unfinished + json.dumps(dataclasses.asdict(end)) + "\n").encode())

    def write(self) -> None:
        """Writes the record to `run.json`."""
        text = json.dumps({"format_version": RUN_FORMAT, **self.record}, indent=1, default=str)
        write_whole(self.folder / RUN_FILE, text.encode())


def new_folder(out: str | Path | None, data: Any, model: str) -> Path:
    """Where a run on `data` goes: `out`, or a folder in `runs` that is not there yet. ValueError where `out` holds a run or is a file."""
    if out is None:
        name = Path(data).name if isinstance(data, str | Path) else "arrays"
        stem = as_file_name(f"{name or 'data'}-{model}")
        return next(path for n in range(1, 100_000) if not (path := Path("runs") / f"{stem}-{n}").exists())
    folder = Path(out)
    if (folder / RUN_FILE).exists() or (folder / EVENTS_FILE).exists():
        raise ValueError(f"{folder} holds a run already: choose another --out, or go on with it by `residual train --resume {folder}`.")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but a run is a folder: choose another --out.")
    return folder


def open_run(path: str | Path) -> Run:
    """The run in folder `path`. ValueError names what is missing or damaged."""
    folder = Path(path)
    file = folder / RUN_FILE
    if not folder.is_dir():
        raise ValueError(f"There is no run folder {folder}; `residual train` makes one.")
    if not file.is_file():
        raise ValueError(f"{folder} is not a run: it has no {RUN_FILE}.")
    try:
        record = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error
    if not isinstance(record, dict) or record.pop("format_version", None) != RUN_FORMAT:
        raise ValueError(f"{file} was not written by this version of residual (run format {RUN_FORMAT}).")
    return Run(folder=folder, record=record)


def as_json(values: Any) -> Any:
    """`values` as they come back from a JSON file: what a record is compared with."""
    return json.loads(json.dumps(values, default=str))
