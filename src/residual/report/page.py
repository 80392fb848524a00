"""The page: one HTML file with its plots, pictures, styles and script inside.

The surprising thing: its own security policy forbids every request and every script but the two that are hashed in it, so neither a class
name nor a file name can make the page do anything.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from residual.report import drawing, facts, figures, models
from residual.report.facts import Seen
from residual.report.figures import Figure
from residual.report.models import ModelView, model_rows, view
from residual.report.pictures import Kept, Picture, filters, gallery, kept, looks
from residual.report.studies import Shown, origin, shown
from residual.report.things import Model, Study, Thing, default_place
from residual.runs import Run
from residual.weights import SavedModel, write_whole

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the page of one run shows of its result: plots and pictures; all empty where it was not measured."""

    figures: list[Figure]
    worst: list[Picture]
    best: list[Picture]
    mistakes: int


def write_report(things: Sequence[Thing], out: Path | None = None) -> Path:
    """The page on runs, studies and models, written to `out` or beside the first of them; several of a kind are compared.

    Raises:
        ValueError: there is nothing to report on, or `out` is a folder.
    """
    if not things:
        raise ValueError("A report needs at least one run, study, model file or variant: name it.")
    path = Path(out) if out is not None else default_place(things[0])
    if path.is_dir() or not path.parent.is_dir():
        fault = "a folder" if path.is_dir() else "in no folder that exists"
        raise ValueError(f"{path} is {fault}: name a file for the page, e.g. report.html.")
    write_whole(path, _render(_content(things)).encode("utf-8", "replace"))
    return path


def _content(things: Sequence[Thing]) -> dict[str, Any]:
    opened = [thing for thing in things if isinstance(thing, Run)]
    runs = [facts.see(run, name) for run, name in zip(opened, facts.names(opened), strict=True)]
    studies = [thing for thing in things if isinstance(thing, Study)]
    found = [shown(study.finding, number) for number, study in enumerate(studies, 1)]
    views = [view(model) for model in things if isinstance(model, Model)]
    one = runs[0] if len(runs) == 1 else None
    return {
        "title": _title(runs, found, views),
        "runs": runs,
        "result": one.result if one else None,
        "curves": _curves(runs),
        "scored": _scored(one),
        "networks": _networks(runs),
        "studies": [(study.finding, told, origin(study.finding)) for study, told in zip(studies, found, strict=True)],
        "models": views,
        "model_rows": model_rows(views),
    }


def _title(runs: Sequence[Seen], studies: Sequence[Shown], models: Sequence[ModelView]) -> str:
    told = []
    if runs:
        told.append(
            f"{runs[0].name}: {facts.model(runs[0])} on {Path(facts.data(runs[0])).name}" if len(runs) == 1 else _count(runs, "run")
        )
    if studies:
        told.append(studies[0].title if len(studies) == 1 else _count(studies, "studie"))
    if models:
        told.append(models[0].name if len(models) == 1 else _count(models, "model"))
    return ", ".join(told)


def _count(things: Sequence[Any], kind: str) -> str:
    return f"{len(things)} {kind}s compared" if kind == "run" else f"{len(things)} {kind}s"


def _curves(runs: Sequence[Seen]) -> list[Figure]:
    if len(runs) != 1:
        measured = figures.results([(one.name, one.result) for one in runs])
        return [*figures.curves([(one.name, one.events) for one in runs]), *measured]
    seen = runs[0]
    plots = figures.curves([(seen.name, seen.events)], seen.recipe.label_smoothing)
    if seen.events:
        plots += [figures.rate(seen.recipe, seen.events), *filter(None, [figures.steps(seen.events)])]
    return plots


def _scored(seen: Seen | None) -> Scored:
    result = seen.result if seen else None
    if seen is None or result is None:
        return Scored(figures=[], worst=[], best=[], mistakes=0)
    stem = next((name for name, found in seen.evaluations.items() if found is result), "")
    groups = [kept(seen.run.folder / f"{stem}.npz", which) for which in ("worst", "best")]
    classes, maps = [score.name for score in result.classes], _looks(seen.saved, [group for group in groups if group is not None])
    worst, best = (gallery(group, classes, None if maps is None else maps.pop(0)) if group else [] for group in groups)
    wrong = result.count - round(result.top1 * result.count)
    return Scored(figures=[figures.confusion(result), figures.calibration(result)], worst=worst, best=best, mistakes=wrong)


def _looks(saved: SavedModel | None, groups: Sequence[Kept]) -> list[Any] | None:
    """A Grad-CAM map for each picture of each group; None where there is no model to make them with."""
    if saved is None or not groups:
        return None
    maps = looks(saved, np.concatenate([group.images for group in groups]), np.concatenate([group.guesses for group in groups]))
    return None if maps is None else np.split(maps, np.cumsum([len(group.images) for group in groups])[:-1])


def _networks(runs: Sequence[Seen]) -> list[dict[str, Any]]:
    """Each network of the runs once, with the names of the runs that have it and the filters that the first of them learned."""
    found: dict[str, dict[str, Any]] = {}
    for seen in runs:
        if seen.network is None or seen.size is None:
            continue
        key = repr((seen.network.architecture, seen.size))
        drawn = {"names": [], "network": seen.network, "size": seen.size, "cost": seen.cost, "filters": _filters(seen)}
        found.setdefault(key, drawn)["names"].append(seen.name)
    return list(found.values())


def _filters(seen: Seen) -> list[str]:
    return filters(seen.network, seen.saved.weights) if seen.network and seen.saved else []


def _render(content: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    studied = (plot for _, found, _ in content["studies"] for plot in found.figures)
    plots: list[Figure] = [*content["curves"], *content["scored"].figures, *studied]
    library, script = get_plotlyjs() if plots else "", (FOLDER / "page.js").read_text()
    data = json.dumps({plot.name: plot.spec() for plot in plots}).replace("<", "\\u003c")
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        **content, facts=facts, drawing=drawing, tables=models,
        style=Markup((FOLDER / "page.css").read_text()), library=Markup(library), script=Markup(script),
        data=Markup(data), hashes=" ".join(map(_hash, [library, script])),
    )  # fmt: skip


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
