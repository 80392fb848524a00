"""What a study found, as figures, sentences and a table: one function for each study, `Result` in, `Shown` out.

The surprising thing: a study that has no function here still gets a page, with its verdicts and how to repeat it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from residual.report.comparisons import blocks, degradation, nesting, reproduction
from residual.report.facts import duration
from residual.report.figures import Figure
from residual.report.shown import SERIES, Shown, Table, bars, in_percent, series
from residual.report.surfaces import landscape
from residual.study.gradients import Result as GradientsResult
from residual.study.landscape import Result as LandscapeResult
from residual.study.lesion import Result as LesionResult
from residual.study.responses import ModelResponses
from residual.study.responses import Result as ResponsesResult
from residual.study.store import Finding


def shown(finding: Finding, place: int) -> Shown:
    """The finding as it is shown; `place` is its number on the page and keeps the names of its figures apart."""
    found = _PAGES[finding.study](finding.result) if finding.study in _PAGES else plain(finding)
    return replace(found, figures=[replace(figure, name=f"study{place}-{figure.name}") for figure in found.figures])


def responses(result: ResponsesResult) -> Shown:
    """Standard deviations in layer order and sorted: the two halves of figure 7."""
    ordered, by_size = [], []
    for number, model in enumerate(result.models):
        told = [f"{layer.layer} ({layer.after})" for layer in model.layers]
        stds = [layer.std for layer in model.layers]
        name = f"{model.label}{'' if model.trained else ' (first values)'}"
        ordered.append(series(number, model.kind, name, range(1, len(stds) + 1), stds, told))
        by_size.append(series(number, model.kind, name, range(1, len(stds) + 1), model.sorted, []))
    axis = {"yaxis": {"title": {"text": "standard deviation"}, "rangemode": "tozero"}}
    over = [_over_training(result.training, axis)] if result.training else []
    rows = [
        [m.label, m.kind, str(m.depth), str(len(m.layers)), f"{m.mean:.3f}", f"{m.sorted[0]:.3f}", f"{m.sorted[-1]:.3f}"]
        for m in (*result.models, *result.training)
    ]
    header = ("model", "kind", "depth", "layers", "mean std", "largest", "smallest")
    return Shown(
        title="Layer responses",
        sentences=[f"Taken: {result.layers_told}.", f"Batch norm: {result.batch_norm}."],
        figures=[
            Figure(
                name="responses", title="In layer order", label="Standard deviation of each layer's response in layer order",
                caption="As the upper half of figure 7 in He et al. 2015.", data=ordered,
                layout={"xaxis": {"title": {"text": "layer"}}, **axis},
            ),
            Figure(
                name="sorted", title="Sorted by size", label="The same standard deviations, largest first",
                caption="As the lower half of figure 7.", data=by_size,
                layout={"xaxis": {"title": {"text": "rank of the layer"}}, **axis},
            ),
            *over,
        ],
        tables=[Table(title="Responses", header=header, rows=rows, words=(0, 1))],
    )  # fmt: skip


def _over_training(stops: Sequence[ModelResponses], axis: dict[str, Any]) -> Figure:
    """One line for each layer, from the first values on, and the mean of all."""
    labels, kind = [stop.label for stop in stops], stops[0].kind
    data = [
        series(2, kind, layer.layer, labels, [stop.layers[place].std for stop in stops], [])
        | {"opacity": 0.35, "showlegend": False, "mode": "lines"}
        for place, layer in enumerate(stops[0].layers)
    ]  # fmt: skip
    data.append(series(0, kind, "mean over the layers", labels, [stop.mean for stop in stops], []))
    return Figure(
        name="training", title="Over the training", label="Standard deviation of each layer's response at each stop of the training",
        caption="One thin line for each layer, and their mean.", data=data, layout={"xaxis": {"type": "category"}, **axis},
    )  # fmt: skip


def gradients(result: GradientsResult) -> Shown:
    """Gradient norms by layer, and the correlation of gradients at neighbouring inputs."""
    norms, rows = [], []
    for number, model in enumerate(result.models):
        means = [layer.norm.mean for layer in model.layers]
        trace = series(
            number, model.kind, f"{model.label}, {model.state}", range(1, len(means) + 1), means, [layer.layer for layer in model.layers]
        )
        norms.append(trace | bars([layer.norm for layer in model.layers]))
        numbers = [f"{value:.3g}" for value in (means[0], means[max(len(means) - 2, 0)], max(means), min(means))]
        rows.append([model.label, model.kind, model.state, *numbers, str(model.draws)])
    figures = [
        Figure(
            name="norms", title="Size of the gradient by layer", label="Norm of the loss gradient for each layer's weight", wide=True,
            caption="Bars: lowest to highest of the draws.", data=norms,
            layout={"xaxis": {"title": {"text": "layer"}}, "yaxis": {"title": {"text": "gradient norm"}, "type": "log"}},
        )
    ]  # fmt: skip
    shattering = (("mlps", "Shattering: fully connected nets", result.curves), ("lines", "Shattering: the models", result.lines))
    for name, title, curves in shattering:
        if curves:
            spacing = f"Lag 1 is {curves[0].spacing}."
            figures.append(_correlations(name, title, spacing, curves))
    header = ("model", "kind", "state", "first layer", "last convolution", "largest", "smallest", "draws")
    return Shown(
        title="Gradients", sentences=[f"Batch norm in the {result.batch_norm}."], figures=figures,
        tables=[Table(title="Gradient norms", header=header, rows=rows, words=(0, 1, 2))],
    )  # fmt: skip


def _correlations(name: str, title: str, spacing: str, curves: Sequence[Any]) -> Figure:
    data = []
    for number, curve in enumerate(curves):
        trace = series(number, curve.kind, f"{curve.label}, {curve.depth} layers", curve.lags, [s.mean for s in curve.correlation], [])
        data.append(trace | bars(curve.correlation))
    return Figure(
        name=name, title=title, label="Correlation of the gradients at two inputs, by their distance", data=data,
        caption=f"{spacing} 1: the gradients are alike; 0: one says nothing about the other. Bars: lowest to highest.",
        layout={"xaxis": {"title": {"text": "distance (lag)"}}, "yaxis": {"title": {"text": "correlation"}}},
        height=340 + 20 * max(0, len(curves) - 3), wide=len(curves) > 4,
    )  # fmt: skip


def lesion(result: LesionResult) -> Shown:
    """The error with one block less, with several less, and with blocks in another order."""
    single, several, orders, rows = [], [], [], []
    for number, model in enumerate(result.models):
        parts = [part for part in model.single if part.unit == "block"] or list(model.single)
        single.append(series(number, model.kind, model.label, [p.name for p in parts], [100 * p.error for p in parts], []) | _dots())
        found = [100 * s.error.mean for s in model.several]
        ranges = bars([in_percent(s.error) for s in model.several])
        several.append(series(number, model.kind, model.label, [s.removed for s in model.several], found, []) | ranges)
        moved = [100 * order.error for order in model.orders]
        orders.append(series(number, model.kind, model.label, [order.tau for order in model.orders], moved, []) | _dots())
        errors = [p.error for p in parts]
        ends = [f"{sum(errors) / len(errors):.1%}", f"{max(errors):.1%}"] if errors else ["", ""]
        rows.append([model.label, model.kind, str(model.blocks), f"{model.whole:.1%}", *ends, f"{result.chance:.1%}"])
    axis = {"yaxis": {"title": {"text": "error"}, "ticksuffix": " %", "rangemode": "tozero"}}
    most = max((several.removed for model in result.models for several in model.several), default=1)
    names = max((len(p.name) for m in result.models for p in m.single), default=0)
    figures = [
        Figure(name="single", title="One block removed", label="Error after each block was removed", data=single, wide=True,
               caption="Dotted lines: the error of the whole model.", layout={
                   "xaxis": {"tickangle": -45 if names > 4 else 0, "type": "category"}, **axis, "shapes": _wholes(result)}),
        Figure(name="several", title="Several blocks removed", label="Error by the number of blocks removed at random", data=several,
               caption="Mean over random draws; bars: lowest to highest.",
               layout={"xaxis": {"title": {"text": "blocks removed"}, "dtick": max(1, most // 8)}, **axis}),
        Figure(name="orders", title="Blocks in another order", label="Error by how far the order of the blocks is the old one", data=orders,
               caption="1: the order the model was trained in; lower: more pairs have changed places.",
               layout={"xaxis": {"title": {"text": "Kendall's tau"}}, **axis}),
    ]  # fmt: skip
    header = ("model", "kind", "blocks", "error, whole", "mean, one less", "worst, one less", "chance")
    kept = [figure for figure in figures if any(trace["x"] for trace in figure.data)]
    return Shown(
        title="Blocks removed and reordered", sentences=[f"{model.label}: {model.told}" for model in result.models], figures=kept,
        tables=[Table(title="Errors", header=header, rows=rows, words=(0, 1))],
    )  # fmt: skip


def surfaces(result: LandscapeResult) -> Shown:
    """Loss surfaces as contours and as surfaces that turn."""
    figures, rows = landscape(result)
    of = (
        f"{result.pictures:,} of {result.population:,} pictures" if result.pictures < result.population else f"{result.pictures:,} pictures"
    )
    how = "kept at their running values" if result.statistics == "inference" else "taken anew from the pictures at each point"
    header = ("model", "plane", "loss at the weights", "highest", "within 1.0 of the lowest", "curvature", "not convex")
    return Shown(
        title="Loss landscape",
        sentences=[
            f"Mean cross-entropy over {of}. Batch norm's statistics are {how}.",
            "On a random plane a step of 1 moves each filter by as much as its own norm (Li et al. 2018, section 4).",
        ],
        figures=figures, tables=[Table(title="Shapes", header=header, rows=rows, words=(0, 1))],
    )  # fmt: skip


def origin(finding: Finding) -> list[tuple[str, str]]:
    """(what, value) of the pictures, the machine, the versions and the time."""
    data, machine = finding.data, finding.machine
    pictures = str(data.get("name", ""))
    if "count" in data and "of" in data:
        pictures = f"{data['count']:,} of {data['of']:,} of the {data.get('split')} split of {pictures}, seed {data.get('seed', 0)}"
    found = [
        ("pictures", pictures), ("computing", duration(finding.seconds)),
        ("machine", ", ".join(_word(key, value) for key, value in machine.items() if value != [])),
        ("versions", ", ".join(f"{name} {version}" for name, version in finding.versions.items())),
    ]  # fmt: skip
    return [(name, value) for name, value in found if value]


def _word(key: str, value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{key} {value}"


def plain(finding: Finding) -> Shown:
    """A study without a page of its own: what it says of the claims, and no figure."""
    return Shown(title=finding.study, sentences=["Its numbers are in result.json."], figures=[], tables=[])


_PAGES: dict[str, Callable[[Any], Shown]] = {
    "responses": responses, "gradients": gradients, "lesion": lesion, "landscape": surfaces,
    "degradation": degradation, "nesting": nesting, "blocks": blocks, "reproduction": reproduction,
}  # fmt: skip


def _dots() -> dict[str, Any]:
    return {"mode": "markers"}


def _wholes(result: LesionResult) -> list[dict[str, Any]]:
    return [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 100 * model.whole, "y1": 100 * model.whole,
         "line": {"color": f"@s{number % SERIES + 1}", "width": 1.5, "dash": "dot"}}
        for number, model in enumerate(result.models)
    ]  # fmt: skip


__all__ = ["Shown", "gradients", "lesion", "origin", "responses", "shown", "surfaces"]
