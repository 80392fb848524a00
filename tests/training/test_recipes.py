"""The recipes' numbers against their sources, and what choosing makes of data and machine."""

import re
from dataclasses import replace
from typing import Any

import pytest

from residual.recipe import Recipe, learning_rate
from residual.training.choose import Choice, _halves, choose, largest_batch
from residual.training.ladder import Data, ladder
from residual.training.machine import Trial, machine, training_way
from residual.training.recipes import RECIPES, recipe

SLOW = replace(machine(), half=False)
FASHION = Data(size=(28, 28), channels=1, count=60_000, classes=("T-shirt", "Trouser", "Bag"))
PHOTOS = Data(size=(500, 640), channels=3, count=200, classes=("lily", "pansy"))
DIGITS = Data(size=(8, 8), channels=1, count=1400, classes=tuple("0123456789"))


def chosen(data: Data, fixed: dict[str, Any] | None = None, name: str = "default", *, compiling: bool = False) -> Choice:
    """`compiling` lets it try the compiler, which takes half a minute."""
    fixed = (fixed or {}) if compiling else {"compile": False, **(fixed or {})}
    return choose(RECIPES[name].recipe, RECIPES[name].fitted, fixed, data, SLOW)


def test_d2l_is_the_chapters_cell() -> None:
    """Dive into Deep Learning: 10 epochs, batch 256, rate 0.05, plain SGD, no augmentation, pixels in [0, 1], 96 x 96."""
    r = recipe("d2l")
    assert (r.model, r.image_size, r.epochs, r.batch_size) == ("resnet18_d2l", 96, 10, 256)
    assert (r.optimizer, r.learning_rate, r.momentum, r.weight_decay, r.label_smoothing) == ("sgd", 0.05, 0.0, 0.0, 0.0)
    assert (r.flip, r.crop_padding, r.crop_scale, r.erasing, r.mixup, r.cutmix) == ("none", 0, (1.0, 1.0), 0.0, 0.0, 0.0)
    assert (r.centering, r.validation, r.precision, r.ema) == ("none", 0.0, "float32", 0.0)
    assert {learning_rate(p / 10, r) for p in range(11)} == {0.05}
    assert chosen(FASHION, name="d2l").architecture.initialisation == "xavier"


