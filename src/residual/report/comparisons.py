"""Studies that build or train what they look at, as figures, sentences and tables: degradation, nesting, blocks, reproductions.

The surprising thing: a mean over seeds is never alone; its bars reach from the lowest seed to the highest.
"""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

from residual.report.figures import Figure, line
from residual.report.reproduction import table as reproduction_table
from residual.report.shown import SERIES, Shown, Table, bars, in_percent, series
from residual.study.blocks import Design, Timing
from residual.study.blocks import Result as BlocksResult
from residual.study.claims import spread
from residual.study.degradation import Net
from residual.study.degradation import Result as DegradationResult
from residual.study.nesting import Result as NestingResult
from residual.study.reproduction import Result as ReproductionResult

_ERROR = {"yaxis": {"title": {"text": "error"}, "ticksuffix": " %", "rangemode": "tozero"}}


def degradation(result: DegradationResult) -> Shown:
    """Error by epoch, plain beside residual as in figure 6; error by depth; gradient norms, which do not vanish."""
    depths = sorted({net.depth for net in result.nets})
    figures = []
    for kind in ("plain", "residual"):
        nets = [net for net in result.nets if net.kind == kind]
        for part in ("train", "validation"):
            curves = [_by_epoch(net, depths.index(net.depth), part) for net in nets]
            told = "training" if part == "train" else "validation"
            if any(value is not None for curve in curves for value in curve["y"]):
                figures.append(Figure(
                    name=f"{kind}-{part}", title=f"{kind.capitalize()} nets: {told} error", data=curves, height=320,
                    label=f"{told.capitalize()} error of {kind} nets by epoch", caption=f"Mean of {result.seeds} seed(s).",
                    layout={"xaxis": {"title": {"text": "epoch"}}, **_ERROR},
                ))  # fmt: skip
    figures += [_by_depth(result), *_norms(result)]
    rows = [
        [str(n.depth), n.kind, f"{n.parameters:,}", *(_told(s.mean, s.low, s.high) for s in (n.final_train, n.final_validation))]
        for n in result.nets
    ]
    header = ("layers", "kind", "parameters", "training error", "validation error")
    widths = ", ".join(map(str, result.widths))
    return Shown(
        title="Degradation", figures=figures,
        sentences=[f"{result.seeds} seed(s) of each net, {result.epochs} epochs, widths {widths}. The error in training is the one to "
                   "watch: were it overfitting, that error would fall."],
        tables=[Table(title="Errors after the last epoch, mean (lowest to highest)", header=header, rows=rows, words=(1,))],
    )  # fmt: skip


def _by_epoch(net: Net, place: int, part: str) -> dict[str, Any]:
    values = net.train_error if part == "train" else net.validation_error
    found = [100 * value.mean for value in values]
    return series(place, net.kind, f"{net.depth} layers", range(1, len(found) + 1), found, [])


def _by_depth(result: DegradationResult) -> Figure:
    data = []
    for number, kind in enumerate(("plain", "residual")):
        nets = sorted((net for net in result.nets if net.kind == kind), key=lambda net: net.depth)
        ends = [in_percent(net.final_train) for net in nets]
        data.append(series(number, kind, kind, [net.depth for net in nets], [end.mean for end in ends], []) | bars(ends))
    return Figure(
        name="depth", title="Training error by depth", label="Training error after the last epoch by the number of layers", data=data,
        caption="Bars: lowest to highest seed. Plain nets that are deeper should not be worse in training, if they could be optimised.",
        layout={"xaxis": {"title": {"text": "layers"}}, **_ERROR}, height=320,
    )  # fmt: skip


def _norms(result: DegradationResult) -> list[Figure]:
    """Gradient norms by layer of the deepest nets, at first values and at the end, means over the seeds."""
    deepest, data = max(curve.depth for curve in result.curves), []
    for number, kind in enumerate(("plain", "residual")):
        curves = [curve for curve in result.curves if curve.kind == kind and curve.depth == deepest and curve.layers]
        for state in ("first", "last") if curves else ():
            rows = [getattr(curve, f"gradients_{state}") for curve in curves]
            found = [spread(values) for values in zip(*rows, strict=True)]
            name = f"{kind}, {'first values' if state == 'first' else 'trained'}"
            x = range(1, len(found) + 1)
            data.append(
                series(2 * number + (state == "last"), kind, name, x, [v.mean for v in found], list(curves[0].layers)) | bars(found)
            )
    layout = {"xaxis": {"title": {"text": "layer"}}, "yaxis": {"title": {"text": "gradient norm"}, "type": "log"}}
    caption = "Gradients that vanished would fall towards the first layer by many powers of ten."
    label = f"Gradient norm by layer of the nets of {deepest} layers"
    return (
        [Figure(name="norms", title=f"Gradients with {deepest} layers", label=label, caption=caption, data=data, layout=layout)]
        if data
        else []
    )


