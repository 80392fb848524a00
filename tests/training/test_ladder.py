"""The nets that `default` sizes by: each dearer than the one before, coarse where that was found to be better."""

from dataclasses import replace
from typing import Any

import pytest

from residual.cost import cost
from residual.training.choose import _climbed, choose, largest_batch
from residual.training.ladder import Data, Rung, ladder
from residual.training.machine import Way
from residual.training.recipes import RECIPES
from residual.training.shown import augmentation

from .test_recipes import DIGITS, FASHION, SLOW, chosen


def test_the_nets_for_many_small_pictures_are_coarse_and_later_look_at_every_place() -> None:
    """And pre-activated. Each later one is dearer; a few pictures get full resolution, and those too small for patches too."""
    many, few, tiny = (
        ladder(size, replace(FASHION, count=count), True) for size, count in (((28, 28), 60_000), ((28, 28), 10_000), ((20, 20), 60_000))
    )
    nets = [rung.architecture for rung in many]
    assert [net.stem for net in nets] == ["patch"] * 3 + ["dense-patch"] * 3
    assert {rung.architecture.stem for rung in (*ladder((28, 28), replace(FASHION, channels=3), True), *few)} == {"patch"}
    assert [net.strides for net in nets] == [(2, 2)] + [(2, 2, 2)] * (len(nets) - 1)
    assert all(rung.architecture.strides == (1, 2, 2) for rung in (*few, *tiny))
    colour = replace(FASHION, channels=3)
    assert [rung.architecture.strides for rung in ladder((28, 28), colour, True)[:4]] == [(2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)]
    assert {rung.architecture.strides for rung in ladder((28, 28), colour, False)} == {(1, 2, 2)}, "a trained one loses 3 points"
    assert {rung.architecture.order for rung in many} == {"preact"}
    assert {rung.architecture.order for rung in (*few, *tiny, *ladder((28, 28), colour, False))} == {"original"}
    for rungs in (many, ladder((28, 28), colour, True), few, tiny):
        work = [cost(rung.architecture, (28, 28)).macs for rung in rungs]
        assert work == sorted(set(work))


def test_the_first_layer_has_room_for_what_whitening_finds() -> None:
    """16 components of 4x4 grey pixels and their negatives. The fastest net has fewer; where nothing is whitened, the width decides."""
    for data in (FASHION, replace(FASHION, count=10_000)):
        assert [rung.architecture.stem_width for rung in ladder((28, 28), data, True)] == [16] + [32] * (
            len(ladder((28, 28), data, True)) - 1
        )
    assert [rung.architecture.stem_width for rung in ladder((8, 8), DIGITS, False)] == [16, 16, 24]


def test_wide_nets_must_see_each_picture_more_often() -> None:
    """Of many pictures; with few, all are shown as often."""
    many, colour, few = (
        [rung.worth for rung in ladder((28, 28), replace(FASHION, **changes), True)] for changes in ({}, {"channels": 3}, {"count": 10_000})
    )
    assert many == sorted(set(many))
    assert colour == sorted(set(colour))
    assert set(few) == {30.0}


def test_without_a_time_a_large_net_gets_the_epochs_it_is_worth(monkeypatch: Any) -> None:
    """At a rate at which all of them fit."""
    monkeypatch.setattr("residual.training.machine.training_rate", lambda *_, **__: 1e6)
    found = chosen(FASHION, {"data_pruning": 0.0})
    rung = next(rung for rung in ladder((28, 28), FASHION, True) if rung.architecture == found.architecture)
    assert found.recipe.epochs == rung.worth == 24


@pytest.mark.parametrize(
    ("down", "fitting", "taken", "looked_at"),
    [
        (False, {0, 1, 2}, 2, [0, 1, 2]),
        (False, {0, 2}, 0, [0, 1]),
        (False, set(), 0, [0, 1]),
        (True, {0, 1, 2}, 2, [2]),
        (True, {0, 1}, 1, [2, 0, 1, 2]),
        (True, set(), 0, [2, 0, 1]),
    ],
)
def test_the_last_rung_that_fits_is_taken(down: bool, fitting: set[int], taken: int, looked_at: list[int]) -> None:
    rungs = ladder((8, 8), DIGITS, False)
    seen = list[int]()

    def tried(rung: Rung) -> Way:
        seen.append(rungs.index(rung))
        return Way(rate=100.0 * (1 + rungs.index(rung)), channels_last=True, half=False)

    rung, way = _climbed(rungs, tried, lambda rung, _: rungs.index(rung) in fitting, down=down)
    assert len(rungs) == 3
    assert rung is rungs[taken]
    assert way.rate == 100.0 * (1 + taken)
    assert seen == looked_at


@pytest.mark.parametrize(
    ("pictures", "batch"), [(0, 512), (76_800, 512), (76_799, 384), (15_360, 384), (15_359, 256), (10_239, 192), (1, 192)]
)
def test_muon_s_batches_are_larger(pictures: float, batch: int) -> None:
    assert largest_batch(pictures, "muon") == batch


