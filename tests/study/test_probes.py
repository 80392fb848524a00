"""Gradients against finite differences and against what a training step computes; settled statistics against their definition."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from residual.backends import torch as backend
from residual.plan import plan
from residual.recipe import Recipe
from residual.reference import forward as reference
from residual.study.probes import input_gradients, settled, weight_gradients
from residual.variants import VARIANTS
from tests.nets import SMALL, images, random_weights, scaled_down

NETWORK = plan(SMALL)
WEIGHTS = random_weights(NETWORK)
LABELS = np.array([0, 3, 4, 1, 1, 2])


def test_the_weight_gradient_is_that_of_a_training_step() -> None:
    """SGD's momentum after its first step is the gradient, by the backend's own training."""
    x = images(NETWORK, 9, 8, count=6)
    model = backend.build(NETWORK, weights=WEIGHTS)
    recipe = Recipe(momentum=0.5, nesterov=False, weight_decay=0.0, label_smoothing=0.0, warmup=0.0, schedule="constant")
    velocity: dict[str, np.ndarray] = {}
    list(backend.fit(model, [[(x, LABELS)]], recipe, velocity=velocity))
    found = weight_gradients(NETWORK, WEIGHTS, x, LABELS)
    assert found.keys() == velocity.keys()
    for name, value in velocity.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6 * np.abs(value).max() + 1e-9)


def test_the_weight_gradient_predicts_the_loss() -> None:
    """Central differences in float64 along the gradient, batch norm with the batch's statistics."""
    x = images(NETWORK, 9, 8, count=6)
    found = weight_gradients(NETWORK, WEIGHTS, x, LABELS)

    def loss(step: float) -> float:
        model = backend.build(NETWORK, weights=WEIGHTS)
        model.double().train()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter += step * torch.from_numpy(found[name].astype(np.float64))
            return float(F.cross_entropy(model(torch.from_numpy(x).double()), torch.from_numpy(LABELS)))

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert slope == pytest.approx(sum(float((value.astype(np.float64) ** 2).sum()) for value in found.values()), rel=1e-3)


def test_dropout_and_stochastic_depth_are_off() -> None:
    network = plan(scaled_down(VARIANTS["wrn_16_8"]))
    weights, x = random_weights(network), images(network, 8, 8, count=4)
    dropped = plan(type(SMALL)(**{**vars(network.architecture), "dropout": 0.5, "drop_path": 0.5}))
    found, wanted = (weight_gradients(each, weights, x, LABELS[:4]) for each in (dropped, network))
    assert all((found[name] == value).all() for name, value in wanted.items())


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_plain20", "preact_resnet50"])
def test_the_input_gradient_predicts_the_reference(name: str) -> None:
    network = plan(scaled_down(VARIANTS[name]))
    weights, x = random_weights(network), images(network, 16, 17, count=2)
    stream = np.random.default_rng(1)
    output, way = stream.standard_normal(network.num_classes).astype(np.float32), stream.standard_normal(x.shape)
    found = input_gradients(network, weights, x, output)
    assert found.shape == (2, x[0].size)
    ahead, behind = (reference(network, weights, x + step * way)["logits"] @ output for step in (1e-7, -1e-7))
    np.testing.assert_allclose((found * way.reshape(2, -1)).sum(1), (ahead - behind) / 2e-7, rtol=2e-4)


def test_settled_statistics_are_those_of_the_pictures() -> None:
    x = images(NETWORK, 9, 8, count=6)
    found = settled(NETWORK, WEIGHTS, x)
    norms = {name.removesuffix(".running_mean") for name in WEIGHTS if name.endswith("running_mean")}
    for name, value in found.items():
        same = (value == WEIGHTS[name]).all()
        assert same != name.endswith(("running_mean", "running_var"))
    model, seen = backend.build(NETWORK), dict[str, torch.Tensor]()
    backend.set_weights(model, WEIGHTS)
    for name in norms:
        model.get_submodule(name).register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].detach().clone()}))
    model.train()(torch.from_numpy(x))
    for name in norms:
        np.testing.assert_allclose(found[f"{name}.running_mean"], seen[name].mean((0, 2, 3)), atol=1e-5)
        np.testing.assert_allclose(found[f"{name}.running_var"], seen[name].var((0, 2, 3)), rtol=1e-4)
