"""The same run in PyTorch, TensorFlow and JAX: 50 losses of two nets. MXNet's part is in `test_mxnet_agreement.py`.

What frameworks may be apart is measured in PyTorch itself (`benchmarks/agreement.py`); the first steps allow a few parts in a million, so
that another convention (momentum, decay, batch norm, padding) cannot hide.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from benchmarks.agreement import GENTLE, Losses, distance, elsewhere, setting, tolerance, train

from residual.backends import torch as pytorch
from residual.plan import plan
from residual.variants import architecture


@cache
def torch_and_tolerance(run: str) -> tuple[Losses, Losses]:
    losses = train(run, "torch")
    return losses, tolerance(run, losses, perturbed=2)


@pytest.mark.parametrize("run", GENTLE)
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_first_fifty_losses(backend: str, run: str) -> None:
    torch, allowed = torch_and_tolerance(run)
    found = elsewhere(run, backend)
    assert found.shape == torch.shape == (50,)
    far = distance(found, torch)
    assert (far <= allowed).all(), f"step {np.argmax(far > allowed) + 1}: {far.max():.1e}"


@pytest.mark.parametrize("run", GENTLE)
def test_the_tolerance_is_small_where_it_can_be(run: str) -> None:
    """It grows by itself; but it begins far below what a wrong convention does to a loss, and a rate that is off by a tenth breaks it."""
    torch, allowed = torch_and_tolerance(run)
    assert allowed[0] < 1e-4
    assert allowed[-1] < 0.1
    net, chosen, batches = setting(run)
    model = pytorch.build(plan(architecture(net, in_channels=1, num_classes=10)), 0)
    (end,) = pytorch.fit(model, batches, replace(chosen, learning_rate=1.1 * chosen.learning_rate))
    assert (distance(np.array(end.losses), torch) > allowed).any()
