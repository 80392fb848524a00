"""A network by itself on the page: its totals, for one or for several side by side.

The surprising thing: shapes and multiply-adds depend on the size of the pictures, which a variant has none of; they are told for the size
that nets with its stem were made for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from residual.cost import Cost, network_cost
from residual.describe import depth
from residual.layers import Network
from residual.report.facts import big
from residual.report.pictures import filters
from residual.report.things import Model

LAYER_HEADER = ("layer", "kind", "output", "kernel", "stride", "parameters", "multiply-adds", "sees")
_WINDOWS = ("Conv", "MaxPool", "AvgPool", "PadChannels")
MODEL_HEADER = ("model", "layers", "parameters", "multiply-adds", "activations", "pictures", "sees", "shortcut", "order")


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """A model as the page sees it.

    Attributes:
        command: makes or shows it again.
        told: where its weights are from.
        first: whether they are first values, which nothing was learned by.
    """

    name: str
    network: Network
    size: tuple[int, int]
    cost: Cost
    filters: list[str]
    facts: list[tuple[str, str]]
    classes: tuple[str, ...]
    command: str
    told: str
    first: bool


def view(model: Model) -> ModelView:
    """Totals, filters and words of a model."""
    network, arch = model.network, model.network.architecture
    cost = network_cost(network, model.size)
    blocks = f"{arch.block}, {' + '.join(map(str, arch.depths))}"
    found = [
        ("layers with weights", str(depth(arch))), ("parameters", f"{cost.parameters:,}"), ("multiply-adds", f"{big(cost.macs)} a picture"),
        ("activations", f"{big(cost.activations)} values"), ("blocks", blocks),
        ("shortcut", arch.shortcut), ("order", arch.order),
        ("last stage sees", f"{cost.receptive_field:,} pixels across"), ("pictures", _pictures(network, model.size)),
        ("classes", f"{network.num_classes:,}"),
    ]  # fmt: skip
    if model.place is None:
        told = "A variant by name: its weights are first values, drawn from seed 0, and nothing it has learned."
        command = f"residual show {model.name}"
    else:
        told, command = f"Weights: {model.place}.", f"residual.load({str(model.place)!r})"
    return ModelView(
        name=model.name, network=network, size=model.size, cost=cost, filters=filters(network, model.weights), facts=found,
        classes=model.classes, command=command, told=told, first=model.place is None,
    )  # fmt: skip


def model_rows(models: Sequence[ModelView]) -> list[list[str]]:
    """A row under MODEL_HEADER for each model."""
    return [
        [
            m.name, str(depth(m.network.architecture)), f"{m.cost.parameters:,}", f"{m.cost.macs:,}", f"{m.cost.activations:,}",
            _pictures(m.network, m.size), f"{m.cost.receptive_field:,}", m.network.architecture.shortcut, m.network.architecture.order,
        ]
        for m in models
    ]  # fmt: skip


def layer_rows(cost: Cost) -> list[list[str]]:
    """(layer, kind, output, kernel, stride, parameters, multiply-adds, receptive field) of every layer, and a last row of totals."""
    found = []
    for row in cost.rows:
        shape, sees = "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}".join(map(str, row.output)), str(row.receptive_field or "all")
        kernel, stride = (str(value) if row.kind in _WINDOWS else "" for value in (row.kernel, row.stride))
        found.append([row.name, row.kind, shape, kernel, stride, _number(row.parameters), _number(row.macs), sees])
    return [*found, ["total", "", "", "", "", _number(cost.parameters), _number(cost.macs), str(cost.receptive_field)]]


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _pictures(network: Network, size: tuple[int, int]) -> str:
    return f"{network.in_channels} × {size[0]} × {size[1]}"


__all__ = ["LAYER_HEADER", "MODEL_HEADER", "ModelView", "layer_rows", "model_rows", "view"]
