"""Surfaces against cases whose answer is known: paraboloids, the public way to evaluate a network, and a study that was stopped."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import residual
from residual.backends import torch as backend
from residual.backends.torch_moving import MovingNet
from residual.models import save
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.study.bench import Ask, open_bench
from residual.study.landscape import Options, line, measure, random_plane, standard_error, study, surface
from residual.study.landscape_path import snapshots
from residual.study.landscape_shape import THRESHOLDS, shape_of
from residual.study.store import Parts, load, open_parts
from residual.study.subjects import Subject
from residual.variants import VARIANTS
from residual.weights import Weights
from tests.nets import SMALL, random_weights

CIFAR = replace(VARIANTS["cifar_resnet20"], depths=(1, 1, 1), num_classes=4)
CLEAN = Preprocessing(size=(8, 9), channels=3, mean=(0.5, 0.4, 0.5), std=(0.2, 0.3, 0.2))
NOWHERE = Parts(folder=None, spent=[])


def pictures(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(7)
    return stream.integers(0, 256, (count, 8, 9, 3), np.uint8), np.arange(count) % 4


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., str]:
    """Writes a model file with random weights and returns its name."""

    def write(name: str, seed: int = 0, scale: float = 1.0, **changes: Any) -> str:
        network = plan(replace(CIFAR, **changes))
        model = backend.build(network)
        weights = {k: (scale * v if v.ndim > 1 else v).astype(np.float32) for k, v in random_weights(network, seed).items()}
        backend.set_weights(model, weights)
        save(model, tmp_path / f"{name}.safetensors", preprocessing=CLEAN)
        return str(tmp_path / f"{name}.safetensors")

    return write


def ask(*models: str, **changes: Any) -> Ask:
    return Ask(**{"models": models, "data": pictures(), "split": "train", "count": 0, **changes})


# Known answers


def test_a_quadratic_gives_the_exact_paraboloid() -> None:
    """Of different curvature along x and y and with a mixed term, so that rows and columns cannot be exchanged."""
    center = {"w": np.array([[1.0, -2.0]], np.float32), "b": np.array([0.5], np.float32)}
    x = {"w": np.array([[1.0, 0.0]], np.float32), "b": np.array([0.0], np.float32)}
    y = {"w": np.array([[0.0, 0.5]], np.float32), "b": np.array([2.0], np.float32)}

    def loss(weights: Weights) -> float:
        (first, second), (third,) = (weights["w"][0] - center["w"][0]).tolist(), (weights["b"] - center["b"]).tolist()
        return 3 * first**2 + second**2 + 2 * third**2 + first * third + 7

    steps = np.linspace(-2, 2, 9)
    a, b = np.meshgrid(steps, steps)
    wanted = 3 * a**2 + (0.5 * b) ** 2 + 2 * (2 * b) ** 2 + a * (2 * b) + 7
    found = surface(loss, center, x, y, 2.0, 9)
    assert np.array_equal(found, wanted)
    assert np.array_equal(line(loss, center, x, 2.0, 9), wanted[4])
    shape = shape_of(found, steps, steps)
    assert shape.lowest == 7
    assert shape.highest == wanted.max()
    assert shape.curvature == pytest.approx((6, 16.5))
    assert shape.nonconvex == 0
    assert shape.within == pytest.approx([(wanted <= 7 + t).mean() for t in THRESHOLDS])
    assert [rise.distance for rise in shape.rises] == [0.5, 1.0, 2.0]
    circle = [
        wanted[row, column] - 7 for row in range(9) for column in range(9) if abs(np.hypot(a[row, column], b[row, column]) - 1) <= 0.25
    ]
    assert shape.rises[1].mean == pytest.approx(np.mean(circle))
    assert (shape.rises[1].lowest, shape.rises[1].highest) == (min(circle), max(circle))
    assert shape.overflowed == 0


def test_the_standard_error_is_that_of_drawing_without_replacement() -> None:
    """Against the spread of the means of all 10 subsets of 3 of 5 numbers."""
    from itertools import combinations

    values = np.array([1.0, 4.0, 2.0, 8.0, 3.0])
    means = [np.mean(part) for part in combinations(values, 3)]
    variances = [standard_error(np.array(part), 5) ** 2 for part in combinations(values, 3)]
    assert np.mean(variances) == pytest.approx(np.var(means)), "unbiased, over all subsets"
    assert standard_error(values, 5) == 0
    assert standard_error(values, 10**9) == pytest.approx(values.std(ddof=1) / 5**0.5)


# Against the public way


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    highest = logits.max(1, keepdims=True)
    return np.log(np.exp(logits - highest).sum(1)) + highest[:, 0] - logits[np.arange(len(labels)), labels]


def test_the_surface_is_that_of_the_model_rebuilt_at_every_point(trained: Callable[..., str]) -> None:
    """To 1e-5 of the loss, with the error, both bars, and rows over beta."""
    file = trained("net")
    finding = study(ask(file, count=30, seed=5), Options(points=5, radius=0.5, seeds=2))
    source, result = finding.data, finding.result
    assert (source["count"], source["of"]) == (30, result.population)
    model = residual.load(file)
    center = backend.get_weights(model)
    bench = open_bench(ask(file, count=30, seed=5), "landscape")
    x, labels = bench.pictures(bench.subjects[0]), bench.targets(bench.subjects[0])
    assert len(result.surfaces) == 2
    for found, seed in zip(result.surfaces, (5, 6), strict=True):
        plane = random_plane(center, seed, 0.5, 5)

        def scores(weights: Weights) -> np.ndarray:
            fresh = residual.create(CIFAR)
            backend.set_weights(fresh, weights)
            return backend.forward(fresh, x)["logits"]

        wanted = surface(lambda w: float(cross_entropy(scores(w), labels).mean()), center, plane.x, plane.y, 0.5, 5)
        assert found.seed == seed
        assert np.abs(found.loss / wanted - 1).max() < 1e-5
        assert np.ptp(wanted) > 0.1
        assert np.array_equal(
            found.error, surface(lambda w: float((scores(w).argmax(1) != labels).mean()), center, plane.x, plane.y, 0.5, 5)
        )
        at_center = cross_entropy(scores(center), labels)
        assert found.center_loss == pytest.approx(at_center.mean(), rel=1e-5)
        corner = cross_entropy(scores({k: center[k] - 0.5 * plane.x[k] + 0.5 * plane.y[k] for k in center}), labels)
        assert found.loss_bar[4, 0] == pytest.approx(standard_error(corner, result.population), rel=1e-4)
        assert found.rise_bar[4, 0] == pytest.approx(standard_error(corner - at_center, result.population), rel=1e-4)
        assert found.rise_bar[2, 2] == pytest.approx(0, abs=1e-7)
    assert not np.array_equal(result.surfaces[0].loss, result.surfaces[1].loss)


def test_all_pictures_have_no_error_bars(trained: Callable[..., str]) -> None:
    result = study(ask(trained("net")), Options(points=3)).result
    assert result.pictures == result.population
    assert not result.surfaces[0].loss_bar.any()


def test_batch_statistics_reach_the_network(trained: Callable[..., str]) -> None:
    asked = ask(trained("net"))
    result = study(asked, Options(points=3, statistics="batch")).result
    bench = open_bench(asked, "landscape")
    subject = bench.subjects[0]
    net = MovingNet(subject.network, subject.weights, bench.pictures(subject), bench.targets(subject), statistics="batch")
    assert result.statistics == "batch"
    assert result.surfaces[0].center_loss == pytest.approx(net.losses((), ())[0].mean())
    assert result.surfaces[0].center_loss != pytest.approx(study(asked, Options(points=3)).result.surfaces[0].center_loss, rel=1e-3)


def test_the_truth_lies_within_the_bars_of_a_subset(trained: Callable[..., str]) -> None:
    """Over 40 subsets: the deviations from the loss of all pictures, in units of the bars, are about 1 in root mean square."""
    file = trained("net")
    whole = study(ask(file, data=pictures(200)), Options(points=3, radius=0.5)).result.surfaces[0]
    found = []
    for seed in range(40):
        asked = ask(file, data=pictures(200), count=60, seed=seed)
        bench = open_bench(asked, "landscape")
        subject = bench.subjects[0]
        net = MovingNet(subject.network, subject.weights, bench.pictures(subject), bench.targets(subject))
        part = measure(net, random_plane(subject.weights, 0, 0.5, 3), bench.told["of"], subject, NOWHERE)
        found.append((part.loss - whole.loss) / part.loss_bar)
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(1, abs=0.25)


# A study that was stopped


class Counting:
    """A net of two numbers whose visits are counted."""

    def __init__(self) -> None:
        self.visits: list[Sequence[float]] = []

    def direction(self, weights: Weights) -> Weights:
        return weights

    def losses(self, steps: Sequence[float], directions: Sequence[Weights]) -> tuple[np.ndarray, np.ndarray]:
        self.visits.append(tuple(steps))
        if len(self.visits) == 9:
            raise RuntimeError("stopped")
        a, b = steps or (0.0, 0.0)
        return np.array([a * a, 3 * b * b + a]), np.array([a > 0, b > 0])


def test_finished_rows_are_kept_and_not_computed_again(tmp_path: Path) -> None:
    network = plan(SMALL)
    subject = Subject(label="net", network=network, weights=random_weights(network), trained=True)
    plane = random_plane(subject.weights, 0, 1.0, 3)
    net = Counting()
    with pytest.raises(RuntimeError, match="stopped"):
        measure(net, plane, 100, subject, open_parts(tmp_path, "landscape", {"points": 3}))
    first = [steps for steps in net.visits if steps]
    assert [b for _, b in first] == [-1, -1, -1, 0, 0, 0, 1, 1]
    net.visits = []
    found = measure(net, plane, 100, subject, open_parts(tmp_path, "landscape", {"points": 3}))
    assert [steps for steps in net.visits if steps] == [(-1, 1), (0, 1), (1, 1)]
    a, b = np.meshgrid(plane.alphas, plane.betas)
    assert np.array_equal(found.loss, (a**2 + 3 * b**2 + a) / 2)
    assert np.array_equal(found.error, ((a > 0) * 1.0 + (b > 0)) / 2)
    with pytest.raises(ValueError, match="another points"):
        open_parts(tmp_path, "landscape", {"points": 5})


def test_a_study_run_again_gives_the_same_and_other_settings_are_refused(trained: Callable[..., str], tmp_path: Path) -> None:
    asked = ask(trained("net"), trained("plain", shortcut="none"), out=tmp_path / "out")
    finding = study(asked, Options(points=3))
    again = study(asked, Options(points=3))
    for one, two in zip(finding.result.surfaces, again.result.surfaces, strict=True):
        assert np.array_equal(one.loss, two.loss)
    kept = load(tmp_path / "out").result
    assert kept.claims == finding.result.claims
    assert str(kept.claims[0]).startswith("With shortcuts the low region is wider: too few to tell.")
    assert np.array_equal(kept.surfaces[1].loss, finding.result.surfaces[1].loss)
    assert kept.surfaces[1].shape == finding.result.surfaces[1].shape
    assert json.loads((tmp_path / "out" / "result.json").read_text())["result"]["surfaces"][0]["loss"]
    for options in (Options(points=5), Options(points=3, radius=0.5), Options(points=3, statistics="batch"), Options(points=3, seeds=2)):
        with pytest.raises(ValueError, match="holds a study with another"):
            study(asked, options)


# Paths


def test_the_path_of_a_training(trained: Callable[..., str], tmp_path: Path) -> None:
    """Stops numbered up to 10: the last one is the center; the plane covers every stop."""
    files = [trained(f"step-{number}", seed=number % 4, scale=1 + number / 10) for number in (0, 2, 9, 10)]
    finding = study(ask(files[0], files[-1]), Options(points=5, seeds=0, path=str(tmp_path)))
    (found,) = finding.result.surfaces
    assert (found.label, found.plane) == ("step-10", "path")
    assert found.path.shape == (4, 2)
    assert found.path[-1] == pytest.approx((0, 0), abs=1e-5)
    assert np.ptp(found.path[:, 0]) > 0.1
    for steps, places in ((found.alphas, found.path[:, 0]), (found.betas, found.path[:, 1])):
        extent = np.ptp(places)
        assert steps[0] == pytest.approx(places.min() - 0.2 * extent)
        assert steps[-1] == pytest.approx(places.max() + 0.2 * extent)
    assert 0 < found.explained[1] < found.explained[0] < 1
    assert found.within is not None
    assert 0.5 < found.within < 1
    assert finding.settings["path"]
    assert len(snapshots(tmp_path)) == 4


def test_mistakes_with_paths(trained: Callable[..., str], tmp_path: Path) -> None:
    files = [trained(f"step-{number}", seed=number) for number in range(3)]
    with pytest.raises(ValueError, match="ends in none of the models"):
        study(ask(files[0]), Options(points=3, path=str(tmp_path)))
    with pytest.raises(ValueError, match="There is no folder"):
        snapshots(tmp_path / "none")
    trained("step-10", shortcut="none")
    with pytest.raises(ValueError, match=r"step-0\.safetensors is of another network than .*step-10"):
        snapshots(tmp_path)
    for file in files[:2]:
        Path(file).unlink()
    with pytest.raises(ValueError, match="holds 2 model files"):
        snapshots(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": 4}, "odd number"),
        ({"radius": 0.0}, "above 0"),
        ({"seeds": 0}, "at least one plane"),
        ({"statistics": "train"}, "'batch'"),
    ],
)
def test_mistakes_in_options(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options(**changes)


def test_what_is_smaller_than_in_the_paper_is_said(trained: Callable[..., str]) -> None:
    finding = study(ask(trained("net"), count=5, split="test", small=True), Options(points=25))
    assert finding.result.surfaces[0].loss.shape == (11, 11)
    assert len(finding.scaled_down) == 3
    assert finding.scaled_down[1] == "5 of the 8 pictures of the test split, with error bars."
