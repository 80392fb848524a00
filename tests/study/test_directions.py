"""Directions have the norms of the filters, leave batch norm alone, and principal components find a path whose plane is known."""

import numpy as np
import pytest

from residual.plan import plan
from residual.study.directions import filter_normalised, length, principal
from residual.variants import VARIANTS
from residual.weights import Weights
from tests.nets import SMALL, random_weights, scaled_down

NETWORK = plan(SMALL)


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([value.astype(np.float64).ravel() for value in weights.values()])


def walk(*steps: tuple[float, float], seed: int = 3) -> tuple[list[Weights], tuple[Weights, Weights]]:
    """Weights at center + a * x + b * y, and the orthonormal x and y, which lie in the convolutions and the linear layer."""
    center, stream = random_weights(NETWORK, seed), np.random.default_rng(seed)
    names = [name for name, value in center.items() if value.ndim > 1]
    drawn = [{name: stream.standard_normal(center[name].shape) for name in names} for _ in range(2)]
    columns = np.linalg.qr(np.stack([flat(d) for d in drawn], 1))[0].T
    ends = np.cumsum([center[name].size for name in names])[:-1]
    axes = [dict(zip(names, np.split(column, ends), strict=True)) for column in columns]
    path = []
    for a, b in steps:
        moved = dict(center)
        for name in names:
            moved[name] = (center[name] + (a * axes[0][name] + b * axes[1][name]).reshape(center[name].shape)).astype(np.float32)
        path.append(moved)
    found = [{name: axis[name].reshape(center[name].shape).astype(np.float32) for name in names} for axis in axes]
    return path, (found[0], found[1])


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_plain20", "resnext50_32x4d", "se_resnet50", "resnet18_d2l", "preact_resnet18"])
def test_each_filter_has_the_norm_of_the_networks_own(name: str) -> None:
    weights = random_weights(plan(scaled_down(VARIANTS[name])))
    found = filter_normalised(weights, 5, "x")
    assert found.keys() == weights.keys()
    for tensor, value in found.items():
        assert value.shape == weights[tensor].shape
        if value.ndim == 1:
            assert not value.any(), tensor
        else:
            for row, own in zip(value, weights[tensor], strict=True):
                assert np.linalg.norm(row.astype(np.float64)) == pytest.approx(np.linalg.norm(own.astype(np.float64)), rel=1e-6)


def test_directions_differ_by_seed_and_axis_and_are_nearly_orthogonal() -> None:
    weights = random_weights(plan(VARIANTS["cifar_resnet20"]))
    found = [flat(filter_normalised(weights, seed, axis)) for seed, axis in ((0, "x"), (0, "y"), (1, "x"))]
    for i in range(3):
        for j in range(i):
            assert abs(found[i] @ found[j]) < 0.02 * np.linalg.norm(found[i]) * np.linalg.norm(found[j])
    assert np.array_equal(flat(filter_normalised(weights, 0, "x")), found[0])


def test_tensors_of_one_shape_move_apart() -> None:
    weights = {name: np.ones((64, 64, 3, 3), np.float32) for name in ("a.weight", "b.weight")}
    a, b = (value.ravel() for value in filter_normalised(weights, 0, "x").values())
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


def test_a_draw_is_gaussian() -> None:
    """With filters of norms that all but the draw's length hide: mean 0, kurtosis 3."""
    weights = {"conv.weight": np.ones((64, 64, 3, 3), np.float32)}
    values = filter_normalised(weights, 0, "x")["conv.weight"].ravel()
    assert abs(values.mean()) < 0.02
    assert (values**4).mean() / (values**2).mean() ** 2 == pytest.approx(3, abs=0.1)


def test_a_plain_network_moves_as_its_twin_does() -> None:
    with_shortcuts, without = (random_weights(plan(VARIANTS[name])) for name in ("cifar_resnet20", "cifar_plain20"))
    a, b = filter_normalised(with_shortcuts, 0, "y"), filter_normalised(without, 0, "y")
    assert all(np.array_equal(a[name], b[name]) for name in a)


