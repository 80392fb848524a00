"""What a run's folder says, put into words and table rows for the page.

The surprising thing: a run may be young, stopped or damaged; what is not there is left out or said in a sentence, and nothing fails on it.
"""

import json
import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from residual.architecture import architecture_from
from residual.cost import Cost, network_cost
from residual.layers import Network
from residual.plan import plan
from residual.recipe import EpochEnd, Recipe
from residual.runs import Run
from residual.training.metrics import Evaluation, evaluation_from
from residual.weights import SavedModel

_ORDER = ("evaluation-test", "evaluation-validation", "evaluation-train")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run as the page sees it.

    Attributes:
        evaluations: by file name without its ending; the run's own test, validation and train first.
        cost: of the network on the run's pictures; None, as `network` and `size`, where the record does not say the architecture.
        size: height and width of the run's pictures.
        saved: the model it kept; None where there is none, or it is damaged.
    """

    name: str
    run: Run
    recipe: Recipe
    events: tuple[EpochEnd, ...]
    evaluations: dict[str, Evaluation]
    network: Network | None
    cost: Cost | None
    size: tuple[int, int] | None
    saved: SavedModel | None

    @property
    def result(self) -> Evaluation | None:
        """The run's own result: on its test split, else on what it held out."""
        return next((self.evaluations[name] for name in _ORDER[:2] if name in self.evaluations), None)

    def told(self, *keys: str) -> Any:
        """What the record says under these keys; None where it does not."""
        value: Any = self.run.record
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def see(run: Run, name: str) -> Seen:
    """Everything that the run's folder holds for the page."""
    network = cost = size = saved = None
    try:
        network = plan(architecture_from(run.record["architecture"]))
        height, width = run.record["preprocessing"]["size"]
        size = (int(height), int(width))
        cost = network_cost(network, size)
    except (KeyError, TypeError, ValueError):  # a record of another age; the page then has no drawing
        network = cost = size = None
    with suppress(OSError, ValueError):  # a run that has kept no model yet
        saved = run.saved()
    return Seen(
        name=name, run=run, recipe=run.recipe if "recipe" in run.record else Recipe(), events=tuple(run.events()),
        evaluations=_evaluations(run.folder), network=network, cost=cost, size=size, saved=saved,
    )  # fmt: skip


def names(runs: Sequence[Run]) -> list[str]:
    """A name for each run: as many last parts of its path as tell them all apart."""
    paths = [run.folder.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths), default=0) + 1):
        found = ["/".join(parts[-length:]) for parts in paths]
        if len(set(found)) == len(found):
            return found
    return [f"{'/'.join(parts[-1:])} ({number})" for number, parts in enumerate(paths, 1)]


def statements(seen: Seen) -> list[str]:
    """How the weights were chosen, how often the test set was looked at, and what else keeps the number honest."""
    found = [_chosen(seen), _openings(seen)]
    if seen.told("status") != "finished":
        of = "" if seen.recipe.time else f" of {seen.recipe.epochs}"
        found.insert(0, f"This run is not finished: {len(seen.events)}{of} epochs are done.")
    if seen.result is not None:
        found += list(seen.result.notes)
        if seen.result.unreadable:
            found.append(f"{len(seen.result.unreadable)} pictures could not be read and are not counted; they are listed below.")
    return [*found, *(seen.told("data", "notes") or [])]


def facts(seen: Seen) -> list[tuple[str, str]]:
    """The few numbers under the result, as (what, value)."""
    result, cost = seen.result, seen.cost
    found: list[tuple[str, str]] = []
    if result is not None:
        many = len(result.classes) > 5
        found += [("top-5 accuracy", percent(result.top5))] if many else []
        found += [("loss", f"{result.loss:.4f}")]
        found += [("AUROC", f"{result.auroc:.4f}")] if result.auroc is not None else []
        found += [("calibration error", f"{result.calibration_error:.3f}")]
    if cost is not None:
        found += [("parameters", f"{cost.parameters:,}"), ("multiply-adds", f"{big(cost.macs)} a picture")]
    if seen.events:
        found += [("training", f"{len(seen.events)} epochs in {duration(seen.events[-1].seconds)}")]
    return found


