"""The same run in PyTorch and MXNet: 50 losses of two nets, within what PyTorch is apart from itself."""

import numpy as np
import pytest
from benchmarks.agreement import GENTLE, distance, recorded, train


@pytest.mark.parametrize("run", GENTLE)
def test_the_first_fifty_losses(run: str) -> None:
    torch = train(run, "torch")
    allowed, far = recorded(run), distance(train(run, "mxnet"), torch)
    assert (far <= allowed).all(), f"step {np.argmax(far > allowed) + 1}: {far.max():.1e}"
