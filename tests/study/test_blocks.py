"""Known counts of the papers' blocks, and how far they see, held against what a gradient reaches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from residual.backends import torch as backend
from residual.layers import MaxPool, Network
from residual.study.blocks import Design, candidates, claims, design, one_by_one, removed_paths, study, two_for_one
from residual.study.inception import INCEPTION_3A, chain, conv, paths
from residual.study.store import load
from residual.weights import initialise

FOUND = {design.label: (design, networks) for design, networks in candidates(56)}


@pytest.mark.parametrize(
    ("label", "parameters", "weights", "macs", "field", "output"),
    [
        ("basic 64", 73_984, 73_728, 73_728 * 56**2, 5, (64, 56, 56)),
        ("basic 64 to 128", 230_144, 229_376, 229_376 * 28**2, 7, (128, 28, 28)),
        ("bottleneck 256", 70_400, 69_632, 69_632 * 56**2, 3, (256, 56, 56)),
        ("bottleneck 256 to 512", 379_392, 376_832, (32_768 * 4 + 376_832 - 32_768) * 28**2, 3, (512, 28, 28)),
        ("bottleneck 64 to 256", 75_008, 73_728, 73_728 * 56**2, 3, (256, 56, 56)),
        ("pre-activation 64", 73_984, 73_728, 73_728 * 56**2, 5, (64, 56, 56)),
        ("inception 3a", 163_696, 163_328, 163_328 * 28**2, 5, (256, 28, 28)),
    ],
)
def test_known_counts(label: str, parameters: int, weights: int, macs: int, field: int, output: tuple[int, ...]) -> None:
    found = FOUND[label][0]
    assert (found.parameters, found.conv_weights, found.macs) == (parameters, weights, macs)
    assert (found.receptive_field, found.output) == (field, output)


def test_inception_is_the_paper_s() -> None:
    """Szegedy et al. 2015, table 1: inception (3a) has 159 K (159 * 1024) parameters, 128 M operations and puts out 28 x 28 x 256."""
    found = FOUND["inception 3a"][0]
    assert round(found.conv_weights / 1024) in (159, 160)
    assert round(found.macs / 1e6) == 128


def reach(network: Network, shape: tuple[int, int, int]) -> int:
    """The side of the square of input values that the middle output depends on, by its gradient."""
    model = backend.build(network).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # a batch's statistics depend on all of its values
    x = torch.randn(1, *shape, requires_grad=True)
    y = model(x)
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].square().sum().backward()
    assert x.grad is not None
    rows = x.grad[0].abs().sum((0, 2)).nonzero().flatten()
    return int(rows.max() - rows.min() + 1)


@pytest.mark.parametrize("label", FOUND)
def test_blocks_see_as_far_as_gradients_reach(label: str) -> None:
    found, networks = FOUND[label]
    seen = [reach(network, (found.input[0], 16, 16)) for network in networks if not _pools(network)]
    assert max(seen) == found.receptive_field


def _pools(network: Network) -> bool:
    return any(isinstance(layer, MaxPool) for layer in network.stem)  # its gradient reaches one value only


def test_memory_and_activations() -> None:
    two = design([chain([conv("a", 3, 8, 3), conv("b", 8, 4, 1)], 3)], (3, 5, 5), label="", family="convolutions", case="", told="")
    assert (two.activations, two.memory) == (12 * 25, 4 * 12 * 25)
    basic = FOUND["basic 64"][0]
    assert basic.activations == 2 * 64 * 56**2
    assert basic.memory == 4 * 4 * 64 * 56**2  # two convolutions and two norms; ReLU works in place


def test_inception_with_paths_removed() -> None:
    rows = {row.case: row for row in removed_paths(INCEPTION_3A, 28)}
    whole, bare = rows["all four paths"], rows["without 1x1-5x5, pool-1x1"]
    assert (whole.output[0], bare.output[0]) == (256, 192)
    assert list(rows) == [
        "all four paths", "without 1x1-5x5", "without pool-1x1", "without 1x1-5x5, pool-1x1", "without 1x1, 1x1-5x5, pool-1x1",
    ]  # fmt: skip
    assert whole.parameters - rows["without pool-1x1"].parameters == 192 * 32 + 32
    assert whole.parameters - rows["without 1x1-5x5"].parameters == 192 * 16 + 16 + 16 * 32 * 25 + 32
    assert rows["without 1x1-5x5"].receptive_field == 3
    assert "residual block" in bare.told
    assert list(paths(INCEPTION_3A)) == ["1x1", "1x1-3x3", "1x1-5x5", "pool-1x1"]


def test_one_path_alone_is_the_chain_it_says() -> None:
    network = chain(paths(INCEPTION_3A)["1x1-3x3"], 192)
    model, x = backend.build(network), np.random.default_rng(0).standard_normal((1, 192, 6, 6), np.float32)
    weights = {name: torch.from_numpy(value) for name, value in initialise(network).items()}
    y = torch.relu(torch.conv2d(torch.from_numpy(x), weights["three_reduce.weight"], weights["three_reduce.bias"]))
    y = torch.relu(torch.conv2d(y, weights["three.weight"], weights["three.bias"], padding=1))
    np.testing.assert_allclose(backend.forward(model, x)["logits"], y.numpy(), atol=1e-4)


def test_two_for_one_and_one_by_one() -> None:
    two, one = two_for_one(56)
    assert (two.receptive_field, one.receptive_field) == (5, 5)
    assert (two.conv_weights, one.conv_weights) == (18 * 64**2, 25 * 64**2)
    bottleneck, wide, narrow = one_by_one(56)
    assert (bottleneck.conv_weights, wide.conv_weights, narrow.conv_weights) == (69_632, 1_179_648, 73_728)
    assert [claim.verdict for claim in claims((two, one), (bottleneck, wide, narrow))] == ["agrees"] * 3


def test_verdicts_follow_the_numbers() -> None:
    two, one = two_for_one(8)
    bottleneck, wide, narrow = one_by_one(8)
    assert [claim.verdict for claim in claims((one, two), (wide, bottleneck, narrow))] == ["differs"] * 3


def test_the_study_is_kept_and_timed(tmp_path: Path) -> None:
    finding = study(batch=2, rounds=2, side=8, out=tmp_path)
    again = load(tmp_path)
    assert again.result == finding.result
    assert study(batch=2, rounds=2, side=8, out=tmp_path).result == finding.result  # times are kept, not taken again
    rows: tuple[Design, ...] = finding.result.blocks
    for row in rows:
        assert row.forward is not None
        assert row.both is not None
        assert 0 < row.forward.low <= row.forward.median <= row.forward.high
        assert (row.forward.count, row.both.count) == (2, 2)
    assert all(row.forward is None for row in study(batch=0).result.blocks)
    with pytest.raises(ValueError, match="side is 1, batch 2 and rounds 9"):
        study(side=1, batch=2)
