"""When a training is compiled, and that it is said."""

from dataclasses import replace
from typing import Any

import pytest

from residual.architecture import Architecture
from residual.training import choose
from residual.training.machine import Trial, pays
from residual.training.recipes import RECIPES
from residual.variants import architecture
from tests.training.test_recipes import DIGITS, chosen


@pytest.mark.parametrize(
    ("seconds", "compiled", "cost", "wanted"),
    [(1000, 1.5, 60, True), (1000, 1.15, 60, False), (1000, 0.9, 0, False), (100, 1.5, 60, False), (7200, 1.15, 60, True)],
)
def test_compiling_pays_where_the_whole_ends_a_tenth_sooner(seconds: float, compiled: float, cost: float, wanted: bool) -> None:
    assert pays(seconds, rate=1.0, compiled=compiled, cost=cost) is wanted


# PyTorch's compiler imports a module of its own that uses what PyTorch has deprecated
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.slow
def test_compiling_is_tried_in_long_trainings_only() -> None:
    tiny = replace(DIGITS, count=100)
    told = " ".join(chosen(tiny, {"model": "cifar_resnet8", "time": 700.0}, compiling=True).reasons)
    assert "Compilation: " in told
    assert "times as fast" in told
    assert "Compilation" not in " ".join(chosen(tiny, {"model": "cifar_resnet8", "time": 500.0}, compiling=True).reasons)
    assert "Compilation" not in " ".join(chosen(tiny, {"model": "cifar_resnet8", "time": 700.0}).reasons)


def test_trials_take_the_parts_that_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the compiler: no more pictures than training holds at a time."""
    seen, rate = list[int](), choose.training_rate

    def noted(arch: Architecture, size: tuple[int, int], trial: Trial, **way: Any) -> float:
        seen.append(trial.batch)
        return rate(arch, size, replace(trial, seconds=0.01), **{**way, "compiled": False})

    monkeypatch.setattr(choose, "training_rate", noted)
    recipe = replace(RECIPES["default"].recipe, batch_size=30, accumulate=4)
    choose._pays_to_compile(recipe, architecture("cifar_resnet8"), (8, 8), 60.0, False, [])
    assert seen == [8, 8]


def test_compiling_that_was_asked_for_is_told() -> None:
    for found in (chosen(DIGITS, {"compile": True}), chosen(DIGITS, name="strong", compiling=True)):
        assert "Compilation: used, as asked for; the first step waits for it, often a minute." in found.reasons
    assert not any(reason.startswith("Compilation") for reason in chosen(DIGITS, name="strong").reasons)