def measurements(seen: Seen) -> list[list[str]]:
    """One row for each evaluation: split, data, count, top-1, its interval, loss."""
    return [
        [
            f"{found.split}, bfloat16" if stem.endswith("-bfloat16") else found.split,
            found.data,
            f"{found.count:,}",
            percent(found.top1),
            interval(found),
            f"{found.loss:.4f}",
        ]
        for stem, found in seen.evaluations.items()
    ]


def comparison(runs: Sequence[Seen]) -> list[list[str]]:
    """One row for each run: name, top-1, interval, loss, measured on, parameters, epochs, time, model, data."""
    rows = []
    for seen in runs:
        result = seen.result
        measured = f"{result.split}, {result.count:,}" if result else "not measured"
        scores = [percent(result.top1), interval(result), f"{result.loss:.4f}"] if result else ["", "", ""]
        size = f"{seen.cost.parameters:,}" if seen.cost else ""
        took = duration(seen.events[-1].seconds) if seen.events else ""
        rows.append([seen.name, *scores, measured, size, str(len(seen.events)), took, model(seen), data(seen)])
    return rows


def spread(runs: Sequence[Seen]) -> str:
    """A sentence with mean and deviation, where the runs differ in nothing but the seed; else how to read the table."""
    results = [seen.result for seen in runs]
    measured = [result for result in results if result is not None]
    if len(measured) == len(runs) and len({seen.recipe.seed for seen in runs}) == len(runs) and not _other_than_seed(runs):
        mean = sum(result.top1 for result in measured) / len(measured)
        deviation = math.sqrt(sum((result.top1 - mean) ** 2 for result in measured) / (len(measured) - 1))
        return (
            f"The runs differ in their seed alone: {percent(mean)} ± {percent(deviation)} right on the {measured[0].split} split of "
            f"{measured[0].count:,} pictures (mean and sample standard deviation over {len(runs)} seeds)."
        )
    places = {(str(seen.told("data", "fingerprint")), result.split if result else "") for seen, result in zip(runs, results, strict=True)}
    if len(places) > 1:
        return "Not all runs were measured on the same pictures, so their numbers cannot be compared directly."
    return "Each run has one seed; a difference smaller than the intervals may be chance."


def differences(runs: Sequence[Seen]) -> list[list[str]]:
    """One row for each recipe field in which the runs differ: its name, then its value in each run."""
    rows = [[field.name, *(_value(getattr(seen.recipe, field.name)) for seen in runs)] for field in fields(Recipe)]
    return [row for row in rows if len(set(row[1:])) > 1]


def recipe_rows(seen: Seen, *, changed: bool) -> list[list[str]]:
    """(field, value, default) of the recipe; with `changed` only where the two differ."""
    default = Recipe()
    rows = [[f.name, _value(getattr(seen.recipe, f.name)), _value(getattr(default, f.name))] for f in fields(Recipe)]
    return [row for row in rows if row[1] != row[2]] if changed else rows


def provenance(seen: Seen) -> list[tuple[str, str]]:
    """(what, value) of data, split, seed, versions and machine."""
    split, machine = seen.told("split") or {}, seen.told("machine") or {}
    counts = seen.told("data", "counts") or {}
    found = [("began", str(seen.told("began") or "")), ("data", data(seen)), ("kind", str(seen.told("data", "kind") or ""))]
    found += [("pictures", ", ".join(f"{name} {count:,}" for name, count in counts.items()))]
    if split:
        held = f"train {split.get('train', 0):,}, validation {split.get('validation', 0):,} ({split.get('rule', '')})"
        if split.get("looked_at", split.get("validation")) != split.get("validation"):
            held += f", {split['looked_at']:,} of them looked at in training"
        found += [("split", held), ("split hash", str(split.get("hash", "")))]
    print_ = seen.told("data", "fingerprint") or {}
    found += [(f"data {key}", str(value)) for key, value in print_.items() if key != "kind"]
    found += [("seed", str(seen.told("seed"))), ("recipe", str(seen.told("recipe_name") or ""))]
    found += [("versions", ", ".join(f"{name} {version}" for name, version in (seen.told("versions") or {}).items()))]
    found += [("machine", ", ".join(f"{key} {value}" for key, value in machine.items()))]
    if seen.events:
        last = seen.events[-1]
        found += [("duration", f"{duration(last.seconds)}, {last.images_per_second:,.0f} pictures a second")]
    return [(name, value) for name, value in found if value]


