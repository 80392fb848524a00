"""The same run in PyTorch and MXNet: the first losses of two nets, within what PyTorch is apart from itself."""

import numpy as np
import pytest
from benchmarks.agreement import GENTLE, distance, recorded, train

SMALL, LARGE = GENTLE


# All fifty of the large net take over a minute: by hand.
@pytest.mark.parametrize(("run", "steps"), [(SMALL, 50), (LARGE, 10), pytest.param(LARGE, 50, marks=pytest.mark.slow)])
def test_the_first_losses(run: str, steps: int) -> None:
    torch = train(run, "torch", steps=steps)
    allowed, far = recorded(run)[:steps], distance(train(run, "mxnet", steps=steps), torch)
    assert far.shape == (steps,)
    assert (far <= allowed).all(), f"step {np.argmax(far > allowed) + 1}: {far.max():.1e}"
