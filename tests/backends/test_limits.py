"""What the backends other than PyTorch's refuse, each in one sentence that names the field and the remedy."""

from typing import Any

import pytest

from residual.backends.limits import check_recipe
from residual.recipe import Recipe
from residual.training.recipes import RECIPES

REFUSED: list[dict[str, Any]] = [
    {"time": 60.0}, {"optimizer": "adamw"}, {"optimizer": "muon"},
    {"mixup": 0.2}, {"cutmix": 1.0}, {"ema": 0.99}, {"accumulate": 2}, {"compile": True},
    {"precision": "bfloat16"}, {"warmup_rate": 0.01},
]  # fmt: skip


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_what_only_pytorch_can_do_is_refused(changes: dict[str, Any]) -> None:
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=rf"^The backend 'jax' cannot train with {name}={value!r}: set \w+=.*, or use backend='torch'\.$"):
        check_recipe(Recipe(**changes), "jax")


def test_all_else_is_trained() -> None:
    pictures: dict[str, Any] = dict(flip="random", crop_padding=4, erasing=0.2, lighting=0.1, crop_scale=(0.2, 1.0), centering="pixel")
    for recipe in (Recipe(), Recipe(precision="float32", patience=3, keep="best", channels_last=False), Recipe(**pictures)):
        check_recipe(recipe, "jax")
    for name, entry in RECIPES.items():
        if name not in ("speed", "strong"):
            check_recipe(entry.recipe, "tensorflow")


@pytest.mark.parametrize(("name", "field"), [("speed", "time"), ("strong", "compile|ema")])
def test_what_two_recipes_ask_is_refused_by_name(name: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"cannot train with ({field})="):
        check_recipe(RECIPES[name].recipe, "tensorflow")
