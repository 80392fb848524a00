"""`residual evaluate`, `residual predict` and `residual report`: what becomes of a run once it is trained."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from residual.training.metrics import Evaluation
    from residual.training.prediction import Prediction

_WORST = 15  # classes shown where there are more


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a trained run, or a model file, on a split of its data or on other data.

    Looking at a test split is recorded in the run's `run.json`.
    """

    run_folder: Positional[Annotated[str, arg(metavar="RUN")]]
    """A run's folder, or a .safetensors file (which needs DATA)."""
    data: Positional[Annotated[str, arg(metavar="DATA", help_behavior_hint="")]] = ""
    """Other data than the run's own: a catalog name, a folder or a hub name; measured whole if it has no test set."""
    split: Literal["train", "validation", "test"] = "test"
    """What to measure on."""
    backend: Annotated[str, arg(metavar="NAME")] = "torch"
    """The framework that runs the model: torch, tensorflow, jax or mxnet."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the arithmetic; bfloat16 is several times faster where the processor has it, to two or three digits (PyTorch only)."""
    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print JSON: one object with split, count, top1, top5 (shares from 0 to 1) and everything else that was measured."""

    def run(self) -> int:
        from residual.training.evaluation import evaluate

        found = evaluate(self.run_folder, self.data or None, self.split, backend=self.backend, precision=self.precision)
        if self.json:
            print(json.dumps(found.as_dict(), indent=1))
        else:
            _print_evaluation(found)
        return 0


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Name what is on pictures: the most probable classes of each."""

    run_folder: Positional[Annotated[str, arg(metavar="RUN")]]
    """A run's folder or a .safetensors file."""
    images: Positional[Annotated[tuple[str, ...], arg(metavar="IMAGE_OR_FOLDER...", help_behavior_hint="")]]
    """Pictures, or folders that are read to any depth."""
    top_k: int = 5
    """Classes for each picture."""
    backend: Annotated[str, arg(metavar="NAME")] = "torch"
    """The framework that runs the model: torch, tensorflow, jax or mxnet."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the arithmetic; bfloat16 is several times faster where the processor has it, to two or three digits (PyTorch only)."""
    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print JSON: a list with one object for each picture."""
    csv: Annotated[str, arg(metavar="FILE", help_behavior_hint="")] = ""
    """Write a table with one line for each picture to this file; - is the standard output."""

    def run(self) -> int:
        if self.json and self.csv == "-":
            raise ValueError("--json and --csv - both want the standard output: choose one, or give --csv a file.")
        from residual.training.prediction import predict

        found = predict(self.run_folder, self.images, top_k=self.top_k, backend=self.backend, precision=self.precision)
        if self.csv == "-":
            _write_csv(sys.stdout, found, self.top_k)
            return 0
        if self.csv:
            with Path(self.csv).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                _write_csv(file, found, self.top_k)
        if self.json:
            print(json.dumps([asdict(prediction) for prediction in found], indent=1))
        else:
            _print_predictions(found)
        return 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """One HTML page on runs, studies and models; several are put side by side. It needs no network and no other file."""

    things: Positional[Annotated[tuple[str, ...], arg(metavar="THING...", help_behavior_hint="")]]
    """Run folders, folders of study results, model files (of any known library), or variants from `residual list`."""
    out: Annotated[str, arg(metavar="FILE", help_behavior_hint="(default: report.html in the first one's folder, or MODEL.html)")] = ""
    """Where to write the page."""

    def run(self) -> int:
        from residual.report import open_thing, write_report

        print(write_report([open_thing(name) for name in self.things], Path(self.out) if self.out else None))
        return 0


def _print_evaluation(found: "Evaluation") -> None:
    low, high = found.interval
    print(f"{found.split} split of {found.data}: {found.count:,} pictures")
    rows = [
        ["top-1 accuracy", f"{found.top1:.2%}", f"95 % interval {low:.2%} to {high:.2%}"],
        ["top-5 accuracy", f"{found.top5:.2%}", "always 100 % with five classes or fewer" if len(found.classes) <= 5 else ""],
        ["loss", f"{found.loss:.4f}", "mean of -log(probability of the right class)"],
        ["AUROC", "-" if found.auroc is None else f"{found.auroc:.4f}", "each class against the rest, mean over the classes"],
        ["calibration error", f"{found.calibration_error:.4f}", "15 bins, Guo et al. 2017"],
    ]
    _table((), rows)
    print()
    shown = sorted(found.classes, key=lambda score: score.f1)[:_WORST] if len(found.classes) > _WORST else found.classes
    _table(
        ("class", "pictures", "precision", "recall", "F1"),
        [[s.name, f"{s.support:,}", f"{s.precision:.2%}", f"{s.recall:.2%}", f"{s.f1:.3f}"] for s in shown],
    )
    if len(shown) < len(found.classes):
        print(f"The {len(shown)} classes with the lowest F1 of {len(found.classes)}; --json prints all.")
    for note in found.notes:
        print(note)
    if found.unreadable:
        print(f"{len(found.unreadable)} picture(s) could not be read and were left out:")
        for problem in found.unreadable[:10]:
            print(f"  {problem.file}: {problem.reason}")
        if len(found.unreadable) > 10:
            print(f"  and {len(found.unreadable) - 10} more")


def _print_predictions(found: "Sequence[Prediction]") -> None:
    rows = []
    for prediction in found:
        answers = zip(prediction.classes, prediction.probabilities, strict=True)
        told = ", ".join(f"{name} {probability:.1%}" for name, probability in answers)
        rows.append([prediction.name, told or f"cannot be read: {prediction.problem}"])
    _table((), rows)


def _write_csv(file: TextIO, found: "Sequence[Prediction]", top_k: int) -> None:
    width = max(len(prediction.classes) for prediction in found)
    writer = csv.writer(file, lineterminator="\n")
    names = [f"{kind}_{place}" for place in range(1, min(width, top_k) + 1) for kind in ("class", "probability")]
    writer.writerow(["image", *names, "problem"])
    for prediction in found:
        cells: list[str] = []
        for name, probability in zip(prediction.classes, prediction.probabilities, strict=True):
            cells += [name, f"{probability:.6f}"]
        writer.writerow([prediction.name, *cells, *[""] * (len(names) - len(cells)), prediction.problem])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns side by side, numbers to the right; the last column is never cut."""
    lines = [list(header), *rows] if header else list(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [_aligned(cell, width, number) for number, (cell, width) in enumerate(zip(line, widths, strict=True))]
        print("  ".join(cells).rstrip())


def _aligned(cell: str, width: int, column: int) -> str:
    numeric = column and all(letter in "0123456789.,%-" for letter in cell)
    return cell.rjust(width) if numeric else cell.ljust(width)
