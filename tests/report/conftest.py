"""Real run folders, small ones: a real network measured on real pictures, everything written by the functions that training uses."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from residual.backends import torch as backend
from residual.data.records import ArrayStore, Records
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.recipe import EpochEnd, Recipe
from residual.runs import MODEL_FILE, Run
from residual.training.evaluation import evaluate_model, keep, note_opening
from residual.training.prediction import classifier_of
from residual.variants import architecture
from residual.weights import SavedModel, save

DIGITS = tuple(f"digit {number}" for number in range(4))


def made_run(
    folder: Path,
    *,
    classes: tuple[str, ...] = DIGITS,
    epochs: int = 3,
    seed: int = 0,
    size: int = 8,
    model: str = "cifar_resnet8",
    **changes: object,
) -> Run:
    """A run on pictures of noise; `changes` are recipe fields, `evaluated` (True), `status` and `count` (60)."""
    evaluated, status, count = changes.pop("evaluated", True), changes.pop("status", "finished"), int(changes.pop("count", 60))
    folder.mkdir(parents=True)
    recipe = Recipe(model=model, epochs=epochs, seed=seed, **changes)
    arch = architecture(model, in_channels=3, num_classes=len(classes))
    prepared = Preprocessing(size=(size, size), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    stream = np.random.default_rng(seed)
    images = stream.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = stream.integers(0, len(classes), count)
    run = Run(folder=folder, record=_record(recipe, asdict(arch), classes, prepared.as_dict(), status=status, count=count))
    run.write()
    for epoch in range(1, epochs + 1):
        held = recipe.validation > 0
        run.append(
            EpochEnd(
                epoch=epoch,
                steps=epoch * 10,
                train_loss=2 / epoch + 0.1 * seed,
                train_accuracy=1 - 0.8 / epoch,
                losses=tuple((2 / epoch + 0.1 * stream.random(10)).tolist()),
                validation_loss=2.2 / epoch if held else None,
                validation_accuracy=1 - 0.85 / epoch - 0.01 * seed if held else None,
                learning_rate=0.1 * (1 - epoch / epochs),
                progress=epoch / epochs,
                seconds=1.5 * epoch,
                images_per_second=321.0,
            )
        )
    native = backend.build(plan(arch), seed)
    save(
        folder / MODEL_FILE,
        SavedModel(architecture=arch, weights=backend.get_weights(native), classes=classes, preprocessing=prepared),
    )
    if evaluated:
        note_opening(run, by="train", count=count, data="arrays")
        records = Records(store=ArrayStore(images=images, split="test"), rows=np.arange(count), labels=labels)
        classifier = classifier_of(native, preprocessing=prepared, classes=classes)
        keep(folder / "evaluation-test", evaluate_model(classifier, records, split="test"))
    return run


def _record(
    recipe: Recipe, arch: dict[str, object], classes: tuple[str, ...], prepared: dict[str, object], *, status: object, count: int
) -> dict[str, object]:
    held = 20 if recipe.validation else 0
    return {
        "status": status, "began": "2026-01-02T03:04:05+00:00", "command": "residual.train(...)", "model": recipe.model,
        "architecture": arch, "recipe_name": "default", "recipe": asdict(recipe), "half": False,
        "reasons": ["Pictures: used at their own size.", "Model: as named."],
        "data": {
            "source": "arrays", "kind": "arrays", "classes": list(classes), "counts": {"train": 200, "test": count},
            "fingerprint": {"kind": "arrays", "sha256": "ab" * 32}, "notes": [],
            "problems": [{"file": "photos/<b>torn</b>.jpg", "reason": "cut short"}],
        },
        "preprocessing": prepared,
        "split": {"rule": "cut from the training pictures, by class", "validation_share": recipe.validation, "seed": recipe.seed,
                  "train": 200 - held, "validation": held, "hash": "cd" * 32},
        "seed": recipe.seed, "versions": {"residual": "0.1.0"}, "machine": {"device": "cpu", "name": "a machine"},
        "test_openings": [], "result": {"kept_epoch": recipe.epochs},
    }  # fmt: skip
