"""What a training shows: a live line and one line an epoch on a terminal, plain lines elsewhere, the result alone when quiet.

The loss lies on the device; it is fetched at most twice a second, so that looking does not slow the training.
"""

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from residual.recipe import EpochEnd

if TYPE_CHECKING:
    from residual.runs import Run
    from residual.training.experiment import Experiment
    from residual.training.loop import StepEnd
    from residual.training.metrics import Evaluation

_PAUSE = 0.5  # seconds between two looks at the loss
_SILENCE = 30.0  # seconds after which a plain output says that it lives


class Display:
    """Shows one training; a context, within which the terminal's live line is kept."""

    def __init__(self, *, quiet: bool) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
        self.quiet, self.live = quiet, self.console.is_terminal and not quiet
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[said]}"), console=self.console, transient=True,
            disable=not self.live,
        )  # fmt: skip
        self.task = self.bar.add_task("reading", total=1.0, said="", start=False)
        self.last, self.first, self.before = 0.0, 0.0, (0, 0.0)
        self.size, self.epochs, self.timed = 1, 1, False

    def __enter__(self) -> "Display":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def note(self, text: str) -> None:
        """A line, unless quiet."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def decoding(self, done: int, total: int) -> None:
        """Pictures decoded so far."""
        if done == 0 or self.bar.tasks[0].completed > done / total:
            self.bar.reset(self.task, description="reading", said="")
        self.bar.start_task(self.task)
        self.bar.update(self.task, completed=done / total, said=f"{done:,} of {total:,} pictures")

    def begin(self, experiment: "Experiment") -> None:
        """What will be trained, and why so."""
        record, recipe = experiment.run.record, experiment.setting.recipe
        self.size, self.epochs, self.timed = recipe.batch_size, recipe.epochs, bool(recipe.time)
        for text in (*record["data"]["notes"], *record["reasons"]):
            self.note(text)
        problems = record["data"]["problems"]
        for problem in problems[:10]:
            self.note(f"Left out: {problem['file']}: {problem['reason']}")
        if problems:
            self.note(f"{len(problems)} picture(s) left out, all named in run.json.")
        split = record["split"]
        held = f"{split['validation']:,} held out for validation" if split["validation"] else "none held out: nothing is chosen in this run"
        if split.get("looked_at", split["validation"]) < split["validation"]:
            held += f", of which {split['looked_at']:,} are looked at so that it takes no longer than a twentieth of the time"
        self.note(f"Data: {split['train']:,} pictures to train on, {held}. Run: {experiment.run.folder}")
        state = experiment.state
        if state.step:
            self.note(f"Resuming after step {state.step} (epoch {state.epoch + 1}).")
        self.bar.reset(self.task, description="training", said="")
        self.before = (state.step, state.seconds)

    def event(self, event: "StepEnd | EpochEnd") -> None:
        if isinstance(event, EpochEnd):
            self._epoch(event)
        elif time.monotonic() - self.last > _PAUSE:
            self._step(event)

    def result(self, run: "Run", evaluation: "Evaluation") -> None:
        """The summary at the end; when quiet, one line."""
        said = run.record["result"]
        low, high = evaluation.interval
        for problem in evaluation.unreadable[:10]:
            self.note(f"Left out of the test: {problem.file}: {problem.reason}")
        line = f"test accuracy {evaluation.top1:.2%} on {evaluation.count:,} pictures (95 % interval {low:.2%} to {high:.2%})"
        if self.quiet:
            self.console.print(f"{run.folder}: {line}", markup=False)
            return
        held, split = said["validation_accuracy"], run.record["split"]
        count = split.get("looked_at", split["validation"])
        rows = {
            "test": line.removeprefix("test "),
            "validation": f"accuracy {held:.2%} on {count:,} pictures" if held is not None else "none held out",
            "training": f"accuracy {said['train_accuracy']:.2%}, loss {said['train_loss']:.4f} in the last epoch, as augmented",
            "weights": f"of epoch {said['kept_epoch']} of {said['epochs']}",
            "time": f"{said['seconds']:.1f} s of training, {said['images_per_second']:,.0f} pictures/s",
            "test set opened": f"{len(run.record['test_openings'])} time(s)",
            "run": str(run.folder),
        }
        table = Table(show_header=False, box=None, pad_edge=False)
        for name, text in rows.items():
            table.add_row(name, text)
        self.console.print(table)

    def _epoch(self, end: EpochEnd) -> None:
        total = "" if self.timed else f"/{self.epochs}"
        held = "" if end.validation_accuracy is None else f"  validation {end.validation_accuracy:.2%} loss {end.validation_loss:.4f}"
        self.note(
            f"epoch {end.epoch:>3}{total}  train loss {end.train_loss:.4f} accuracy {end.train_accuracy:.2%}{held}  "
            f"{end.images_per_second:,.0f} pictures/s  {end.seconds:.1f} s"
        )

    def _step(self, step: "StepEnd") -> None:
        self.last = time.monotonic()
        began, seconds = self.before
        rate = (step.step - began) * self.size / max(step.seconds - seconds, 1e-9)
        self.before = (step.step, step.seconds)
        accuracy = float(step.right) / max(step.seen, 1)
        said = f"epoch {step.epoch}  loss {float(step.loss):.3f}  accuracy {accuracy:.1%}  {rate:,.0f} pictures/s"
        if self.live:
            self.bar.start_task(self.task)
            self.bar.update(self.task, completed=step.progress, said=said)
        elif self.last - self.first > _SILENCE:
            self.note(f"{step.progress:4.0%}  {said}") if self.first else None
            self.first = self.last
