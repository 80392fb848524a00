"""The loop: what it draws from, when it stops, and that its parts do what the recipe says. Real nets on tiny pictures."""

import types
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from residual.architecture import Architecture
from residual.backends import torch as backend
from residual.backends.torch_training import training_form
from residual.data import Decoded
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.recipe import EpochEnd, Recipe, learning_rate
from residual.training.feed import Normaliser, Resident
from residual.training.loop import Setting, State, StepEnd, _seed, fit, key, order
from residual.training.pruning import unpruned

CPU = torch.device("cpu")
NET = Architecture(
    depths=(1, 1), inner_widths=(8, 16), out_widths=(8, 16), strides=(1, 2), stem="cifar", stem_width=8, in_channels=1, num_classes=3
)
BASE = Recipe(batch_size=16, epochs=2, learning_rate=0.1, warmup=0.0, schedule="constant", label_smoothing=0.0, precision="float32")


def decoded(count: int = 60, seed: int = 0) -> Decoded:
    """Three classes of 8x8 pictures, told apart by where a bright bar lies."""
    stream = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    images = stream.integers(0, 120, (count, 8, 8, 1)).astype(np.uint8)
    for index, label in enumerate(labels):
        images[index, :, 1 + 2 * label : 3 + 2 * label] = 230
    return Decoded(images=images, labels=labels, names=[str(i) for i in range(count)], problems=(), kept=np.arange(count))


def setup(recipe: Recipe, *, arch: Architecture = NET, seed: int = 0) -> tuple[State, Setting]:
    model = backend.build(plan(arch), seed)
    average = {name: value.clone() for name, value in model.state_dict().items()} if recipe.ema else None
    pruning = unpruned(60, CPU) if recipe.data_pruning else None
    state = State(
        model=model, optimizer=backend.optimizer(model, recipe), average=average, pruning=pruning, warm=not recipe.warmup_rate
    )  # fmt: skip
    normalise = Normaliser(Preprocessing(size=(8, 8), channels=1, mean=(0.3,), std=(0.3,)), CPU)
    feed, held = Resident(decoded(), None, CPU), Resident(decoded(30, seed=1), None, CPU)
    setting = Setting(
        recipe=recipe, train=feed, validation=held, normalise=normalise, size=(8, 8), device=CPU, half=False, call=training_form(model)
    )
    return state, setting


def run(recipe: Recipe) -> tuple[State, list[EpochEnd]]:
    state, setting = setup(recipe)
    return state, [event for event in fit(state, setting) if isinstance(event, EpochEnd)]


def test_learns_and_reports_each_epoch() -> None:
    state, ends = run(replace(BASE, epochs=6))
    assert [end.epoch for end in ends] == [1, 2, 3, 4, 5, 6]
    assert all(len(end.losses) == 4 for end in ends)  # 60 pictures in batches of 16, the last of 12
    assert ends[-1].train_loss < ends[0].train_loss / 2
    assert ends[-1].validation_accuracy == 1.0
    assert state.finished(replace(BASE, epochs=6))


@pytest.mark.parametrize("last", [True, False])
def test_grey_pictures_reach_the_model_in_its_layout_whatever_was_done_to_them(last: bool) -> None:
    """Erasing leaves strides by which a convolution answers in N C H W, the pictures themselves those of channels last."""
    for changes in ({"erasing": 1.0}, {}):
        state, setting = setup(replace(BASE, epochs=1, channels_last=last, **changes))
        seen = list[int]()

        def noted(x: torch.Tensor, seen: list[int] = seen, call: Callable[[torch.Tensor], torch.Tensor] = setting.call) -> torch.Tensor:
            seen.append(x.stride(1))
            return call(x)

        list(fit(state, replace(setting, call=noted)))
        assert set(seen[:4]) == {1 if last else 64}


def test_train_loss_is_the_mean_of_the_step_losses_and_counts_are_whole() -> None:
    _, ends = run(BASE)
    assert ends[0].train_loss == pytest.approx(np.mean(ends[0].losses))
    assert ends[0].train_accuracy * 60 == pytest.approx(round(ends[0].train_accuracy * 60))


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    recipe = replace(BASE, flip="random", crop_padding=1, erasing=0.3, mixup=0.2)
    first, second, other = (run(r)[0].model.state_dict() for r in (recipe, recipe, replace(recipe, seed=1)))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_loop_equals_the_backends_plain_fit() -> None:
    """Without augmentation both take the same steps."""
    recipe = replace(BASE, centering="none")
    state, setting = setup(recipe)
    ends = [event for event in fit(state, setting) if isinstance(event, EpochEnd)]
    model, data = backend.build(plan(NET), 0), decoded()
    epochs = [
        [(((data.images[c].transpose(0, 3, 1, 2) / 255 - 0.3) / 0.3).astype(np.float32), data.labels[c]) for c in order(60, recipe, epoch)]
        for epoch in range(2)
    ]
    plain = list(backend.fit(model, epochs, recipe))
    for ours, theirs in zip(ends, plain, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)


