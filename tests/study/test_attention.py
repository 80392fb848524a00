"""Grad-CAM against PyTorch's own gradients, against the scores it explains, and on a picture that has something in one place only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from residual.backends import torch as backend
from residual.plan import plan
from residual.study.attention import attention, grad_cam, pooled
from residual.weights import initialise
from tests.nets import SMALL, images, random_weights

NETS = {
    "original": SMALL,
    "plain": replace(SMALL, shortcut="none"),
    "preact": replace(SMALL, order="preact"),
    "relu-only-preact": replace(SMALL, order="relu-only-preact"),
    "bn-after-addition": replace(SMALL, order="bn-after-addition"),
    "relu-before-addition": replace(SMALL, order="relu-before-addition"),
    "squeeze-excite": replace(SMALL, se_reduction=2),
}


def by_gradient(model: torch.nn.Module, x: np.ndarray, classes: list[int]) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2, with the gradient that PyTorch computes."""
    kept = {}

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        kept["maps"] = inputs[0]
        inputs[0].retain_grad()

    hook = model.avgpool.register_forward_pre_hook(keep)
    scores = model(torch.from_numpy(x))
    hook.remove()
    scores[torch.arange(len(x)), classes].sum().backward()
    maps = kept["maps"]
    alpha = maps.grad.mean((2, 3), keepdim=True)
    return torch.relu((alpha * maps).sum(1)).detach().numpy()


@pytest.mark.parametrize("arch", NETS.values(), ids=NETS.keys())
def test_it_is_what_the_gradient_gives(arch) -> None:
    network = plan(arch)
    weights = random_weights(network)
    x, classes = images(network, 13, 10, count=19), [n % 5 for n in range(19)]
    model = backend.build(network, weights=weights)
    wanted = by_gradient(model, x, classes)
    assert wanted.max() > 1e-3
    np.testing.assert_allclose(attention(network, weights, x, classes), wanted, rtol=1e-4, atol=1e-6 * wanted.max())


def test_what_is_pooled_is_the_last_thing_before_the_mean() -> None:
    assert pooled(plan(SMALL)) == "layer2"
    assert pooled(plan(replace(SMALL, order="preact"))) == "norm_relu"


def test_the_sum_over_the_places_is_the_score() -> None:
    stream = np.random.default_rng(3)
    maps, weight = stream.random((4, 6, 3, 5), np.float32), stream.random((7, 6), np.float32)
    classes = [6, 0, 3, 3]
    found = grad_cam(maps, weight, classes)
    scores = maps.mean((2, 3)) @ weight.T
    np.testing.assert_allclose(found.sum((1, 2)), scores[range(4), classes], rtol=1e-5)
    assert grad_cam(maps, -weight, classes).max() == 0


def test_it_finds_the_only_place_that_counts() -> None:
    """Without biases nothing comes of nothing: a class's score depends on the one lit pixel and what sees it."""
    network = plan(replace(SMALL, depths=(1,), inner_widths=(4,), out_widths=(4,), strides=(1,), shortcut="pad"))
    weights = initialise(network, 1)
    weights["fc.weight"] = np.ones_like(weights["fc.weight"])
    x = np.zeros((2, 3, 21, 17), np.float32)
    x[0, :, 4, 12] = x[1, :, 15, 3] = 1
    found = attention(network, weights, x, [0, 1])
    reach = 3  # three convolutions of 3 x 3
    for heat, (row, column) in zip(found, ((4, 12), (15, 3)), strict=True):
        near = np.zeros_like(heat, bool)
        near[row - reach : row + reach + 1, column - reach : column + reach + 1] = True
        assert heat[near].max() > 0
        assert heat[~near].max() == 0
        top = np.unravel_index(heat.argmax(), heat.shape)
        assert max(abs(top[0] - row), abs(top[1] - column)) <= 1


def test_no_picture_gives_no_map() -> None:
    network = plan(SMALL)
    assert len(attention(network, initialise(network), np.zeros((0, 3, 8, 8), np.float32), [])) == 0
