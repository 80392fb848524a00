"""Responses equal the NumPy reference's and gammas that are known; the verdicts follow the numbers."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import residual
from residual.architecture import Architecture, Order
from residual.backends import torch as backend
from residual.layers import Norm
from residual.plan import plan
from residual.reference import forward as reference
from residual.study.bench import Ask
from residual.study.responses import claims, deviations, measure, over_training, study, taps
from residual.study.store import load
from residual.study.subjects import Subject, open_subject
from residual.variants import VARIANTS, architecture
from residual.weights import SavedModel, Weights, initialise, save
from tests.nets import SMALL, images, random_weights, scaled_down

BOTTLENECK = replace(SMALL, block="bottleneck", out_widths=(8, 13))


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("base", [SMALL, BOTTLENECK, replace(SMALL, shortcut="none"), replace(SMALL, stem="deep")], ids=str)
def test_they_are_the_reference_s(base: Architecture, order: Order) -> None:
    network = plan(replace(base, order=order))
    weights, x = random_weights(network), images(network, 9, 12, count=3)
    found = deviations(network, weights, x)
    wanted = reference(network, weights, x, [tap.name for tap in taps(network)])
    assert [layer.tap for layer in found] == [name for name in wanted if name != "logits"]
    for layer in found:
        assert layer.std == pytest.approx(wanted[layer.tap].std(), rel=1e-5)


def test_batches_are_one_population() -> None:
    network = plan(architecture("cifar_resnet8"))
    weights, x = random_weights(network), images(network, 32, 32, count=300)
    x[200:] += 3  # so that the batches differ in their means
    values = backend.forward(_built(network, weights), x, ["layer3.0.bn2"])["layer3.0.bn2"]
    assert deviations(network, weights, x)[-1].std == pytest.approx(values.std(dtype=np.float64), rel=1e-5)


def _built(network, weights: Weights):
    return backend.build(network, weights=weights)


def test_known_gammas() -> None:
    """With running statistics that are the pictures', a batch norm of gamma g and beta 0 has the standard deviation g."""
    network = plan(SMALL)
    weights, x = initialise(network), images(network, 12, 12, count=4)
    convs = dict(_conv_before_norm(network))
    for number, name in enumerate(convs):
        before = reference(network, weights, x, [convs[name]])[convs[name]]
        weights[f"{name}.running_mean"] = before.mean((0, 2, 3)).astype(np.float32)
        weights[f"{name}.running_var"] = before.var((0, 2, 3)).astype(np.float32) - np.float32(1e-5)
        weights[f"{name}.weight"][:] = 0.3 + number
    found = {layer.tap: layer.std for layer in deviations(network, weights, x)}
    assert len(found) == 7
    for number, name in enumerate(convs):
        if name in found:
            assert found[name] == pytest.approx(0.3 + number, rel=1e-4)


def _conv_before_norm(network):
    """Norm -> convolution before it, in the order in which statistics must be set: a block's shortcut before what follows it."""
    previous = None
    for layer in network.layers():
        if isinstance(layer, Norm):
            yield layer.name, previous
        previous = layer.name


def test_which_layers_are_taken() -> None:
    assert len(taps(plan(VARIANTS["cifar_resnet20"]))) == 19
    first, second, *_ = taps(plan(VARIANTS["cifar_resnet20"]))
    assert (first.layer, first.name, first.after) == ("conv1", "bn1", "batch norm")
    assert (second.layer, second.name) == ("layer1.0.conv1", "layer1.0.bn1")
    bottleneck = taps(plan(VARIANTS["resnet50"]))
    assert len(bottleneck) == 17
    assert {tap.name.rpartition(".")[2] for tap in bottleneck[1:]} == {"bn2"}
    preact = taps(plan(VARIANTS["cifar_preact_resnet110"]))
    assert len(preact) == 109
    assert {tap.after for tap in preact} == {"convolution"}
    assert len(taps(plan(scaled_down(VARIANTS["resnet50c"])))) == 3 + 8


def _trained(name: str, gamma: float, label: str = "") -> Subject:
    subject = open_subject(name)
    weights = {key: value.copy() for key, value in subject.weights.items()}
    for key, value in weights.items():
        if ".bn" in key and key.endswith(".weight"):
            value[:] = gamma
    return replace(subject, label=label or name, weights=weights, trained=True)


