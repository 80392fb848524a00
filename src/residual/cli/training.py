"""`residual train`: every field of the recipe is a flag, made from `Recipe` itself so that none can be forgotten.

The first Ctrl-C ends the step that runs and keeps the state; the second one ends the program at once.
"""

import dataclasses
import re
import signal
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from tyro.conf import OmitArgPrefixes, Positional, arg

from residual.backends import check_backend
from residual.cli.values import seconds
from residual.recipe import Recipe

if TYPE_CHECKING:
    from residual.training.experiment import Experiment

_QUIET = arg(help_behavior_hint="")
_OWN = ("time",)  # flags written otherwise than the field


def _help_of() -> dict[str, str]:
    """Field -> its line in Recipe's docstring."""
    lines = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |^ {4}\S|\Z)", (Recipe.__doc__ or "") + "\n", re.M | re.S)
    return {name: " ".join(text.split()) for name, text in lines}


def _change_fields() -> list[tuple[str, Any, Any]]:
    """The recipe's fields, each optional: None leaves it as the recipe says."""
    helps, found = _help_of(), []
    for name, hint in get_type_hints(Recipe).items():
        if name not in _OWN:
            text = arg(help=helps[name], help_behavior_hint="")
            found.append((name, Annotated[hint | None, text], dataclasses.field(default=None)))
    return found


Changes: Any = dataclasses.make_dataclass("Changes", _change_fields(), frozen=True, kw_only=True)
Changes.__doc__ = "Changes to the recipe."


@dataclass(frozen=True, kw_only=True)
class Train:
    """Trains a network on pictures and writes a run folder: model, record, events, checkpoint and report.

    DATA is `digits` (needs no network), a catalog name (fashion-mnist, cifar10, ...), a folder of pictures (class/*.jpg, optionally under
    train/ and test/), a folder in the hub's parquet layout, or a hub name owner/name.
    """

    data: Positional[Annotated[str, arg(metavar="DATA", help_behavior_hint="")]] = ""
    """What to train on."""
    recipe: Annotated[str, arg(metavar="NAME")] = "default"
    """default, speed, strong, d2l, paper-cifar or paper-imagenet."""
    out: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """The run's folder; runs/DATA-MODEL-N where none is named."""
    resume: Annotated[str, arg(metavar="RUN", help_behavior_hint="")] = ""
    """Go on with a run that was stopped, to the very weights it would have ended in."""
    start: Annotated[str, arg(metavar="MODEL", help_behavior_hint="")] = ""
    """A run or a model file whose weights to go on from, with its classes and preprocessing, instead of first values."""
    time: Annotated[str, arg(metavar="TIME", help_behavior_hint="")] = ""
    """Train to the best accuracy within this time: 60s, 5m, 1.5h. Validation counts, loading and the final test do not."""
    backend: Annotated[str, arg(metavar="NAME")] = "torch"
    """The framework: torch, or tensorflow, jax or mxnet, which train by their own means with SGD and the basic augmentation."""
    quiet: Annotated[bool, _QUIET] = False
    """Print only the result."""
    report: bool = True
    """Write report.html into the run's folder at the end."""
    changes: OmitArgPrefixes[Changes] = dataclasses.field(default_factory=Changes)

    def run(self) -> int:
        check_backend(self.backend)
        fields = {k: v for k, v in vars(self.changes).items() if v is not None}
        if self.time:
            fields["time"] = seconds(self.time)
        from residual.cli.display import Display

        with Display(quiet=self.quiet) as display:
            experiment = self._experiment(fields, display.decoding)
            return self._train(experiment, display)

    def _experiment(self, fields: dict[str, Any], progress: Any) -> "Experiment":
        from residual.training import experiment as training

        if self.resume:
            if fields or self.data or self.out or self.start or self.recipe != "default" or self.backend != "torch":
                raise ValueError(f"--resume goes on with the run as it is: leave out everything beside `--resume {self.resume}`.")
            return training.resume(self.resume, progress=progress)
        if not self.data:
            raise ValueError("`residual train` needs DATA, for instance `residual train digits`, or --resume RUN.")
        out = self.out or None
        return training.begin(self.data, self.recipe, fields, backend=self.backend, out=out, progress=progress, start=self.start)

    def _train(self, experiment: "Experiment", display: Any) -> int:
        from residual.training import experiment as training

        folder = experiment.run.folder
        display.begin(experiment)
        patient = "" if experiment.run.backend == "torch" else "Stopping at the end of this epoch; once more stops at once and loses it."
        with _Stop(lambda: display.note(patient) if patient else None) as stop:
            for event in training.proceed(experiment):
                display.event(event)
                if stop.signal and not experiment.state.finished(experiment.setting.recipe):
                    training.pause(experiment)
                    display.note(f"Stopped after step {experiment.state.step}. Go on with: residual train --resume {folder}")
                    return 128 + stop.signal
        evaluation = training.finish(experiment)
        display.result(experiment.run, evaluation)
        if self.report:
            from residual.report import write_report

            display.note(f"Report: {write_report([experiment.run])}")
        return 0


class _Stop:
    """Within it, SIGINT and SIGTERM are noted in `signal` once, `told` is called, and then they work as ever."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.signal, self.told = 0, told
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "_Stop":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: types.FrameType | None) -> None:
        self.signal = number
        for each, handler in self.before.items():
            signal.signal(each, handler)
        self.told()