def test_many_small_pictures_are_trained_by_muon_on_a_cpu() -> None:
    def optimizer(data: Data, freezes: bool = True, device: str = "cpu", **fixed: Any) -> tuple[str, int]:
        given = {"compile": False, "precision": "float32", "time": 60.0, **fixed}
        found = choose(RECIPES["default"].recipe, True, given, data, replace(SLOW, device=device), freezes=freezes).recipe
        assert found.momentum == (0.8 if found.optimizer == "muon" else 0.9)
        return found.optimizer, found.batch_size

    assert optimizer(FASHION) == ("muon", 512)
    assert optimizer(replace(FASHION, channels=3))[0] == "muon"
    for other in (
        optimizer(FASHION, freezes=False), optimizer(FASHION, device="cuda"), optimizer(FASHION, optimizer="sgd"),
        optimizer(replace(FASHION, count=10_000)), optimizer(FASHION, model="cifar_resnet8"), optimizer(replace(FASHION, size=(20, 20))),
    ):  # fmt: skip
        assert other[0] == "sgd"
        assert other[1] <= 128


@pytest.mark.parametrize(("optimizer", "halves"), [("muon", {True}), ("sgd", {False, True})])
def test_muon_takes_bfloat16_where_the_processor_has_it(monkeypatch: Any, optimizer: str, halves: set[bool]) -> None:
    """In a trial's batches it is too little faster to be seen in a moment; in Muon's it is a quarter and more."""
    seen = list[bool]()
    monkeypatch.setattr("residual.training.machine.training_rate", lambda *_, half, **__: seen.append(half) or 2000.0)
    given = {"compile": False, "time": 60.0, "optimizer": optimizer}
    found = choose(RECIPES["default"].recipe, True, given, FASHION, replace(SLOW, device="cpu", half=True))
    assert set(seen) == halves
    assert found.half is (optimizer == "muon")
    why = "bfloat16, by what this machine has instructions for" if optimizer == "muon" else "float32, as a trial of this net decided"
    assert f"Arithmetic: {why}." in found.reasons


def test_the_rate_follows_the_user_s_batch_and_few_epochs_have_smaller_batches() -> None:
    fixed = {"time": 20.0, "compile": False, "precision": "float32"}
    rates = [chosen(FASHION, {**fixed, "batch_size": size}).recipe.learning_rate for size in (32, 128, 512)]
    assert rates == [0.2, 0.4, 0.8]
    few = chosen(replace(FASHION, count=60), {"optimizer": "muon", "epochs": 700, "precision": "float32"}).recipe
    assert (few.batch_size, few.momentum) == (16, 0.8)
    assert chosen(FASHION, {**fixed, "momentum": 0.95}).recipe.momentum == 0.95
    assert chosen(replace(FASHION, count=20_000), {"epochs": 1, "precision": "float32", "optimizer": "muon"}).recipe.batch_size == 384


@pytest.mark.parametrize(("passes", "padding", "erasing"), [(5.9, 0, 0.0), (6.0, 1, 0.0), (11.9, 1, 0.0), (12.0, 1, 0.3)])
def test_centred_pictures_are_shifted_and_erased_once_they_are_known_by_heart(passes: float, padding: int, erasing: float) -> None:
    arch, reasons = ladder((28, 28), FASHION, frozen=True)[3].architecture, list[str]()
    found = augmentation(FASHION, (28, 28), arch, passes, {}, reasons)
    assert found == {"flip": "alternate", "crop_padding": padding, "erasing": erasing, "views": "both"}
    assert ("; a rectangle erased in 30% of them." in reasons[0]) is bool(erasing)
    colour = augmentation(replace(FASHION, channels=3), (28, 28), arch, passes, {}, [])
    assert (colour["crop_padding"], colour["erasing"]) == (3, 0.0)
    assert "; a rectangle erased in 10% of them." in _reason(passes, {"erasing": 0.1})
    assert "erased" not in _reason(passes, {"erasing": 0.0})


def _reason(passes: float, fixed: dict[str, Any]) -> str:
    reasons = list[str]()
    augmentation(FASHION, (28, 28), ladder((28, 28), FASHION, frozen=True)[3].architecture, passes, fixed, reasons)
    return reasons[0]


def test_shifts_follow_the_time_and_how_often_a_picture_is_trained_on() -> None:
    """Twelve epochs without easy pictures are just under six passes."""
    named = {"model": "cifar_resnet8"}
    shifts = [
        chosen(FASHION, {**named, **given}).recipe.crop_padding
        for given in ({"time": 1.0}, {"time": 1e5}, {}, {"epochs": 12}, {"epochs": 13})
    ]
    assert shifts == [0, 1, 0, 0, 1]


def test_what_is_said_of_augmentation_is_what_the_user_set() -> None:
    found = chosen(FASHION, {"model": "resnet18", "flip": "none", "crop_padding": 3})
    assert (found.recipe.flip, found.recipe.crop_padding, found.recipe.views) == ("none", 3, "shifts")
    assert "Augmentation: shifts as you set them, by up to 3 pixel(s); mirroring as you set it, none." in found.reasons
    assert not any(told.startswith("Views") for told in chosen(FASHION, {"model": "resnet18", "views": "one"}).reasons)


@pytest.mark.parametrize(("count", "fixed", "share"), [(60_000, {}, 0.05), (60_000, {"validation": 0.2}, 0.2), (10_000, {}, 0.1)])
def test_a_smaller_share_of_many_is_held_out(count: int, fixed: dict[str, Any], share: float) -> None:
    assert chosen(replace(FASHION, count=count), {**fixed, "time": 1.0}).recipe.validation == share