def test_paper_cifar_is_section_4_2() -> None:
    """He et al. 2015: batch 128, rate 0.1 divided by 10 at 32k and 48k of 64k iterations, weight decay 0.0001, momentum 0.9, 45k/5k."""
    r = recipe("paper-cifar")
    iterations = r.epochs * -(-45_000 // r.batch_size)
    assert iterations == pytest.approx(64_000, rel=0.005)
    rates = [learning_rate(step / 64_000, r) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (r.weight_decay, r.momentum, r.nesterov, r.decay_norm_and_bias) == (1e-4, 0.9, False, True)
    assert (r.flip, r.crop_padding, r.crop_mode, r.centering, r.validation) == ("random", 4, "zero", "pixel", 0.1)


def test_paper_imagenet_is_section_3_4() -> None:
    """He et al. 2015: batch 256 for 600k iterations; short side in [256, 480], 224 crops."""
    r = recipe("paper-imagenet")
    assert r.epochs * 1_281_167 / r.batch_size == pytest.approx(600_000, rel=0.002)
    assert [224 / share**0.5 for share in r.crop_scale] == pytest.approx([480, 256])
    assert r.crop_ratio == (1.0, 1.0)


@pytest.mark.parametrize(("model", "rate"), [("cifar_resnet20", 0.0), ("cifar_resnet56", 0.0), ("cifar_resnet110", 0.01)])
def test_only_110_layers_and_more_warm_up(model: str, rate: float) -> None:
    data = replace(FASHION, size=(32, 32), channels=3)
    assert chosen(data, {"model": model}, name="paper-cifar").recipe.warmup_rate == rate


def test_default_mirrors_photographs_but_not_characters() -> None:
    assert chosen(replace(FASHION, channels=3), {"model": "cifar_resnet8"}).recipe.flip == "alternate"
    assert chosen(DIGITS).recipe.flip == "none"


@pytest.mark.parametrize(("model", "epochs", "flip"), [("cifar_resnet8", 9, "none"), ("resnet18", 2, "none"), ("resnet18", 9, "alternate")])
def test_default_mirrors_centred_grey_pictures_only_for_wide_nets_and_after_a_few_passes(model: str, epochs: int, flip: str) -> None:
    assert chosen(FASHION, {"model": model, "epochs": epochs}).recipe.flip == flip


def test_default_takes_random_crops_of_photographs() -> None:
    found = chosen(PHOTOS, {"model": "cifar_resnet8"})
    assert found.recipe.crop_scale == (0.35, 1.0)
    assert found.size == (128, 128)
    assert found.recipe.batch_size < 64


def test_what_the_user_set_stays() -> None:
    fixed = {"model": "cifar_resnet8", "batch_size": 48, "flip": "none", "epochs": 3, "learning_rate": 0.01, "image_size": 20}
    found = chosen(FASHION, fixed)
    assert {name: getattr(found.recipe, name) for name in fixed} == fixed
    assert found.size == (20, 20)


def test_auto_grows_with_the_time() -> None:
    quick, long = (chosen(FASHION, {"time": seconds}).architecture for seconds in (1.0, 600.0))
    assert long.out_widths[0] > quick.out_widths[0]
    assert long.num_classes == 3
    assert long.in_channels == 1


@pytest.mark.parametrize(("pictures", "batch"), [(0, 128), (7_680, 128), (7_679, 64), (1, 64)])
def test_a_short_training_has_smaller_batches(pictures: float, batch: int) -> None:
    """0: as long as it takes."""
    assert largest_batch(pictures) == batch


def test_the_batch_follows_the_time() -> None:
    short, long = (chosen(FASHION, {"time": seconds, "model": "cifar_resnet8"}) for seconds in (0.5, 600.0))
    assert short.recipe.batch_size < long.recipe.batch_size == 128
    assert short.recipe.learning_rate < long.recipe.learning_rate
    assert any(reason.startswith(f"Batch: {short.recipe.batch_size} of") for reason in short.reasons)
    assert chosen(FASHION, {"time": 0.5, "model": "cifar_resnet8", "batch_size": 96}).recipe.batch_size == 96


def test_the_shortest_times_get_a_coarse_net() -> None:
    """Of many small pictures; a few, and those too small for patches, get a net of full resolution as before."""
    assert chosen(FASHION, {"time": 0.01}).architecture.strides == (2, 2)
    assert chosen(replace(FASHION, size=(20, 20)), {"time": 0.01}).architecture.strides == (1, 2, 2)
    assert chosen(replace(FASHION, count=10_000), {"time": 0.01}).architecture.strides == (1, 2, 2)
    assert any("the fastest there is" in reason for reason in chosen(FASHION, {"time": 0.01}).reasons)


def test_a_user_s_first_layer_stays_and_nothing_else_is_said() -> None:
    found = chosen(FASHION, {"time": 0.01, "first_layer": "random"})
    assert found.recipe.first_layer == "random"
    assert not any(reason.startswith("First layer") for reason in found.reasons)
    photographs = chosen(PHOTOS, {"time": 0.01, "image_size": 32})
    assert photographs.architecture.stem == "patch"
    assert photographs.recipe.first_layer == "random", "they are decoded larger than they are shown"
    with pytest.raises(ValueError, match="first_layer='frozen' is for nets that begin with a convolution, but resnet18:input_norm=true"):
        chosen(FASHION, {"first_layer": "frozen", "model": "resnet18:input_norm=true"})


@pytest.mark.parametrize(("model", "channels", "freezes", "layer"), [
    ("auto", 1, True, "frozen"), ("auto", 3, True, "frozen"), ("auto", 1, False, "whitened"), ("auto", 3, False, "random"),
    ("cifar_resnet8", 1, True, "random"),
])  # fmt: skip
def test_the_first_layer_of_patches_is_whitened_and_frozen(monkeypatch: Any, model: str, channels: int, freezes: bool, layer: str) -> None:
    """The other frameworks cannot freeze it; whitening alone helps grey pictures only. Steps are timed as they will be taken."""
    timed = []

    def rate(_: Any, __: Any, trial: Trial, **___: Any) -> float:
        timed.append(trial.frozen)
        return 1000.0

    monkeypatch.setattr("residual.training.machine.training_rate", rate)
    monkeypatch.setattr("residual.training.choose.settle_threads", lambda *_, **__: False)
    data, fixed = replace(FASHION, channels=channels), {"time": 0.01, "compile": False, "model": model}
    found = choose(RECIPES["default"].recipe, True, fixed, data, SLOW, freezes=freezes)
    assert found.recipe.first_layer == layer
    assert set(timed) == {layer == "frozen"}
    assert any("not trained" in reason for reason in found.reasons) == (layer == "frozen")


@pytest.mark.parametrize(
    ("changes", "fixed", "share"),
    [
        ({}, {"time": 60.0}, 0.75),
        ({"channels": 3}, {"time": 60.0}, 0.0),
        ({"count": 5_000}, {"time": 60.0}, 0.0),
        ({}, {"time": 60.0, "mixup": 0.2}, 0.0),
        ({}, {"time": 60.0, "data_pruning": 0.5}, 0.5),
        ({}, {"epochs": 1, "pruning_from": 1}, 0.75),
    ],
    ids=str,
)
def test_easy_pictures_are_left_out_of_many_grey_ones(changes: dict[str, Any], fixed: dict[str, Any], share: float) -> None:
    choice = chosen(replace(FASHION, **changes), fixed)
    assert choice.recipe.data_pruning == share
    assert choice.recipe.pruning_from == (1 if share == 0.75 else 2)
    assert any("Easy pictures" in reason for reason in choice.reasons) == (share == 0.75)
    assert chosen(FASHION, {"epochs": 1}).recipe.data_pruning == 0


def test_more_epochs_are_fitted_where_easy_pictures_are_left_out() -> None:
    """Nine epochs of 0.45 of the pictures are as long as four whole ones, and so are a whole one and seven of them; a user's stay."""
    from residual.training.shown import passes_of, pruning

    for fixed, start, epochs in ((dict[str, Any](), 1, 9), ({"pruning_from": 2}, 2, 8)):
        found = pruning(recipe(epochs=4), FASHION, fixed, [])
        assert found == {"data_pruning": 0.75, "pruning_from": start, "epochs": epochs}
        assert passes_of(recipe(**found)) == pytest.approx(4, abs=0.2)
    assert passes_of(recipe(epochs=4)) == 4
    assert pruning(recipe(), replace(FASHION, size=(96, 96)), {}, [])["pruning_from"] == 2
    mine = chosen(FASHION, {"epochs": 3})
    assert (mine.recipe.epochs, mine.recipe.pruning_from) == (3, 2)
    assert any(reason.startswith("Easy pictures: from the second epoch on") for reason in mine.reasons)


def test_views_are_mirrored_where_training_mirrors_and_shifted_where_pictures_are_centred() -> None:
    small = {"model": "cifar_resnet8"}
    assert chosen(replace(FASHION, channels=3), small).recipe.views == "mirrored"
    assert chosen(FASHION, small).recipe.views == "shifts"
    assert chosen(FASHION, {"model": "resnet18", "epochs": 9}).recipe.views == "both"
    assert chosen(DIGITS).recipe.views == "one"
    assert chosen(FASHION, {**small, "views": "one"}).recipe.views == "one"
    assert recipe("paper-cifar").views == recipe("d2l").views == "one"


def test_speed_is_default_in_ten_seconds() -> None:
    found = chosen(FASHION, name="speed")
    assert found.recipe.time == 10.0
    assert found.architecture.out_widths[0] <= 32
    assert any(reason.startswith("Views:") for reason in found.reasons)


def test_every_choice_says_why() -> None:
    reasons = " ".join(chosen(DIGITS).reasons)
    for word in ("Pictures:", "Augmentation:", "Batch:", "Model:", "Arithmetic:", "pictures/s", "it sees each 30 times"):
        assert word in reasons
    model = next(reason for reason in chosen(DIGITS, {"time": 60.0}).reasons if reason.startswith("Model:"))
    *_, rate, times = re.findall("[0-9][0-9,]*", model)
    assert int(times) == pytest.approx(60 * int(rate.replace(",", "")) / (1400 * 0.9), abs=1)


def test_unknown_recipe() -> None:
    with pytest.raises(ValueError, match="Did you mean 'paper-cifar'"):
        recipe("papercifar")


def test_every_recipe_has_source_and_result() -> None:
    for name, entry in RECIPES.items():
        assert isinstance(entry.recipe, Recipe), name
        assert len(entry.source) > 20, name
        assert entry.measured, name


@pytest.mark.parametrize(
    ("half", "first", "way"),
    [
        (109.0, 90.0, (False, True)),
        (111.0, 90.0, (True, True)),
        (111.0, 125.0, (False, False)),
        (109.0, 102.0, (False, True)),
        (112.0, 104.0, (False, False)),
    ],
)
def test_bfloat16_must_be_a_tenth_faster_on_the_net_itself(monkeypatch: Any, half: float, first: float, way: tuple[bool, bool]) -> None:
    """Channels last in float32 makes 100 pictures a second here; `half` is bfloat16's rate, `first` that of N C H W."""
    rates = {(False, True): 100.0, (True, True): half, (False, False): first}
    monkeypatch.setattr("residual.training.machine.training_rate", lambda *_, half, channels_last, **__: rates[half, channels_last])
    found = training_way(
        ladder((28, 28), FASHION, True)[0].architecture, (28, 28), Trial(batch=8), halves=(False, True), layouts=(True, False)
    )
    assert (found.half, found.channels_last) == way
    assert found.rate == rates[way]


def test_bfloat16_is_tried_only_where_it_may_be_faster() -> None:
    fast = replace(SLOW, half=True, device="cpu")
    assert _halves("auto", fast) == (False, True)
    assert _halves("auto", SLOW) == (False,)
    assert _halves("float32", fast) == (False,)
    assert _halves("bfloat16", SLOW) == (True,)
    assert _halves("auto", replace(fast, device="cuda")) == (True,)


def test_a_named_model_is_not_tried_in_two_arithmetics(monkeypatch: Any) -> None:
    """A trial is noisy, and the same command is to train to the same bits."""
    halves = []

    def rate(*_: Any, half: bool, **__: Any) -> float:
        halves.append(half)
        return 1000.0

    monkeypatch.setattr("residual.training.machine.training_rate", rate)
    fast = replace(SLOW, half=True, device="cpu")
    found = choose(RECIPES["default"].recipe, True, {"model": "cifar_resnet8", "compile": False}, DIGITS, fast)
    assert found.half
    assert choose(RECIPES["strong"].recipe, False, {}, FASHION, fast).half
    assert halves.count(True) == 1
    assert halves.count(False) in (0, 4), "two for each choice say how many threads to take"


def test_a_net_is_tried_for_less_than_it_is_trained(monkeypatch: Any) -> None:
    tried = []

    def rate(_: Any, __: Any, trial: Trial, **___: Any) -> float:
        tried.append(trial.seconds)
        return 1000.0

    monkeypatch.setattr("residual.training.machine.training_rate", rate)
    for time, data, most in ((2.0, FASHION, 0.05), (60.0, FASHION, 0.3), (0.0, FASHION, 0.3), (60.0, DIGITS, 0.3), (0.0, DIGITS, 0.05)):
        tried.clear()
        choose(RECIPES["default"].recipe, True, {"time": time, "compile": False}, data, SLOW)
        assert set(tried) == {most}