def command(seen: Seen) -> str:
    """What repeats the run: its command line, or a call with every field that differs from the default."""
    told = str(seen.told("command") or "")
    if told.startswith("residual "):
        return told
    default, source = Recipe(), seen.told("data", "source")
    changed = [f.name for f in fields(Recipe) if getattr(seen.recipe, f.name) != getattr(default, f.name)]
    values = ", ".join(f"{name}={getattr(seen.recipe, name)!r}" for name in changed)
    where = "(images, labels)" if seen.told("data", "kind") == "arrays" else repr(source)
    return f"residual.train({where}, recipe={seen.told('recipe_name') or 'default'!r}{', ' if values else ''}{values})"


def left_out(seen: Seen) -> list[list[str]]:
    """(file, reason) of the pictures that were left out of training or of the result."""
    rows = [[str(row.get("file")), str(row.get("reason"))] for row in seen.told("data", "problems") or []]
    return rows + [[problem.file, problem.reason] for problem in (seen.result.unreadable if seen.result else ())]


def model(seen: Seen) -> str:
    name = str(seen.told("model") or "a residual network")
    if name == "auto" and seen.network is not None:
        arch = seen.network.architecture
        return f"auto ({sum(arch.depths)} {arch.block} blocks, widths {'-'.join(map(str, arch.out_widths))})"
    return name


def data(seen: Seen) -> str:
    return str(seen.told("data", "source") or "")


def percent(share: float) -> str:
    return f"{share * 100:.2f}\N{NO-BREAK SPACE}%"


def interval(found: Evaluation) -> str:
    return f"{found.interval[0] * 100:.1f} % to {found.interval[1] * 100:.1f} %"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    told = f"{seconds:.1f} s" if seconds < 60 else f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    return told.replace(" ", "\N{NO-BREAK SPACE}")


def big(number: float) -> str:
    for unit in ("", " thousand", " million"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.2f} billion"


def _evaluations(folder: Path) -> dict[str, Evaluation]:
    found = {}
    for file in folder.glob("evaluation-*.json"):
        try:
            found[file.stem] = evaluation_from(json.loads(file.read_text()))
        except (ValueError, OSError):  # half of an old file, or another program's
            continue
    first = {name: found[name] for name in _ORDER if name in found}
    return first | dict(sorted((name, value) for name, value in found.items() if name not in first))


def _chosen(seen: Seen) -> str:
    epochs = len(seen.events)
    averaged = ", averaged over the steps" if seen.recipe.ema else ""
    if seen.recipe.keep == "last" or not seen.told("split", "validation"):
        return f"Weights: those of the last epoch ({epochs}){averaged}, a rule that was set before training."
    kept = seen.told("result", "kept_epoch")
    of = f"epoch {kept}, the best" if kept else "the best epoch"
    return f"Weights: those of {of} of {epochs} by accuracy on the validation split{averaged}; the test set had no say."


def _openings(seen: Seen) -> str:
    own = [row for row in seen.told("test_openings") or [] if row.get("data", data(seen)) == data(seen)]
    if not own:
        return "The test set has not been opened."
    if len(own) == 1:
        when = ", after every choice had been made" if own[0].get("by") == "train" else ""
        return f"The test set was opened once ({own[0].get('time')}){when}."
    return f"The test set was opened {len(own)} times (first {own[0].get('time')}, last {own[-1].get('time')})."


def _other_than_seed(runs: Sequence[Seen]) -> bool:
    rows = [row[0] for row in differences(runs) if row[0] != "seed"]
    same = {(str(seen.told("data", "fingerprint")), str(seen.told("architecture"))) for seen in runs}
    splits = {seen.result.split for seen in runs if seen.result is not None}
    return bool(rows) or len(same) > 1 or len(splits) > 1


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(_value, value)) if isinstance(value, tuple) else str(value)


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
