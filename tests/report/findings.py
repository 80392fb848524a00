"""Results of studies with numbers that are known, written and read by the studies' own store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from residual.report.things import Study
from residual.study import gradients, landscape, lesion, responses
from residual.study.claims import Claim, Spread, spread
from residual.study.landscape_shape import shape_of
from residual.study.shattering import Curve
from residual.study.store import Finding, load, save
from tests.report.comparison_findings import blocks_result, degradation_result, nesting_result, reproduction_result

HOSTILE = "<b>net</b>"


def study(folder: Path, name: str, result: Any) -> Study:
    """The result as it comes back from `folder`."""
    finding = Finding(
        study=name, settings={}, scaled_down=("5 of 9 pictures.",), machine={"device": "cpu"}, versions={"numpy": "2"}, seconds=75.0,
        data={"name": "digits", "split": "test", "count": 5, "of": 9, "seed": 3}, command=f"residual study {name} a b", result=result,
    )  # fmt: skip
    save(finding, folder)
    return Study(folder=folder, finding=load(folder))


def every(base: Path) -> dict[str, Study]:
    """One finding of each study that has a page of its own."""
    made = {"responses": responses_result(), "gradients": gradients_result(), "lesion": lesion_result(), "landscape": landscape_result()}
    made |= {
        "degradation": degradation_result(),
        "nesting": nesting_result(),
        "blocks": blocks_result(),
        "reproduction": reproduction_result(),
    }
    return {name: study(base / name, name, result) for name, result in made.items()}


def claims() -> tuple[Claim, ...]:
    told = ("agrees", "differs", "within the spread", "too few to tell")
    return tuple(Claim(claim=f"claim {verdict}", source="a paper", verdict=verdict, reason="so it is.") for verdict in told)


def responses_result() -> responses.Result:
    models = []
    for kind, label, stds in (("residual", HOSTILE, (0.5, 0.25, 0.75)), ("plain", "twin", (1.0, 1.5, 1.25))):
        layers = tuple(responses.Response(layer=f"conv{n}", tap=f"bn{n}", after="batch norm", std=std) for n, std in enumerate(stds))
        models.append(
            responses.ModelResponses(
                label=label, kind=kind, depth=8, trained=True, layers=layers, sorted=tuple(sorted(stds, reverse=True)),
                mean=float(np.mean(stds)),
            )
        )  # fmt: skip
    first = replace(models[0], label="epoch-0", layers=tuple(replace(layer, std=1.0) for layer in models[0].layers), mean=1.0)
    stops = (first, replace(models[0], label="<i>epoch-1"))
    return responses.Result(batch_norm="inference", layers_told="all", models=tuple(models), claims=claims(), training=stops)


def gradients_result() -> gradients.Result:
    def layer(name: str, *values: float) -> gradients.LayerGradient:
        return gradients.LayerGradient(layer=name, norm=spread(values), share=spread(values))

    models = [
        gradients.ModelGradients(label=label, kind=kind, depth=8, state="trained", draws=2, batch=4,
                                 layers=(layer("conv1", 0.1, 0.2, 0.6), layer("conv2", 2.0, 4.0), layer("fc", 9.0, 9.0)))
        for kind, label in (("residual", HOSTILE), ("plain", "twin"))
    ]  # fmt: skip
    curves = [
        Curve(label=f"{kind} MLP", kind=kind, depth=depth, spacing="0.1 of [-2, 2]", lags=(0, 1, 2),
              correlation=(spread([1.0, 1.0]), spread([high, high + 0.1]), spread([high / 2, high / 2])))
        for kind, depth, high in (("plain", 4, 0.8), ("plain", 26, 0.1), ("residual", 26, 0.7))
    ]  # fmt: skip
    return gradients.Result(
        batch_norm="training mode", models=tuple(models), curves=tuple(curves), lines=tuple(curves[:2]), claims=claims()
    )


def lesion_result() -> lesion.Result:
    def spreads(*values: float) -> Spread:
        return spread(values)

    single = tuple(
        lesion.Removed(name=f"layer{n}.{m}", unit="block", keeps_shape=bool(m), error=0.1 * n + 0.05 * m) for n in (1, 2, 3) for m in (0, 1)
    )
    several = tuple(lesion.Several(removed=n, error=spreads(0.1 * n, 0.2 * n)) for n in (1, 2, 3))
    orders = tuple(lesion.Order(swaps=n, tau=1 - 0.2 * n, error=0.1 + 0.1 * n) for n in (0, 1, 2))
    models = [
        lesion.ModelLesions(label=label, kind=kind, depth=14, trained=True, blocks=6, told="All can.", whole=0.08, single=single,
                            several=several, orders=orders)
        for kind, label in (("residual", HOSTILE), ("plain", "twin"))
    ]  # fmt: skip
    return lesion.Result(chance=0.9, models=tuple(models), claims=claims())


def landscape_result() -> landscape.Result:
    alphas, betas = np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)
    bowl = 0.1 + alphas[None, :] ** 2 + 2 * betas[:, None] ** 2
    walls = bowl * 1000
    walls[0, 0] = np.nan
    zero = np.zeros_like(bowl)

    def surface(label: str, kind: Any, plane: Any, loss: np.ndarray, path: np.ndarray) -> landscape.Surface:
        return landscape.Surface(
            label=label, kind=kind, plane=plane, seed=0, alphas=alphas, betas=betas, loss=loss, error=zero + 0.5, loss_bar=zero + 0.01,
            rise_bar=zero, center_loss=float(loss[4, 4]), center_error=0.5, shape=shape_of(loss, alphas, betas), path=path,
            explained=(0.8, 0.1) if len(path) else (), within=0.9 if len(path) else None,
        )  # fmt: skip

    nothing, way = np.zeros((0, 2)), np.array([[-0.9, -0.8], [-0.3, -0.6], [0.0, 0.0]])
    surfaces = (
        surface(HOSTILE, "residual", "random", bowl, nothing), surface("twin", "plain", "random", walls, nothing),
        surface(HOSTILE, "residual", "path", bowl, way),
    )  # fmt: skip
    return landscape.Result(statistics="inference", pictures=5, population=9, surfaces=surfaces, claims=claims())