def test_a_filter_of_zeros_stays() -> None:
    weights = random_weights(NETWORK)
    weights["conv1.weight"][2] = 0
    found = filter_normalised(weights, 0, "x")["conv1.weight"]
    assert not found[2].any()
    assert found[1].any()


def test_a_straight_path_is_explained_by_one_direction() -> None:
    path, (x, _) = walk((-3.0, 0.0), (-2.0, 0.0), (-0.5, 0.0), (0.0, 0.0))
    found = principal(path, 1)
    assert found.explained == pytest.approx((1.0,), abs=1e-6)
    assert found.within == pytest.approx(1.0, abs=1e-6)
    assert abs(found.coordinates[:, 0]) == pytest.approx([3.0, 2.0, 0.5, 0.0], abs=1e-5)
    assert abs(flat({name: found.directions[0][name] for name in x}) @ flat(x)) == pytest.approx(1.0, abs=1e-6)
    assert length(found.directions[0]) == pytest.approx(1.0, abs=1e-6)


def test_a_path_in_a_plane_is_found_with_its_coordinates() -> None:
    """The components of an L-shaped path, against NumPy's singular values of the centred coordinates."""
    steps = np.array([(-4.0, 2.0), (-3.0, 0.5), (-2.0, 0.0), (-1.0, -0.5), (0.0, 0.0)])
    path, (x, y) = walk(*map(tuple, steps))
    found = principal(path)
    centred = steps - steps.mean(0)
    _, values, rows = np.linalg.svd(centred)
    assert found.explained == pytest.approx(tuple(values**2 / (values**2).sum()), abs=1e-5)
    assert np.abs(found.coordinates) == pytest.approx(np.abs(steps @ rows.T), abs=1e-5)
    assert found.coordinates.max(0) == pytest.approx(np.abs(found.coordinates).max(0)), "each component points to its largest coordinate"
    axes = np.stack([flat({name: d[name] for name in x}) for d in found.directions])
    assert axes @ axes.T == pytest.approx(np.eye(2), abs=1e-6)
    assert np.abs(axes @ np.stack([flat(x), flat(y)], 1)) == pytest.approx(np.abs(rows), abs=1e-5)
    assert found.within == pytest.approx(1.0, abs=1e-6)


def test_what_leaves_the_plane_is_told() -> None:
    """Three orthogonal steps of one length: the plane holds a part only, counted from the last weights as well as from the mean."""
    center = {"conv.weight": np.zeros((1, 3, 1, 1), np.float32)}
    path = [{"conv.weight": np.array(step, np.float32).reshape(1, 3, 1, 1)} for step in ((3, 0, 0), (0, 2, 0), (0, 0, 1))]
    found = principal([*path, center])
    rows = np.array([(3, 0, 0), (0, 2, 0), (0, 0, 1), (0, 0, 0)], float)
    centred = rows - rows.mean(0)
    _, values, axes = np.linalg.svd(centred)
    assert found.explained == pytest.approx(tuple((values**2 / (values**2).sum())[:2]), rel=1e-6)
    assert found.within == pytest.approx(float(((rows @ axes[:2].T) ** 2).sum() / (rows**2).sum()), rel=1e-6)
    assert found.within < 0.999


def test_batch_norm_has_no_part_in_the_plane() -> None:
    path, _ = walk((-3.0, 1.0), (-2.0, 0.0), (-0.5, 0.5), (0.0, 0.0))
    noisy = [{k: v + 100 * n if v.ndim == 1 else v for k, v in weights.items()} for n, weights in enumerate(path)]
    found = principal(noisy)
    assert found.coordinates == pytest.approx(principal(path).coordinates)
    assert not any(value.any() for direction in found.directions for value in direction.values() if value.ndim == 1)


def test_mistakes_are_told() -> None:
    path, _ = walk((-3.0, 0.0), (-2.0, 0.0), (-0.5, 0.0), (0.0, 0.0))
    with pytest.raises(ValueError, match="too straight"):
        principal(path)
    with pytest.raises(ValueError, match="at least 3"):
        principal(path[:2])
    with pytest.raises(ValueError, match="different tensors"):
        principal([*path[:3], {"conv1.weight": path[0]["conv1.weight"]}])
