"""How a target of `residual reproduce` is made: counted, trained, read from runs, or studied on the trained nets.

A stopped reproduction goes on where it was: each finished training is a part on disk, and an unfinished one resumes from its checkpoint.
"""

import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from residual.cost import cost
from residual.recipe import EpochEnd, Recipe
from residual.runs import RUN_FILE, Run, open_run
from residual.spelling import as_file_name
from residual.study.claims import Claim
from residual.study.plain import from_plain
from residual.study.reproduction import ENOUGH, RULES, Curve, Lack, Mode, Result, in_words, judged, overall
from residual.study.store import Finding, load, open_parts
from residual.study.targets import Protocol, Target
from residual.study.trainings import Training, shown, training


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a target is asked for.

    Attributes:
        seeds: 0 is as many as the protocol has.
        data: "" is the protocol's.
        runs: read instead of training; for the degradation a result's folder.
        work: the folder for trainings and finished parts.
    """

    small: bool
    seeds: int
    data: str
    runs: tuple[str, ...]
    work: Path

    def protocol(self, target: Target) -> Protocol:
        return target.small if self.small else target.full

    @property
    def mode(self) -> Mode:
        return "runs" if self.runs else "small" if self.small else "full"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was measured. `lacks` are those of single values, `everywhere` those of claims; `short` are sentences."""

    measured: dict[str, list[float]] = field(default_factory=dict)
    lacks: dict[str, list[Lack]] = field(default_factory=dict)
    everywhere: tuple[Lack, ...] = ()
    short: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    curves: tuple[Curve, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    machines: tuple[str, ...] = ()
    seconds: float = 0.0


def reproduce(target: Target, order: Order) -> Finding:
    """The finding, not written yet. ValueError where a run, the data or a number of seeds does not fit."""
    if order.seeds < 0:
        raise ValueError(f"seeds is {order.seeds}, but must be at least 1.")
    made = _MAKERS[target.kind](target, order)
    rows = judged(target.published, made.measured, made.lacks)
    word, lacks = overall(rows, made.claims, made.everywhere)
    missing = [row.what for row in rows if not row.values]
    short = (*made.short, *([f"Not measured: {'; '.join(missing)}."] if missing else []))
    rules = tuple(sentence for rule, sentence in RULES.items() if any(row.rule == rule for row in rows))
    if made.claims:
        rules += ("A claim has the verdict of its study.",)
    result = Result(
        target=target.name, title=target.title, source=target.source, mode=order.mode, rules=rules, rows=rows, claims=made.claims,
        curves=made.curves, notes=target.notes, verdict=word, lacks=lacks, told=in_words(word, lacks),
    )  # fmt: skip
    return _finding(target, order, made, result=result, short=short)


def _finding(target: Target, order: Order, made: Made, *, result: Result, short: tuple[str, ...]) -> Finding:
    from residual.training import versions

    machine: dict[str, Any] = {"names": list(made.machines)}
    if made.machines and not order.runs:
        from residual.training.machine import machine as this

        machine = this().as_dict()
    settings = {"target": target.name, "mode": order.mode, "seeds": order.seeds, "runs": [Path(run).name for run in order.runs]}
    return Finding(
        study="reproduction", settings=settings, scaled_down=short, data=made.data, machine=machine, versions=versions.versions(),
        seconds=made.seconds, command=shlex.join(["residual", *sys.argv[1:]]), result=result,
    )  # fmt: skip


def counted(target: Target, order: Order) -> Made:
    """Parameters, multiply-adds and output sizes, from the plan."""
    found: dict[str, list[float]] = {}
    for net in order.protocol(target).nets:
        costs = cost(net.architecture())
        found[f"{net.label}, multiply-adds"] = [costs.macs / 1e9]
        found[f"{net.label}, parameters"] = [float(costs.parameters)]
        for row in costs.rows:  # the last layer of a stage leaves its size
            stage = "conv1" if row.name == "conv1" else row.name.split(".")[0]
            if stage == "conv1" or stage.startswith("layer"):
                name = stage if stage == "conv1" else f"conv{int(stage.removeprefix('layer')) + 1}_x"
                found.setdefault(f"{name}, output side by net {net.label}", []).append(float(row.output[1]))
    sides: dict[str, list[float]] = {}
    for name in [name for name in found if ", output side by net " in name]:
        sides.setdefault(name.partition(" by net ")[0], []).append(found.pop(name)[-1])
    return Made(measured=found | sides)


def trained(target: Target, order: Order) -> Made:
    """The numbers of runs: of those that are named, or of trainings made now."""
    found, seconds = _given(target, order) if order.runs else _made(target, order)
    return _collected([each for _, each in found], seconds)


def studied(target: Target, order: Order) -> Made:
    """The same, with a study of the trained nets and its claims."""
    found, seconds = _given(target, order) if order.runs else _made(target, order)
    made, protocol = _collected([each for _, each in found], seconds), order.protocol(target)
    finding = _study(target, tuple(str(run.folder) for run, _ in found), protocol, out=order.work / f"study-of-{len(found)}")
    everywhere = list(made.everywhere)
    counts = [sum(each.net == other.net for _, other in found) for _, each in found]
    if min(counts) < ENOUGH:
        everywhere.append("too few seeds")
    if finding.scaled_down and "scaled down" not in everywhere:
        everywhere.append("scaled down")
    data = {**finding.data, "name": shown(finding.data["name"])}
    return replace(
        made, claims=finding.result.claims, short=(*made.short, *finding.scaled_down), everywhere=tuple(everywhere), data=data,
        seconds=made.seconds + finding.seconds,
    )  # fmt: skip


def degraded(target: Target, order: Order) -> Made:
    """The claims of the study of degradation: of a result that is there, or run now."""
    from residual.cli.degradation import Degradation

    if len(order.runs) > 1:
        raise ValueError(f"{target.name} is read from one result of `residual study degradation`, not from {len(order.runs)}.")
    folder = Path(order.runs[0]) if order.runs else order.work / "study"
    if not order.runs:
        seeds, data = order.seeds or order.protocol(target).seeds, order.data or target.full.data
        with contextlib.redirect_stdout(sys.stderr):
            Degradation(data=data, small=order.small, seeds=seeds, out=str(folder)).run()
    finding = load(folder)
    if finding.study != "degradation":
        raise ValueError(f"{folder} holds a study of {finding.study}, but {target.name} is read from one of degradation.")
    name, everywhere = str(finding.data["name"]), list[Lack]()
    if any(name not in sentence for sentence in finding.scaled_down):
        everywhere.append("scaled down")
    if shown(name) != target.full.data:
        everywhere.append("other data")
    curves = [
        Curve(net=f"{c.kind}-{c.depth}", seed=c.seed, train=c.train_error, validation=c.validation_error) for c in finding.result.curves
    ]
    return Made(
        everywhere=tuple(everywhere), short=tuple(sentence.replace(name, shown(name)) for sentence in finding.scaled_down),
        claims=finding.result.claims, curves=tuple(curves), data={**finding.data, "name": shown(name)},
        machines=(str(finding.machine.get("name", "")),), seconds=finding.seconds,
    )  # fmt: skip


_MAKERS = {"count": counted, "training": trained, "degradation": degraded, "responses": studied, "landscape": studied}
Runs = list[tuple[Run, Training]]


def _full(target: Target) -> Recipe:
    from residual.training.recipes import recipe

    return recipe(target.full.recipe, **dict(target.full.changes))


def _given(target: Target, order: Order) -> tuple[Runs, float]:
    """The runs that are named, and the seconds that they were trained."""
    found = [(run, training(run, target, _full(target))) for run in map(open_run, order.runs)]
    seeds = [(each.net, each.seed) for _, each in found]
    for pair in seeds:
        if seeds.count(pair) > 1:
            raise ValueError(f"Two of the runs are {pair[0]} from seed {pair[1]}: name runs of different seeds.")
    return found, _seconds(found)


def _made(target: Target, order: Order) -> tuple[Runs, float]:
    """Every net of the protocol trained from every seed, or taken from what `order.work` holds."""
    protocol = order.protocol(target)
    data, seeds = order.data or protocol.data, order.seeds or protocol.seeds
    told = {"target": target.name, "mode": order.mode, "data": data, "recipe": protocol.recipe, "changes": dict(protocol.changes)}
    parts, found = open_parts(order.work, "reproduction", told), []
    for seed in range(seeds):
        for net in protocol.nets:
            folder = order.work / "runs" / f"{as_file_name(net.trained_as())}-seed{seed}"
            fields = {**dict(protocol.changes), "model": net.trained_as(), "seed": seed}
            values = parts.get(f"{net.label} seed {seed}", partial(_training, target, data, protocol.recipe, fields=fields, folder=folder))
            found.append((open_run(folder), from_plain(Training, values, net.label)))
    return found, _seconds(found)


def _seconds(found: Runs) -> float:
    return sum(max((end.seconds for end in run.events()), default=0.0) for run, _ in found)


def _training(target: Target, data: str, recipe: str, *, fields: dict[str, Any], folder: Path) -> Training:
    """One training to its end: begun, gone on with, or finished already."""
    from residual.training import experiment
    from residual.training.evaluation import evaluate

    if not (folder / RUN_FILE).is_file():
        state = experiment.begin(data, recipe, fields, out=folder)
    elif open_run(folder).record["status"] != "finished":
        state = experiment.resume(folder)
    else:
        if not open_run(folder).record["result"].get("test"):  # it was killed while the test was made
            found = evaluate(folder)
            run = open_run(folder)
            run.record["result"]["test"] = {"count": found.count, "top1": found.top1, "top5": found.top5}
            run.write()
        return training(open_run(folder), target, _full(target))
    for event in experiment.proceed(state):
        if isinstance(event, EpochEnd):
            _note(f"{folder.name}: epoch {event.epoch}, training error {1 - event.train_accuracy:.1%}, {event.seconds:.0f} s")
    experiment.finish(state)
    return training(open_run(folder), target, _full(target))


def _collected(found: Sequence[Training], seconds: float) -> Made:
    """The values of all trainings by what they are of."""
    made = Made(seconds=seconds, curves=tuple(each.curve for each in found))
    for each in found:
        for quantity, value in each.values.items():
            made.measured.setdefault(f"{each.net}, {quantity}", []).append(value)
            made.lacks.setdefault(f"{each.net}, {quantity}", []).extend(each.lacks)
    every = [lack for each in found for lack in each.lacks]
    names = tuple(dict.fromkeys(each.data for each in found))
    nets = {scaled: dict.fromkeys(each.net for each in found if each.scaled == scaled) for scaled in (each.scaled for each in found)}
    short = [f"{', '.join(of)}: {scaled}." for scaled, of in nets.items() if scaled]
    return replace(
        made, everywhere=tuple(dict.fromkeys(every)), short=(*short, *dict.fromkeys(s for each in found for s in each.short)),
        data={"name": ", ".join(names)}, machines=tuple(dict.fromkeys(each.machine for each in found)),
    )  # fmt: skip


def _study(target: Target, models: tuple[str, ...], protocol: Protocol, *, out: Path) -> Finding:
    from residual.study import landscape, responses
    from residual.study.bench import Ask

    ask = Ask(models=models, split="train", count=protocol.pictures, out=out)
    if target.kind == "responses":
        return responses.study(ask)
    return landscape.study(ask, landscape.Options(points=protocol.points, seeds=protocol.planes))


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


__all__ = ["Order", "reproduce"]
