"""What of a recipe only the PyTorch backend can do; the others refuse it in one sentence and never train something else instead.

Pictures are not concerned: flips and crops are made before a batch reaches a backend.
"""

from residual.recipe import Recipe


def check_recipe(recipe: Recipe, backend: str) -> None:
    """Nothing, when `backend`, as users name it, can train by `recipe`. ValueError names the first field it cannot follow."""
    for name, refused, remedy in (
        ("time", recipe.time > 0, "set time=0 and give the number of epochs"),
        ("optimizer", recipe.optimizer != "sgd", "set optimizer='sgd'"),
        ("mixup", recipe.mixup > 0, "set mixup=0"),
        ("cutmix", recipe.cutmix > 0, "set cutmix=0"),
        ("data_pruning", recipe.data_pruning > 0, "set data_pruning=0"),
        ("ema", recipe.ema > 0, "set ema=0"),
        ("accumulate", recipe.accumulate > 1, "set accumulate=1 and a batch_size that fits in memory"),
        ("first_layer", recipe.first_layer == "frozen", "set first_layer='whitened'"),
        ("compile", recipe.compile, "set compile=False"),
        ("precision", recipe.precision == "bfloat16", "set precision='float32'"),
        ("warmup_rate", recipe.warmup_rate > 0, "set warmup_rate=0 and let warmup raise the rate"),
    ):
        if refused:
            value = getattr(recipe, name)
            raise ValueError(f"The backend {backend!r} cannot train with {name}={value!r}: {remedy}, or use backend='torch'.")


__all__ = ["check_recipe"]
