"""What a page can be about: a run's folder, a study's result, a model file, or the name of a variant; found out by looking.

The surprising thing: a variant has no weights that mean anything, so only its first layer's first values are drawn, for their picture.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from residual.architecture import Architecture
from residual.describe import native_size
from residual.layers import Network
from residual.plan import plan
from residual.runs import RUN_FILE, Run, open_run
from residual.spelling import as_file_name, nearest
from residual.study.store import PARTS, RESULT_FILE, Finding, load
from residual.study.subjects import open_subject
from residual.variants import VARIANTS, architecture, is_variant
from residual.weights import Weights, initialise

REPORT_FILE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished study and the folder it lies in."""

    folder: Path
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network by itself.

    Attributes:
        place: its file; None for a variant.
        weights: all tensors of a file; of a variant the first values of the stem's.
        size: height and width of the pictures that shapes and costs are told for.
    """

    name: str
    place: Path | None
    network: Network
    weights: Weights
    classes: tuple[str, ...]
    size: tuple[int, int]


Thing = Run | Study | Model


def open_thing(name: str | Path) -> Thing:
    """The run, result, model file or variant called `name`. ValueError says that there is none, or what is wrong with it."""
    path, told = Path(name).expanduser(), str(name)
    if (path / RUN_FILE).is_file():
        return open_run(path)
    if path.name == RESULT_FILE or (path / RESULT_FILE).is_file() or (path / PARTS).is_dir():
        return Study(folder=path.parent if path.name == RESULT_FILE else path, finding=load(path))
    if path.is_file() or (path / "config.json").is_file():
        subject = open_subject(path)
        cleaned = subject.preprocessing
        size = cleaned.size if cleaned else native_size(subject.network.architecture)
        return Model(name=path.name, place=path, network=subject.network, weights=subject.weights, classes=subject.classes, size=size)
    if path.is_dir():
        raise ValueError(f"{name} is neither a run nor a study's result: it has no {RUN_FILE} and no {RESULT_FILE}.")
    return _variant(told)


def default_place(thing: Thing) -> Path:
    """Where its page goes: report.html in its folder; of a model NAME.html beside its file, of a variant here."""
    if not isinstance(thing, Model):
        return thing.folder / REPORT_FILE
    if thing.place is None:
        return Path(f"{as_file_name(thing.name)}.html")
    return thing.place / REPORT_FILE if thing.place.is_dir() else thing.place.with_suffix(".html")


def _variant(name: str) -> Model:
    if not is_variant(name):
        hint = nearest(name, VARIANTS)
        raise ValueError(f"There is no run folder {name}, nor a result, a model file or a variant of that name.{hint}")
    arch: Architecture = architecture(name)
    network = plan(arch)
    weights = initialise(replace(network, stages=(), head=()), 0)
    return Model(name=name, place=None, network=network, weights=weights, classes=(), size=native_size(arch))


__all__ = ["Model", "Study", "Thing", "default_place", "open_thing"]
