"""A training for a study takes the very steps of a run's training; the seed changes neither the pictures nor what is held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import residual
from residual.recipe import Recipe
from residual.training import curves
from residual.training.recipes import recipe
from residual.variants import architecture

STREAM = np.random.default_rng(0)
ARRAYS = (STREAM.integers(0, 256, (120, 8, 8, 3), np.uint8), np.arange(120) % 10)
RECIPE = recipe("paper-cifar", epochs=2, batch_size=16, channels_last=False)


@pytest.mark.parametrize(("seed", "validation"), [(0, 0.1), (3, 0.0)])  # a run cuts its validation split by its seed, a study by 0
def test_the_steps_are_a_run_s(seed: int, validation: float, tmp_path: Path) -> None:
    ground = curves.ground(ARRAYS, replace(RECIPE, validation=validation))
    ends, weights = curves.train(ground, architecture("cifar_resnet8"), seed)
    fields = {"epochs": 2, "batch_size": 16, "channels_last": False, "validation": validation, "seed": seed}
    run = residual.train(ARRAYS, "cifar_resnet8", "paper-cifar", out=tmp_path / "r", **fields)
    told = list(run.events())
    assert [end.losses for end in ends] == [end.losses for end in told]
    assert [end.validation_accuracy for end in ends] == [end.validation_accuracy for end in told]
    for name, value in run.saved().weights.items():
        np.testing.assert_array_equal(weights[name], value)


def test_the_seed_is_that_of_the_training_alone() -> None:
    ground, arch = curves.ground(ARRAYS, RECIPE), architecture("cifar_resnet8")
    first, again, other = (curves.train(ground, arch, seed) for seed in (3, 3, 4))
    assert [end.losses for end in first[0]] == [end.losses for end in again[0]]
    assert [end.losses for end in first[0]] != [end.losses for end in other[0]]
    assert ground.told["trained_on"] + ground.told["held_out"] == 96
    assert (first[1]["conv1.weight"] == again[1]["conv1.weight"]).all()


def test_a_subset_is_drawn_by_its_seed() -> None:
    small = Recipe(batch_size=16, validation=0.0)
    found, again, other = (curves.ground(ARRAYS, small, count=40, seed=seed) for seed in (0, 0, 1))
    assert (found.told["count"], found.told["of"], found.told["held_out"], found.told["size"]) == (40, 96, 0, [8, 8])
    assert found.told["hash"] == again.told["hash"] != other.told["hash"]
    images, labels = found.sample()
    assert images.shape == (40, 3, 8, 8)
    np.testing.assert_allclose(images.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(images.std((0, 2, 3)), 1, atol=1e-3)
    pixels = {picture.tobytes() for picture in ARRAYS[0]}
    mean, std = (np.array(values) for values in (found.prepared.preprocessing.mean, found.prepared.preprocessing.std))
    back = np.rint((images.transpose(0, 2, 3, 1) * std + mean) * 255).astype(np.uint8)
    assert all(picture.tobytes() in pixels for picture in back)
    by_picture = {picture.tobytes(): label for picture, label in zip(*ARRAYS, strict=True)}
    assert [by_picture[picture.tobytes()] for picture in back] == labels.tolist()


def test_sizes_and_mistakes() -> None:
    assert curves.ground(ARRAYS, Recipe(batch_size=16, image_size=4)).told["size"] == [4, 4]
    with pytest.raises(ValueError, match="count is 20, but must be 0"):
        curves.ground(ARRAYS, Recipe(batch_size=16), count=20)
    tiny = curves.ground(ARRAYS, Recipe(batch_size=16, image_size=1))
    with pytest.raises(ValueError, match="Use larger images"):
        curves.train(tiny, replace(architecture("resnet18"), stem="patch"), 0)