@pytest.mark.parametrize("pruned", [0.0, 0.5])
def test_accumulation_gives_the_gradient_of_the_whole_batch(pruned: float) -> None:
    """With batch norm in evaluation mode a batch cut in four gives the same step as the whole."""
    weights = []
    for parts in (1, 4):
        state, setting = setup(replace(BASE, accumulate=parts, epochs=1, data_pruning=pruned))
        if state.pruning is not None:
            state.pruning.losses = torch.arange(60) / 60
        state.model.train = types.MethodType(lambda model, mode=True: torch.nn.Module.train(model, False), state.model)  # type: ignore[method-assign]
        for _ in fit(state, replace(setting, call=state.model)):  # the written-out form has no evaluation mode
            pass
        weights.append(state.model.state_dict())
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-5), name


def test_averaged_weights_are_the_running_mean() -> None:
    state, setting = setup(replace(BASE, ema=0.9, epochs=1))
    mean = state.model.fc.weight.detach().clone()  # type: ignore[union-attr, operator]
    for event in fit(state, setting):
        if isinstance(event, StepEnd):
            decay = min(0.9, event.step / (9 + event.step))  # from 0.1 upwards
            mean = decay * mean + (1 - decay) * state.model.fc.weight.detach()  # type: ignore[union-attr]
    assert state.average is not None
    assert torch.allclose(state.average["fc.weight"], mean, atol=1e-6)
    assert not torch.allclose(state.average["fc.weight"], state.model.fc.weight)  # type: ignore[union-attr, arg-type]


def test_weight_decay_spares_batch_norm_and_biases() -> None:
    model = backend.build(plan(NET))
    groups = backend.optimizer(model, replace(BASE, weight_decay=0.1)).param_groups
    assert {p.ndim for p in groups[0]["params"]} == {2, 4}
    assert groups[1]["weight_decay"] == 0
    assert {p.ndim for p in groups[1]["params"]} == {1}
    everything = backend.optimizer(model, replace(BASE, weight_decay=0.1, decay_norm_and_bias=True)).param_groups
    assert len(everything) == 1
    assert len(everything[0]["params"]) == len(list(model.parameters()))


def test_time_budget_is_kept_and_the_rate_follows_it() -> None:
    recipe = replace(BASE, time=1.5, schedule="triangle", warmup=0.2, epochs=1)
    state, setting = setup(recipe)
    events = list(fit(state, setting))
    steps = [event for event in events if isinstance(event, StepEnd)]
    assert 1.4 < state.seconds < 2.0
    assert steps[-1].progress == 1.0
    over = [0.0, *(event.seconds / 1.5 for event in events)]  # of the time, whatever the number of epochs was
    assert over == sorted(over)
    pairs = zip(over, events, strict=False)  # of each step, how much was over before it
    assert all(event.learning_rate == learning_rate(before, recipe) for before, event in pairs if isinstance(event, StepEnd))
    assert isinstance(events[-1], EpochEnd)
    assert events[-1].validation_accuracy is not None


def test_patience_stops_early() -> None:
    recipe = replace(BASE, epochs=100, patience=2)
    state, ends = run(recipe)
    assert len(ends) < 100
    assert state.epoch - state.best_epoch == 2


def test_warm_up_rule_holds_the_rate_until_the_error_falls() -> None:
    """He et al. 2015, section 4.2: 0.01 until the training error is under 80 %; here 0.001 until it is under 40 %."""
    state, setting = setup(replace(BASE, warmup_rate=0.001, warmup_error=0.4, epochs=30))
    rates = [event.learning_rate for event in fit(state, setting) if isinstance(event, StepEnd)]
    switch = rates.index(0.1)
    assert switch > 0
    assert set(rates[:switch]) == {0.001}
    assert set(rates[switch:]) == {0.1}
    assert state.running_error < 0.4


def test_alternating_flips_show_each_picture_both_ways_in_two_epochs() -> None:
    from residual.training.loop import _turns

    index = torch.arange(500)
    first, second = (_turns(replace(BASE, flip="alternate"), index, epoch) for epoch in (0, 1))
    assert first is not None
    assert second is not None
    assert torch.equal(first, ~second)
    assert 200 < first.sum() < 300


def test_order_is_a_permutation_that_leaves_out_a_lone_last_picture() -> None:
    chunks = order(33, BASE, 0)
    assert [len(c) for c in chunks] == [16, 16]
    assert sorted(np.concatenate(order(40, BASE, 3)).tolist()) == list(range(40))
    assert not np.array_equal(order(40, BASE, 0)[0], order(40, BASE, 1)[0])
    assert [len(c) for c in order(40, replace(BASE, compile=True), 0)] == [16, 16]


def test_keys_differ() -> None:
    assert len({key(seed, epoch, step) for seed in range(5) for epoch in range(20) for step in range(-2, 50)}) == 5 * 20 * 52


def steps_of(state: State, setting: Setting, count: int) -> Iterator[StepEnd]:
    for event in fit(state, setting):
        if isinstance(event, StepEnd):
            yield event
            if event.step == count:
                return


def test_per_pixel_mean_is_subtracted_pixel_by_pixel() -> None:
    mean = tuple(np.linspace(0, 1, 64).round(6).tolist())
    preprocessing = Preprocessing(size=(8, 8), channels=1, mean=mean, std=(1.0,))
    images = torch.from_numpy(decoded().images)
    ours = Normaliser(preprocessing, CPU)(images)
    assert torch.allclose(ours, torch.from_numpy(preprocessing.normalise(images.numpy())), atol=1e-6)


def test_the_random_stream_of_a_step_is_pytorchs_own() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    _seed(torch.device("cpu"), 7)
    assert torch.equal(torch.rand(3), wanted)
