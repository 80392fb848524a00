"""Logits of a whole feed by the fast form: the model's own numbers, in the feed's order, whatever the size of the batches."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from residual.backends import torch as backend
from residual.data import Decoded
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.training.feed import Normaliser, Resident
from residual.training.inference import answers, batch_of, logits, scorer, scorer_of, seconds_of
from tests.nets import SMALL, random_weights

CPU = torch.device("cpu")
PREPARED = Preprocessing(size=(10, 12), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
IMAGES = np.random.default_rng(1).integers(0, 256, (23, 12, 13, 3), dtype=np.uint8)


@pytest.fixture
def model() -> backend.ResidualNet:
    network = plan(SMALL)
    return backend.build(network, weights=random_weights(network))


@pytest.fixture
def feed() -> Resident:
    return Resident(Decoded(images=IMAGES, labels=np.zeros(23, np.int64), names=[""] * 23, problems=(), kept=np.arange(23)), None, CPU)


def expected(model: backend.ResidualNet) -> torch.Tensor:
    """The middle 10 x 12 of each picture, prepared by the core and run by the plain forward pass."""
    return torch.from_numpy(backend.forward(model, PREPARED.normalise(np.ascontiguousarray(IMAGES[:, 1:11, :12])))["logits"])


@pytest.mark.parametrize("batch", [4, 23, 100])
def test_logits_are_the_models_own(model: backend.ResidualNet, feed: Resident, batch: int) -> None:
    wanted = expected(model)
    assert wanted.std(0).min() > 0.01
    model.train()
    found = logits(model, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, batch=batch)
    assert (found.dtype, found.shape) == (torch.float32, (23, 5))
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert model.training


def test_bfloat16_logits_are_near(model: backend.ResidualNet, feed: Resident) -> None:
    wanted = expected(model)
    found = logits(model, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, half=True)
    assert found.dtype == torch.float32
    assert 1e-4 < (found - wanted).abs().max() / wanted.abs().max() < 0.05


def test_each_call_takes_the_weights_of_its_time(model: backend.ResidualNet, feed: Resident) -> None:
    normalise = Normaliser(PREPARED, CPU)
    first = logits(model, feed, normalise, size=PREPARED.size)
    backend.set_weights(model, random_weights(model.plan, seed=8))
    second = logits(model, feed, normalise, size=PREPARED.size)
    assert (second - first).abs().max() > 0.1
    assert (second - expected(model)).abs().max() <= 1e-5 * second.abs().max()


def test_a_hook_hears_every_batch(model: backend.ResidualNet, feed: Resident) -> None:
    heard = list[int]()
    model.layer2.register_forward_hook(lambda _module, inputs, _output: heard.append(len(inputs[0])))
    found = logits(model, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, batch=10)
    assert heard == [10, 10, 3]
    assert (found - expected(model)).abs().max() <= 1e-5 * found.abs().max()


def test_the_scorer_does_not_alter_its_pictures(model: backend.ResidualNet) -> None:
    x = torch.randn(3, 3, 10, 12).contiguous(memory_format=torch.channels_last)
    before, scores = x.clone(), scorer(model)
    assert torch.equal(scores(x), scores(x))
    assert torch.equal(x, before)


def test_the_time_of_all_batches_is_that_of_the_middle_one_of_three(
    model: backend.ResidualNet, feed: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time does not count, and one slow moment neither: a training would end early for it."""
    seen, clock = list[int](), iter([0.0, 9.0, 9.0, 9.02, 9.02, 9.22, 9.22, 9.23])
    model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    monkeypatch.setattr("residual.training.inference.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    seconds = seconds_of(model, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, batch=5, half=False)
    assert seen == [5, 5, 5, 5]
    assert seconds == pytest.approx(0.02 * 5)


def test_a_network_that_only_answers_is_in_memory_once(model: backend.ResidualNet, feed: Resident) -> None:
    weights = backend.get_weights(model)
    given = [weakref.ref(value) for value in weights.values()]
    scores = scorer_of(model.plan, weights, CPU)
    assert not weights
    assert not [place for place in given if place() is not None]
    found = answers(scores, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, classes=5, batch=10)
    assert torch.equal(found, logits(model, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, batch=10))


def test_weights_of_any_kind_are_taken(model: backend.ResidualNet, feed: Resident) -> None:
    """Read-only, of another type, and not in the order of the dimensions."""
    kept, weights = backend.get_weights(model), backend.get_weights(model)
    weights["fc.weight"].flags.writeable = False
    weights["fc.bias"] = weights["fc.bias"].astype(np.float64)
    weights["conv1.weight"] = np.asfortranarray(weights["conv1.weight"])
    found = answers(scorer_of(model.plan, weights, CPU), feed, Normaliser(PREPARED, CPU), size=PREPARED.size, classes=5, batch=10)
    backend.set_weights(model, kept)
    assert torch.equal(found, logits(model, feed, Normaliser(PREPARED, CPU), size=PREPARED.size, batch=10))


def test_weights_that_are_not_the_networks_are_refused_and_stay(model: backend.ResidualNet) -> None:
    weights = backend.get_weights(model)
    weights["fc.bias"][0] = np.inf
    with pytest.raises(ValueError, match=r"fc\.bias holds NaN or infinity"):
        scorer_of(model.plan, weights, CPU)
    assert len(weights) == len(backend.get_weights(model))


@pytest.mark.parametrize(
    ("size", "channels", "parted", "half", "count"),
    [
        ((224, 224), 3, True, False, 16), ((224, 224), 3, True, True, 32), ((224, 224), 3, False, False, 64),
        ((28, 28), 1, True, False, 256), ((28, 28), 1, False, False, 256),
        ((4000, 4000), 3, False, False, 1), ((4000, 4000), 3, True, False, torch.get_num_threads()),
    ],
)  # fmt: skip
def test_how_many_pictures_go_to_a_model_together(size: tuple[int, int], channels: int, parted: bool, half: bool, count: int) -> None:
    prepared = Preprocessing(size=size, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    assert batch_of(prepared, parted=parted, half=half) == count
