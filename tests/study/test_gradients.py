"""Norms by layer from real gradients, verdicts that follow the numbers, and a study that is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import residual
from residual.plan import plan
from residual.study.bench import Ask
from residual.study.claims import Spread
from residual.study.gradients import LayerGradient, ModelGradients, Size, by_layer, claims, norms, study
from residual.study.probes import weight_gradients
from residual.study.shattering import Curve
from residual.study.store import load
from residual.study.subjects import open_subject
from residual.weights import initialise
from tests.nets import SMALL, images, random_weights


def test_a_layer_s_norm_is_that_of_its_gradient() -> None:
    network = plan(replace(SMALL, shortcut="projection"))
    weights, x, y = random_weights(network), images(network, 8, 8, count=5), np.array([0, 1, 2, 3, 4])
    found, gradients = by_layer(network, weights, x, y), weight_gradients(network, weights, x, y)
    assert list(found) == ["conv1", *(f"{block.name}.conv{n}" for block in network.blocks() for n in (1, 2)), "fc"]
    for name, (norm, share) in found.items():
        flat, weight = gradients[f"{name}.weight"].ravel(), weights[f"{name}.weight"].ravel()
        assert norm == pytest.approx(np.sqrt((flat.astype(np.float64) ** 2).sum()))
        assert share == pytest.approx(norm / np.sqrt((weight.astype(np.float64) ** 2).sum()))


def test_draws_are_seeds_at_first_values_and_batches_when_trained() -> None:
    subject = open_subject("cifar_plain8", num_classes=5)
    x, y = images(subject.network, 8, 8, count=11), np.arange(11) % 5
    size = Size(seeds=3, batch=4, depths=(), points=8)
    fresh = norms(subject, x, y, state="first values", size=size, seed=6)
    rows = [
        by_layer(subject.network, initialise(subject.network, 6 + n), x[start : start + 4], y[start : start + 4])["conv1"][0]
        for n, start in enumerate((0, 4, 0))
    ]
    assert (fresh.draws, fresh.layers[0].norm.count) == (3, 3)
    assert fresh.layers[0].norm.mean == pytest.approx(np.mean(rows))
    assert fresh.layers[0].norm.std == pytest.approx(np.std(rows, ddof=1))
    trained = norms(replace(subject, weights=random_weights(subject.network), trained=True), x, y, state="trained", size=size)
    assert (trained.draws, trained.state) == (2, "trained")


def _spread(mean: float, std: float = 0.01) -> Spread:
    return Spread(mean=mean, std=std, low=mean - std, high=mean + std, count=5)


def _model(*values: float, kind: str = "plain") -> ModelGradients:
    layers = tuple(LayerGradient(layer=f"l{n}", norm=_spread(value), share=_spread(value)) for n, value in enumerate(values))
    return ModelGradients(label="m", kind=kind, depth=8, state="trained", draws=5, batch=4, layers=layers)  # type: ignore[arg-type]


def _curve(kind: str, depth: int, value: float, std: float = 0.01) -> Curve:
    return Curve(label=f"{kind} net", kind=kind, depth=depth, spacing="", lags=(0, 1), correlation=(_spread(1.0, 0), _spread(value, std)))


def test_the_verdicts_follow_the_numbers() -> None:
    subjects = [open_subject("cifar_resnet8"), open_subject("cifar_plain8")]

    def verdicts(models: list[ModelGradients], curves: list[Curve], lines: list[Curve]) -> list[str]:
        return [claim.verdict for claim in claims(subjects[: len(lines)], models, curves, lines)]

    kept = [_curve("plain", 3, 0.9), _curve("plain", 50, 0.1), _curve("residual", 3, 0.9), _curve("residual", 50, 0.6)]
    lines = [_curve("residual", 8, 0.8), _curve("plain", 8, 0.5)]
    assert verdicts([_model(1.0, 0.5, 2.0)], kept, lines) == ["agrees"] * 3
    lost = [_curve("plain", 3, 0.9), _curve("plain", 50, 0.6), _curve("residual", 3, 0.9), _curve("residual", 50, 0.1)]
    assert verdicts([_model(1.0, 1.0, 0.001)], lost, [_curve("residual", 8, 0.5), _curve("plain", 8, 0.8)]) == ["differs"] * 3
    wide = [_curve("residual", 8, 0.8, 0.5), _curve("plain", 8, 0.5, 0.5)]
    assert verdicts([_model(1.0, 1.0, 0.001, kind="residual")], [], wide) == ["too few to tell", "too few to tell", "within the spread"]
    assert verdicts([], kept[:2], lines[:1]) == ["too few to tell"] * 3


def test_a_study_is_kept_and_not_computed_twice(tmp_path: Path) -> None:
    residual.save(residual.create("cifar_plain8", seed=1, in_channels=1), tmp_path / "plain.safetensors")
    ask = Ask(models=("cifar_resnet8", str(tmp_path / "plain.safetensors")), data="digits", count=40, out=tmp_path / "out", small=True)
    finding = study(ask)
    assert load(tmp_path / "out") == finding
    assert [(model.label, model.state) for model in finding.result.models] == [
        ("cifar_resnet8", "first values"), ("plain", "first values"), ("plain", "trained"),
    ]  # fmt: skip
    assert [curve.label for curve in finding.result.lines] == ["cifar_resnet8", "plain"]
    assert {curve.depth for curve in finding.result.curves} == {4, 12, 26}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    assert study(ask).result == finding.result
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()} == before
    with pytest.raises(ValueError, match="another depths"):
        study(replace(ask, small=False))