def nesting(result: NestingResult) -> Shown:
    """The best loss by size, nested against not nested, exact and trained."""
    figures, rows = [], []
    for name, exact in (("spans", True), ("nets", False)):
        classes = [found for found in result.classes if found.exact == exact]
        traces = []
        for number, found in enumerate(classes):
            kind = "residual" if found.kind == "nested" else "plain"
            traces.append(series(number, kind, found.label, found.sizes, [s.mean for s in found.loss], []) | bars(found.loss))
        if traces:
            title = "Best loss by size, exact" if exact else "Best loss by size, trained"
            figures.append(Figure(
                name=name, title=title, label=title, data=traces, height=340,
                caption="Solid: each class holds the one before it. Dashed: it does not. Bars: lowest to highest seed.",
                layout={"xaxis": {"title": {"text": classes[0].unit}}, "yaxis": {"title": {"text": "mean squared error"}, "type": "log"}},
            ))  # fmt: skip
    for found in result.classes:
        ends = [f"{found.loss[place].mean:.3g}" for place in (0, -1)]
        rows.append([found.label, found.told, f"{found.sizes[0]} to {found.sizes[-1]} {found.unit}", *ends, f"{found.worse:.0%}"])
    target = line(result.target_x, result.target_y, "target", "@s2", mode="lines")
    figures.append(Figure(
        name="target", title="The function to be found", label="The target of the toy problem", caption=result.target_told,
        data=[target], layout={"xaxis": {"title": {"text": "x"}}, "showlegend": False},
    ))  # fmt: skip
    header = ("classes", "how one grows into the next", "sizes", "loss, smallest", "loss, largest", "steps that made it worse")
    return Shown(
        title="Nested function classes", sentences=["A larger class can only be trusted to be better where it holds the smaller one."],
        figures=figures, tables=[Table(title="Best losses", header=header, rows=rows, words=(0, 1, 2))],
    )  # fmt: skip


def blocks(result: BlocksResult) -> Shown:
    """What blocks cost and how fast they run, side by side."""
    parts = (("blocks", "Blocks side by side"), ("left", "Inception with paths removed"), ("kernels", "Two 3×3 against one 5×5"),
             ("savings", "What 1×1 convolutions save"))  # fmt: skip
    tables, header = [], ("block", "where", "in", "out", "parameters", "multiply-adds", "sees", "memory", "forward", "and backward")
    for name, title in parts:
        designs: Sequence[Design] = getattr(result, name)
        if designs:
            tables.append(Table(title=title, header=header, rows=[_design(design) for design in designs], words=(0, 1, 2, 3)))
            if all(design.forward is None for design in designs):
                tables[-1] = replace(tables[-1], header=header[:-2], rows=[row[:-2] for row in tables[-1].rows])
    told = [f"{design.label}: {design.told}" for design in result.left if design.told]
    timed = f"Seconds are of a batch of {result.batch}: median (fastest to slowest)." if result.batch else "Nothing was timed."
    return Shown(title="Building blocks", sentences=[timed, *told], figures=_costs(result.blocks), tables=tables)


def _costs(designs: Sequence[Design]) -> list[Figure]:
    found = []
    for name, title, scale in (("parameters", "Parameters", 1e3), ("macs", "Multiply-adds", 1e6)):
        values, names = [getattr(d, name) / scale for d in designs], [escape(f"{d.label}, {d.case}") for d in designs]
        bar = {
            "type": "bar",
            "orientation": "h",
            "x": values,
            "y": names,
            "marker": {"color": "@s2"},
            "hovertemplate": "%{y}: %{x:,.4g}<extra></extra>",
        }
        unit = "thousand" if scale == 1e3 else "million"
        layout = {"xaxis": {"title": {"text": unit}}, "yaxis": {"autorange": "reversed", "tickfont": {"size": 10}}, "showlegend": False}
        figures = Figure(
            name=name, title=f"{title} ({unit})", label=f"{title} of each block", caption="", data=[bar], layout=layout,
            height=90 + 26 * len(designs), wide=True,
        )  # fmt: skip
        found += [figures] if designs else []
    return found


def _design(design: Design) -> list[str]:
    sees, memory = str(design.receptive_field), f"{design.memory / 2**20:.2f} MiB"
    shapes = ["\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, shape)) for shape in (design.input, design.output)]
    times = [_seconds(timing) for timing in (design.forward, design.both)]
    return [design.label, design.case, *shapes, f"{design.parameters:,}", f"{design.macs:,}", sees, memory, *times]


def _seconds(timing: Timing | None) -> str:
    return "" if timing is None else f"{timing.median * 1e3:.1f} ms ({timing.low * 1e3:.1f} to {timing.high * 1e3:.1f})"


def reproduction(result: ReproductionResult) -> Shown:
    """Published numbers beside measured ones, and the curves they come from."""
    header, *rows = reproduction_table(result)
    figures = []
    for name, told in (("train", "Training error"), ("validation", "Validation error")):
        traces, nets = [], list(dict.fromkeys(curve.net for curve in result.curves))
        for curve in result.curves:
            values = [100 * value for value in getattr(curve, name)]
            kind, label = "plain" if "plain" in curve.net.lower() else "residual", f"{curve.net}, seed {curve.seed}"
            traces += [series(nets.index(curve.net) % SERIES, kind, label, range(1, len(values) + 1), values, [])] if values else []
        if traces:
            figures.append(Figure(
                name=name, title=told, label=f"{told} by epoch", caption="", data=traces, height=340,
                layout={"xaxis": {"title": {"text": "epoch"}}, **_ERROR},
            ))  # fmt: skip
    return Shown(
        title=f"{result.target}: {result.title}",
        sentences=[f"Verdict: {result.told}. Source: {result.source}.", *result.rules, *result.notes],
        figures=figures, tables=[Table(title="Published and here", header=tuple(header), rows=rows, words=(0, 1, 2, 4, 5))] if rows else [],
    )  # fmt: skip


def _told(mean: float, low: float, high: float) -> str:
    if mean != mean:
        return ""
    return f"{mean:.1%}" + (f" ({low:.1%} to {high:.1%})" if low != high else "")


__all__ = ["blocks", "degradation", "nesting", "reproduction"]
