"""The same run in PyTorch, TensorFlow and JAX: 50 losses of two nets. MXNet's part is in `test_mxnet_agreement.py`.

What frameworks may be apart was measured in PyTorch itself (`benchmarks/agreement.py`, results/agreement.json); the first steps allow a few
parts in a million, so that another convention (momentum, decay, batch norm, padding) cannot hide.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from benchmarks.agreement import GENTLE, Losses, distance, elsewhere, recorded, setting, train

from residual.backends import torch as pytorch
from residual.plan import plan
from residual.variants import architecture


@cache
def torch_losses(run: str, steps: int) -> Losses:
    return train(run, "torch", steps=steps)


SMALL, LARGE = GENTLE
WRONG = 10  # steps, within which a wrong rate must show


# The large net takes a minute in TensorFlow and two in JAX: by hand. MXNet runs its first ten steps with every change.
@pytest.mark.parametrize(
    ("backend", "run"),
    [("tensorflow", SMALL), ("jax", SMALL), *(pytest.param(name, LARGE, marks=pytest.mark.slow) for name in ("tensorflow", "jax"))],
)
def test_the_first_fifty_losses(backend: str, run: str) -> None:
    torch, allowed = torch_losses(run, 50), recorded(run)
    found = elsewhere(run, backend)
    assert found.shape == torch.shape == (50,)
    far = distance(found, torch)
    assert (far <= allowed).all(), f"step {np.argmax(far > allowed) + 1}: {far.max():.1e}"


@pytest.mark.parametrize(("run", "steps"), [(SMALL, 50), (LARGE, 10), pytest.param(LARGE, 50, marks=pytest.mark.slow)])
def test_the_tolerance_is_small_where_it_can_be(run: str, steps: int) -> None:
    """It grows by itself; but it begins far below what a wrong convention does to a loss, and a rate that is off by a tenth breaks it."""
    torch, allowed = torch_losses(run, steps), recorded(run)[:steps]
    assert allowed[0] < 1e-4
    assert allowed[-1] < 0.1
    net, chosen, batches = setting(run, steps)
    model = pytorch.build(plan(architecture(net, in_channels=1, num_classes=10)), 0)
    wrong = [epoch[:WRONG] for epoch in batches]
    (end,) = pytorch.fit(model, wrong, replace(chosen, learning_rate=1.1 * chosen.learning_rate))
    assert (distance(np.array(end.losses), torch[:WRONG]) > allowed[:WRONG]).any()
