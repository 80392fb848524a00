"""Schedules have the values computed by hand; wrong recipes are refused in one sentence."""

from typing import Any

import pytest

from residual.recipe import Recipe, adjusted, learning_rate

TRIANGLE = Recipe(learning_rate=0.4, schedule="triangle", warmup=0.2, final_share=0.0)
COSINE = Recipe(learning_rate=0.4, schedule="cosine", warmup=0.2, final_share=0.1)
STEPS = Recipe(learning_rate=0.1, schedule="steps", warmup=0.0, milestones=(0.5, 0.75), step_factor=0.1)

SCHEDULES: list[tuple[Recipe, float, float]] = [
    (TRIANGLE, 0.0, 0.0),
    (TRIANGLE, 0.1, 0.2),
    (TRIANGLE, 0.2, 0.4),
    (TRIANGLE, 0.6, 0.2),
    (TRIANGLE, 1.0, 0.0),
    (TRIANGLE, -3.0, 0.0),
    (TRIANGLE, 7.0, 0.0),
    (adjusted(TRIANGLE, {"final_share": 0.5}), 0.6, 0.3),
    (adjusted(TRIANGLE, {"final_share": 0.5}), 1.0, 0.2),
    (adjusted(TRIANGLE, {"warmup": 0}), 0.0, 0.4),
    (COSINE, 0.1, 0.2),
    (COSINE, 0.2, 0.4),
    (COSINE, 0.6, 0.4 * (0.1 + 0.9 * 0.5)),
    (COSINE, 0.2 + 0.8 / 3, 0.4 * (0.1 + 0.9 * 0.75)),
    (COSINE, 1.0, 0.04),
    (STEPS, 0.0, 0.1),
    (STEPS, 0.49, 0.1),
    (STEPS, 0.5, 0.01),
    (STEPS, 0.75, 0.001),
    (STEPS, 1.0, 0.001),
    (adjusted(STEPS, {"schedule": "constant"}), 0.9, 0.1),
    (adjusted(STEPS, {"schedule": "constant", "warmup": 0.5}), 0.25, 0.05),
]


@pytest.mark.parametrize(("recipe", "progress", "rate"), SCHEDULES)
def test_learning_rate_by_hand(recipe: Recipe, progress: float, rate: float) -> None:
    assert learning_rate(progress, recipe) == pytest.approx(rate, abs=1e-12)


def test_the_paper_s_cifar_schedule() -> None:
    """He et al. 2015, section 4.2: 0.1, divided by 10 at 32k and 48k of 64k iterations."""
    rates = [learning_rate(step / 64_000, STEPS) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "epochs is 0, but must lie between 1"),
    ({"epochs": 2.5}, "epochs is 2.5, but must be a whole number"),
    ({"epochs": True}, "epochs is True"),
    ({"epochs": "ten"}, "epochs is 'ten'"),
    ({"time": -1}, "time is -1"),
    ({"time": float("nan")}, "time is nan"),
    ({"time": float("inf")}, "time is inf"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"learning_rate": 0}, "learning_rate is 0"),
    ({"learning_rate": -0.1}, "learning_rate is -0.1"),
    ({"learning_rate": "0.1"}, "learning_rate is '0.1', but must be a number"),
    ({"momentum": 1.0}, "momentum is 1.0"),
    ({"optimizer": "SGD"}, "Did you mean 'sgd'"),
    ({"optimizer": "lion"}, "one of 'sgd', 'adamw', 'muon'"),
    ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"milestones": (0.7, 0.5)}, "milestones is .* must rise"),
    ({"milestones": (0.5, 1.0)}, "shares of the run"),
    ({"milestones": 0.5}, "a tuple of numbers"),
    ({"crop_scale": (0.5,)}, "two numbers"),
    ({"crop_scale": (0.5, 0.1)}, "the smaller one first"),
    ({"crop_scale": (0.5, 2.0)}, "cannot be larger than its picture"),
    ({"accumulate": 256}, "more parts than the 128"),
    ({"nesterov": 1}, "nesterov is 1, but must be true or false"),
    ({"model": 18}, "model is 18, but must be a name"),
    ({"validation": 1.0}, "validation is 1.0"),
    ({"seed": -1}, "seed is -1"),
    ({"lr": 0.1}, "no field 'lr'"),
    ({"weight_decy": 0.1}, "Did you mean 'weight_decay'"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[str(changes) for changes, _ in WRONG])
def test_wrong_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        adjusted(Recipe(), changes)
    assert "\n" not in str(caught.value)


def test_adjusted_takes_lists_as_json_gives_them() -> None:
    found = adjusted(Recipe(), {"milestones": [0.25, 0.5], "epochs": 3})
    assert (found.milestones, found.epochs) == ((0.25, 0.5), 3)
    assert adjusted(found, {}) == found
