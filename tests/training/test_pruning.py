"""Data pruning: what an epoch leaves out, that the rest stands for it, and what a training reports of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from residual.recipe import EpochEnd, Recipe
from residual.training.guess import guessed_losses
from residual.training.loop import StepEnd, _step, fit, inputs, order
from residual.training.pruning import unpruned

from .test_loop import BASE, CPU, setup

COUNT = 20_000


def drawn(share: float, key: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of 20,000 pictures, and which have a loss below the mean: three quarters."""
    pruning = unpruned(COUNT, CPU)
    losses = torch.full((COUNT,), 0.1)
    losses[::4] = 2.0
    pruning.note(torch.arange(COUNT), losses)
    pruning.draw(share, key)
    return pruning.weights, losses < losses.mean()


def test_the_first_epoch_is_whole() -> None:
    pruning = unpruned(COUNT, CPU)
    pruning.draw(0.75, 1)
    assert (pruning.weights == 1).all()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_the_share_of_the_easy_is_left_out_and_the_rest_stands_for_it(share: float) -> None:
    weights, easy = drawn(share)
    assert (weights[~easy] == 1).all()
    assert weights[easy].unique().tolist() == pytest.approx([0, 1 / (1 - share)])
    assert (weights[easy] == 0).float().mean() == pytest.approx(share, abs=0.02)  # 4.5 standard deviations at least
    assert weights.sum() / COUNT == pytest.approx(1, abs=0.05)


def test_a_draw_follows_its_key() -> None:
    assert torch.equal(drawn(0.5)[0], drawn(0.5)[0])
    assert not torch.equal(drawn(0.5)[0], drawn(0.5, key=2)[0])


def test_pictures_without_a_loss_are_kept() -> None:
    """Those not trained on yet, and those whose loss was not a number."""
    pruning = unpruned(100, CPU)
    pruning.note(torch.arange(60), torch.linspace(0, 1, 60))
    pruning.note(torch.arange(10), torch.full((10,), torch.nan))
    pruning.draw(0.99, 1)
    assert (pruning.weights[:10] == 1).all()
    assert (pruning.weights[60:] == 1).all()
    assert (pruning.weights[10:30] != 1).all()


def test_one_picture_is_not_left_alone() -> None:
    pruning = unpruned(10, CPU)
    pruning.note(torch.arange(10), torch.tensor([5.0] + [0.1] * 9))
    alone = 0
    for key in range(20):
        pruning.draw(0.99, key)
        alone += bool((pruning.weights == 1).all())
        assert (pruning.weights > 0).sum() >= 2
    assert alone > 10


def test_an_epoch_leaves_out_what_weighs_nothing() -> None:
    pruning = unpruned(60, CPU)
    pruning.weights[::3] = 0
    chunks = order(60, BASE, 1, pruning)
    assert sorted(index for chunk in chunks for index in chunk) == [index for index in range(60) if index % 3]
    whole = [index for chunk in order(60, BASE, 1) for index in chunk]
    assert [index for chunk in chunks for index in chunk] == [index for index in whole if index % 3]


def test_training_prunes_from_the_second_epoch_on() -> None:
    recipe = replace(BASE, epochs=4, data_pruning=0.9)
    state, setting = setup(recipe)
    events = list(fit(state, setting))
    ends = [event for event in events if isinstance(event, EpochEnd)]
    steps = [event for event in events if isinstance(event, StepEnd)]
    assert len(ends[0].losses) == 4
    assert all(len(end.losses) < 4 for end in ends[1:])
    assert state.pruning is not None
    assert state.pruning.losses.isfinite().all()
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    assert steps[-1].progress == 1
    assert all(0 <= end.train_accuracy <= 1 for end in ends)


def test_the_first_epoch_is_pruned_by_a_guess_where_the_recipe_says_so() -> None:
    """What it leaves out is what a linear classifier finds easy."""
    state, setting = setup(replace(BASE, epochs=2, data_pruning=0.9, pruning_from=1))
    events = fit(state, setting)
    next(events)
    assert state.pruning is not None
    guessed = guessed_losses(setting.train, 3)
    easy = guessed < guessed.mean()
    assert 0 < easy.sum() < 60
    assert (state.pruning.weights[~easy] == 1).all()
    assert ((state.pruning.weights[easy] == 0) | state.pruning.weights[easy].isclose(torch.tensor(10.0))).all()
    ends = [event for event in events if isinstance(event, EpochEnd)]
    assert len(ends[0].losses) < 4
    assert not torch.equal(state.pruning.losses, guessed)


def test_a_kept_easy_picture_weighs_the_root_of_what_it_stands_for() -> None:
    """The step's gradient is that of the mean so weighted."""
    state, setting = setup(replace(BASE, data_pruning=0.75, label_smoothing=0.1))
    assert state.pruning is not None
    state.pruning.weights[::2] = 4.0
    batch = next(iter(setting.train.read([np.arange(16)])))
    state.model.train()
    scores = state.model(inputs(setting, batch, 0))
    each = torch.nn.functional.cross_entropy(scores, batch[1], label_smoothing=0.1, reduction="none")
    known = each.detach()
    counts = torch.tensor([2.0, 1.0] * 8)
    wanted = torch.autograd.grad((each * counts).sum() / counts.sum(), state.model.fc.weight)[0]
    state.optimizer.param_groups[0]["lr"] = 0.0
    loss, _ = _step(state, setting, batch)
    assert state.model.fc.weight.grad is not None
    torch.testing.assert_close(state.model.fc.weight.grad, wanted)
    assert float(loss) == pytest.approx(float((known * counts**2).sum() / (counts**2).sum()), rel=1e-5)


def test_the_reported_loss_is_an_estimate_for_all_pictures() -> None:
    """While the weights stand still, the mean over many draws is the loss of the whole data."""
    whole = setup(replace(BASE, learning_rate=1e-12, epochs=1, batch_size=60))
    target = next(event.train_loss for event in fit(*whole) if isinstance(event, EpochEnd))
    found = []
    for seed in range(40):
        state, setting = setup(replace(BASE, learning_rate=1e-12, epochs=2, batch_size=60, data_pruning=0.5, seed=seed))
        found.append([event.train_loss for event in fit(state, setting) if isinstance(event, EpochEnd)])
    assert [first for first, _ in found] == pytest.approx([target] * 40, rel=1e-5)
    assert sum(second for _, second in found) / 40 == pytest.approx(target, rel=0.02)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_pictures_have_no_loss_of_their_own(mix: str) -> None:
    with pytest.raises(ValueError, match="loss of each picture"):
        Recipe(data_pruning=0.5, **{mix: 0.2})  # type: ignore[arg-type]
