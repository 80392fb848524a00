"""What is read off a run's folder: numbers, what was scaled down, other data, and an unfinished run."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from residual.recipe import EpochEnd
from residual.runs import Run
from residual.study.targets import target
from residual.study.trainings import differences, is_published, shown, training
from residual.training.recipes import recipe
from residual.variants import architecture

PAPER = recipe("paper-cifar")


def made(folder: Path, model: str = "cifar_resnet20", *, epochs: int = 2, changes: dict[str, Any] | None = None, **record: Any) -> Run:
    """A run as `residual train` writes one, without a model; `changes` are fields of the recipe."""
    folder.mkdir()
    told = {
        "model": model, "status": "finished", "architecture": asdict(architecture(model)), "seed": 3,
        "recipe": asdict(replace(PAPER, model=model, **(changes or {}))), "machine": {"name": "a machine"},
        "data": {"source": "cifar10", "counts": {"train": 50_000, "test": 10_000}},
        "result": {"test": {"count": 10_000, "top1": 0.9125, "top5": 1.0}},
    }  # fmt: skip
    run = Run(folder=folder, record={**told, **record})
    run.write()
    for epoch in range(1, epochs + 1):
        run.append(EpochEnd(
            epoch=epoch, steps=epoch, train_loss=1 / epoch, train_accuracy=1 - 0.5 / epoch, validation_accuracy=0.25 * epoch,
            images_per_second=100.0 * epoch,
        ))  # fmt: skip
    return run


def test_a_run_of_the_papers_protocol_lacks_nothing(tmp_path: Path) -> None:
    found = training(made(tmp_path / "run"), target("table6"), PAPER)
    assert (found.net, found.seed, found.lacks, found.scaled, found.short) == ("ResNet-20", 3, (), "", ())
    assert found.values == pytest.approx({
        "training loss": 0.5, "training accuracy": 0.75, "pictures per second": 150, "test accuracy": 0.9125, "test error": 8.75,
    })  # fmt: skip
    assert found.curve.train == (0.5, 0.25)
    assert found.curve.validation == (0.75, 0.5)
    assert found.machine == "a machine"


def test_what_was_scaled_down_is_read_off_the_recipe(tmp_path: Path) -> None:
    changes = {"epochs": 4, "image_size": 16, "validation": 0.2, "learning_rate": 0.05, "seed": 9, "compile": True}
    found = training(made(tmp_path / "run", changes=changes), target("table6"), PAPER)
    assert found.lacks == ("scaled down",)
    told = found.scaled
    assert found.short == ()
    for phrase in (
        "4 epochs instead of 182", "pictures of side 16 instead of their own", "learning rate 0.05 instead of 0.1",
        "20% of the training pictures held out instead of 10%",
    ):  # fmt: skip
        assert phrase in told
    assert "seed" not in told
    assert "compile" not in told


def test_every_field_of_a_recipe_counts_but_those_that_change_no_number() -> None:
    changed = {
        name: (not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value / 2 + 0.125)
        for name, value in asdict(PAPER).items()
        if isinstance(value, bool | int | float) and name not in ("crop", "validation")
    }
    changed["pruning_from"] = 1  # of 1 and 2
    pruning = changed.pop("data_pruning")  # not beside mixup and cutmix
    assert len(differences(PAPER, replace(PAPER, data_pruning=pruning))) == 1
    told = len(differences(PAPER, replace(PAPER, **changed)))
    assert told == len(changed) - len({"seed", "compile", "channels_last", "accumulate", "warmup_rate"})


@pytest.mark.parametrize(
    ("source", "counts", "same"),
    [
        ("cifar10", (50_000, 10_000), True),
        ("/somewhere/cifar10", (50_000, 10_000), True),
        ("uoft-cs/cifar10", (50_000, 10_000), True),
        ("/somewhere/cifar10-jpeg", (50_000, 10_000), False),
        ("cifar10", (5_000, 10_000), False),
        ("digits", (1_438, 359), False),
    ],
)
def test_data_is_recognised_by_name_and_counts(tmp_path: Path, source: str, counts: tuple[int, int], same: bool) -> None:
    told = dict(zip(("train", "test"), counts, strict=True))
    assert is_published(target("table6"), source, told) is same
    found = training(made(tmp_path / "run", data={"source": source, "counts": told}), target("table6"), PAPER)
    assert found.lacks == (() if same else ("other data",))
    assert "/" not in found.data
    assert shown(source) == Path(source).name


def test_the_hubs_name_of_fashion_mnist_is_the_catalogs() -> None:
    assert is_published(target("d2l"), "zalando-datasets/fashion_mnist", {"train": 60_000, "test": 10_000})


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    found = training(made(tmp_path / "run", status="training", result={}), target("table6"), PAPER)
    assert found.lacks == ("not finished",)
    assert found.short == ("ResNet-20, seed 3: the run is not finished, 2 of 182 epochs are done.",)
    assert "test error" not in found.values
    assert found.values["training accuracy"] == 0.75


def test_a_run_before_its_first_epoch_has_no_numbers(tmp_path: Path) -> None:
    found = training(made(tmp_path / "run", epochs=0, status="training", result={}), target("table6"), PAPER)
    assert found.values == {}
    assert found.curve.train == ()


def test_a_net_is_known_by_its_description(tmp_path: Path) -> None:
    """Whatever it is called, and however many classes or colours the data has."""
    arch = asdict(architecture("cifar_resnet32", in_channels=1, num_classes=7))
    unnamed = made(tmp_path / "a", architecture=arch)
    unnamed.record["model"] = "auto"
    assert training(unnamed, target("table6"), PAPER).net == "ResNet-32"
    assert training(made(tmp_path / "d", "resnet18_d2l"), target("d2l"), recipe("d2l")).net == "ResNet-18 of the chapter"
    other = made(tmp_path / "b", "cifar_plain20")
    with pytest.raises(ValueError, match=r"is a cifar_plain20, which table6 has not; its nets: ResNet-20"):
        training(other, target("table6"), PAPER)
    assert training(other, target("landscape"), PAPER).net == "plain-20"
    assert training(made(tmp_path / "c", "cifar_resnet38"), target("fig7"), PAPER).net == "ResNet-38"
