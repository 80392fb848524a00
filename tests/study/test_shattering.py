"""Correlations that are known: a linear net, white noise, an autoregression, wide nets by the arc-cosine kernel; autograd as oracle."""

import numpy as np
import pytest
import torch

from residual.plan import plan
from residual.study.probes import settled
from residual.study.shattering import Mlp, correlation, first_value_lines, line_gradients, mlp_curve
from residual.variants import architecture
from residual.weights import initialise
from tests.nets import SMALL, images, random_weights


def test_the_same_gradient_everywhere_correlates_fully() -> None:
    np.testing.assert_allclose(correlation(np.full((40, 3), -2.5), 10), 1, atol=1e-12)


def test_white_noise_does_not_correlate() -> None:
    noise = np.random.default_rng(0).standard_normal((20_000, 1))
    found = correlation(noise, 15)
    assert found[0] == 1
    assert np.abs(found[1:]).max() < 4 / 20_000**0.5


def test_an_autoregression_decays_as_it_must() -> None:
    stream, g = np.random.default_rng(1), [np.zeros(2)]
    for _ in range(100_000):
        g.append(0.8 * g[-1] + stream.standard_normal(2))
    np.testing.assert_allclose(correlation(np.array(g), 6), 0.8 ** np.arange(7), atol=0.015)


def test_dimensions_count_together_and_scales_do_not() -> None:
    g = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(correlation(g, 2), [1, 0, 1])
    np.testing.assert_allclose(correlation(5 * g, 2), [1, 0, 1])
    with pytest.raises(ValueError, match="4 points are too few for a lag of 3"):
        correlation(g, 3)


@pytest.mark.parametrize(("residual", "beta"), [(False, 1.0), (True, 1.0), (True, 0.1)])
@pytest.mark.parametrize("norm", [True, False])
def test_mlp_gradients_are_autograd_s(residual: bool, beta: float, norm: bool) -> None:
    net = Mlp(residual=residual, depth=4, width=30, beta=beta, norm=norm)
    inputs = np.random.default_rng(2).standard_normal((20, 3))
    stream = np.random.Generator(np.random.Philox(key=7))
    first = torch.from_numpy(stream.standard_normal((3, 30)))
    bias = torch.from_numpy(stream.standard_normal(30)) if norm else 0.0
    matrices = [torch.from_numpy(stream.standard_normal((30, 30)) * (2 / 30) ** 0.5) for _ in range(4)]
    x = torch.from_numpy(inputs).requires_grad_()
    h = x @ first + bias
    for matrix in matrices:
        normal = (h - h.detach().mean(0)) / (h.detach().var(0, correction=0) + 1e-5).sqrt() if norm else h
        y = torch.relu(normal) @ matrix
        h = h + beta * y if residual else y
    (h @ torch.from_numpy(stream.standard_normal(30))).sum().backward()
    np.testing.assert_allclose(net.gradients(inputs, seed=7), x.grad.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_wide_plain_nets_follow_the_arc_cosine_kernel(depth: int) -> None:
    """Without batch norm the cosine of two inputs' gradients is the product of 1 - angle/pi over the layers. Cho & Saul 2009, eqs 3, 6."""
    inputs = np.zeros((2, 1000))
    inputs[0, 0] = 1
    inputs[1, :2] = np.cos(0.9), np.sin(0.9)
    wanted, cosine = 1.0, np.cos(0.9)
    for _ in range(depth):
        angle = np.arccos(cosine)
        wanted *= 1 - angle / np.pi
        cosine = (np.sin(angle) + (np.pi - angle) * cosine) / np.pi
    found = []
    for seed in range(3):
        a, b = Mlp(residual=False, depth=depth, width=1000, norm=False).gradients(inputs, seed)
        found.append((a @ b) / np.sqrt((a @ a) * (b @ b)))
    assert np.mean(found) == pytest.approx(wanted, abs=0.04)


def test_a_curve_is_the_mean_over_seeds() -> None:
    net = Mlp(residual=True, depth=3, width=20, beta=0.5)
    curve = mlp_curve(net, seeds=(4, 5), points=30, lags=5)
    grid = np.linspace(-2, 2, 30)[:, None]
    rows = [correlation(net.gradients(grid, seed), 5) for seed in (4, 5)]
    assert curve.lags == (0, 1, 2, 3, 4, 5)
    assert [value.mean for value in curve.correlation] == pytest.approx(np.mean(rows, 0).tolist())
    assert [value.low for value in curve.correlation] == pytest.approx(np.min(rows, 0).tolist())
    assert (curve.kind, curve.depth) == ("residual", 5)
    assert curve.label == "residual MLP of width 20, beta 0.5"


def test_plain_mlps_shatter_and_residual_ones_less() -> None:
    at = {
        (residual, depth): mlp_curve(Mlp(residual=residual, depth=depth, beta=0.1 if residual else 1.0), seeds=range(3)).correlation[1].mean
        for residual in (False, True)
        for depth in (2, 24)
    }
    assert at[False, 24] < at[False, 2] - 0.3
    assert at[True, 24] > at[False, 24] + 0.3


def test_a_network_without_kinks_has_one_gradient() -> None:
    """Batch norm shifted so far up that every ReLU passes all on: the network is linear and correlates fully; as drawn it does not."""
    network = plan(SMALL)
    weights, ends = random_weights(network), images(network, 8, 8)
    output = np.arange(5, dtype=np.float32)
    bent = correlation(line_gradients(network, weights, ends, output=output, points=12), 8)
    assert bent[-1] < 0.99
    straight = {key: value + np.float32(100 * (".bn" in f".{key}" and key.endswith("bias"))) for key, value in weights.items()}
    found = line_gradients(network, straight, ends, output=output, points=12)
    np.testing.assert_allclose(correlation(found, 8), 1, atol=1e-5)


def test_lines_of_each_draw() -> None:
    network = plan(architecture("cifar_resnet8"))
    draws, x = [initialise(network, seed) for seed in (0, 1)], images(network, 8, 8, count=5)
    found = first_value_lines(network, draws, x, points=10, lags=4)
    assert [value.count for value in found] == [2] * 5
    assert (found[0].mean, found[0].std) == (1, 0)
    assert 0 < found[1].mean < 1
    assert found == first_value_lines(network, draws, x, points=10, lags=4)
    assert found != first_value_lines(network, draws[::-1], x, points=10, lags=4)
    output = np.random.Generator(np.random.Philox(key=0)).standard_normal(10, np.float32)
    first = line_gradients(network, settled(network, draws[0], x), x[:2], output=output, points=10)
    alone = first_value_lines(network, draws[:1], x, points=10, lags=4)
    assert [value.mean for value in alone] == pytest.approx(correlation(first, 4).tolist())
