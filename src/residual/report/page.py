"""The page: one HTML file with its plots, pictures, styles and script inside.

The surprising thing: its own security policy forbids every request and every script but the two that are hashed in it, so neither a class
name nor a file name can make the page do anything.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from residual.cost import Cost
from residual.report import drawing, facts, figures
from residual.report.facts import Seen
from residual.report.figures import Figure
from residual.report.pictures import gallery
from residual.runs import Run
from residual.weights import write_whole

FOLDER = Path(__file__).parent
REPORT_FILE = "report.html"


def write_report(runs: Sequence[Run], out: Path | None = None) -> Path:
    """The page on `runs`, written to `out` or as report.html into the first run's folder; several runs are compared.

    Raises:
        ValueError: there is no run, or `out` is a folder.
    """
    if not runs:
        raise ValueError("A report needs at least one run: name its folder.")
    path = Path(out) if out is not None else runs[0].folder / REPORT_FILE
    if path.is_dir() or not path.parent.is_dir():
        fault = "a folder" if path.is_dir() else "in no folder that exists"
        raise ValueError(f"{path} is {fault}: name a file for the page, e.g. report.html.")
    seen = [facts.see(run, name) for run, name in zip(runs, facts.names(runs), strict=True)]
    content = _one(seen[0]) if len(seen) == 1 else _several(seen)
    write_whole(path, _render(content).encode("utf-8", "replace"))
    return path


def _one(seen: Seen) -> dict[str, Any]:
    result = seen.result
    plots = figures.curves([(seen.name, seen.events)], seen.recipe.label_smoothing)
    if seen.events:
        plots += [figures.rate(seen.recipe, seen.events), *filter(None, [figures.steps(seen.events)])]
    stem = next((name for name, found in seen.evaluations.items() if found is result), "")
    pictures = seen.run.folder / f"{stem}.npz"
    return {
        "title": f"{seen.name}: {facts.model(seen)} on {Path(facts.data(seen)).name}",
        "runs": [seen],
        "result": result,
        "curves": plots,
        "scores": [figures.confusion(result), figures.calibration(result)] if result else [],
        "worst": gallery(pictures, result, "worst") if result else [],
        "best": gallery(pictures, result, "best") if result else [],
        "mistakes": result.count - round(result.top1 * result.count) if result else 0,
    }


def _several(seen: Sequence[Seen]) -> dict[str, Any]:
    return {
        "title": f"{len(seen)} runs compared",
        "runs": seen,
        "result": None,
        "curves": figures.curves([(one.name, one.events) for one in seen]),
        "scores": [],
        "worst": [],
        "best": [],
        "mistakes": 0,
    }


def _render(content: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    plots: list[Figure] = [*content["curves"], *content["scores"]]
    library, script = get_plotlyjs() if plots else "", (FOLDER / "page.js").read_text()
    data = json.dumps({plot.name: plot.spec() for plot in plots}).replace("<", "\\u003c")
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        **content, facts=facts, drawing=drawing, rows=_shape_rows,
        style=Markup((FOLDER / "page.css").read_text()), library=Markup(library), script=Markup(script),
        data=Markup(data), hashes=" ".join(map(_hash, [library, script])),
    )  # fmt: skip


def _shape_rows(cost: Cost) -> list[list[str]]:
    """(layer, kind, output, kernel, stride, parameters, multiply-adds, receptive field) of every layer."""
    found = []
    for row in cost.rows:
        shape, sees = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, row.output)), str(row.receptive_field or "all")
        numbers = [str(row.kernel), str(row.stride), f"{row.parameters:,}", f"{row.macs:,}", sees]
        found.append([row.name, row.kind, shape, *numbers])
    return found


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