def test_the_verdicts_follow_the_numbers() -> None:
    x = images(plan(SMALL), 8, 8, count=4)

    def verdicts(*subjects: Subject) -> list[str]:
        return [claim.verdict for claim in claims(subjects, [measure(subject, x) for subject in subjects])]

    low, high, plain = _trained("cifar_resnet14", 0.1), _trained("cifar_resnet8", 0.5), _trained("cifar_plain8", 2.0)
    assert verdicts(low, high, plain) == ["agrees", "agrees"]
    found = claims((high, plain), [measure(subject, x) for subject in (high, plain)])[0]
    assert found.reason.endswith("One training of each, so the spread over seeds is not known.")
    assert verdicts(_trained("cifar_resnet14", 0.5), _trained("cifar_resnet8", 0.1), _trained("cifar_plain8", 0.01)) == ["differs"] * 2
    assert verdicts(low, plain) == ["too few to tell"] * 2
    assert verdicts(high, _trained("cifar_resnet8", 5.0, "another seed"), plain) == ["within the spread", "too few to tell"]
    assert verdicts(replace(high, trained=False), plain) == ["too few to tell"] * 2


def test_over_training_each_state_is_measured() -> None:
    subject, x = open_subject("cifar_resnet8"), images(plan(SMALL), 8, 8)
    states = [(f"epoch {number}", random_weights(subject.network, number)) for number in (1, 2)]
    found = over_training(replace(subject, trained=True), states, x)
    assert [model.label for model in found] == ["epoch 1", "epoch 2"]
    for model, (_, weights) in zip(found, states, strict=True):
        assert model.layers == deviations(subject.network, weights, x)
        assert model.sorted == tuple(sorted((layer.std for layer in model.layers), reverse=True))
        assert model.mean == pytest.approx(np.mean(model.sorted))


def test_a_study_is_kept_and_not_computed_twice(tmp_path: Path) -> None:
    residual.save(residual.create("cifar_plain8", seed=1, in_channels=1), tmp_path / "plain.safetensors")
    ask = Ask(models=("cifar_resnet8", str(tmp_path / "plain.safetensors")), data="digits", count=20, out=tmp_path / "out")
    finding = study(ask)
    assert load(tmp_path / "out") == finding
    assert [model.trained for model in finding.result.models] == [False, True]
    first = finding.result.models[0]
    assert [layer.std for layer in first.layers] == pytest.approx([1.0] * 7, rel=0.05), "statistics are the pictures' at first values"
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    before = [path.stat().st_mtime_ns for path in parts]
    assert study(ask).result == finding.result
    assert [path.stat().st_mtime_ns for path in parts] == before
    with pytest.raises(ValueError, match="another data"):
        study(replace(ask, count=21))


def test_a_training_s_responses_are_those_of_its_stops(tmp_path: Path) -> None:
    network = plan(architecture("cifar_resnet8", in_channels=1))
    path = [initialise(network), *(random_weights(network, seed) for seed in (1, 2))]
    (tmp_path / "way").mkdir()
    for number, weights in enumerate(path):
        save(tmp_path / f"way/epoch-{number}.safetensors", SavedModel(architecture=network.architecture, weights=weights))
    ask = Ask(models=(str(tmp_path / "way/epoch-2.safetensors"),), data="digits", count=20, out=tmp_path / "out")
    finding = study(ask, str(tmp_path / "way"))
    first, second, last = finding.result.training
    assert [stop.label for stop in finding.result.training] == ["epoch-0", "epoch-1", "epoch-2"]
    assert [stop.trained for stop in finding.result.training] == [False, True, True]
    assert [layer.std for layer in first.layers] == pytest.approx([1.0] * 7, rel=0.05), "statistics are the pictures' at first values"
    assert last.layers == finding.result.models[0].layers != second.layers
    assert load(tmp_path / "out") == finding
    with pytest.raises(ValueError, match="another path"):
        study(ask)
    save(tmp_path / "way/epoch-3.safetensors", SavedModel(architecture=network.architecture, weights=path[1]))
    with pytest.raises(ValueError, match="The path ends in none of the models"):
        study(replace(ask, out=tmp_path / "other"), str(tmp_path / "way"))
