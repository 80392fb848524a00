"""A training from data to a run folder: begin, proceed, finish. `train` does all three; the command line shows what happens between.

The test split is opened once, in `finish`, after every choice has been made.
"""

import datetime
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from residual.architecture import Architecture, architecture_from
from residual.backends import backend_of, check_backend, open_backend
from residual.backends import torch as pytorch
from residual.backends.allocator import training_memory
from residual.backends.limits import check_recipe
from residual.backends.torch_training import training_form
from residual.data import Source, look, open_source
from residual.plan import plan
from residual.preprocessing import Preprocessing, preprocessing_from
from residual.recipe import EpochEnd, Recipe, adjusted
from residual.runs import MODEL_FILE, Run, as_json, new_folder, open_run
from residual.shortage import enough_memory, within_memory
from residual.training import checkpoint, portable
from residual.training.choose import Choice, choose
from residual.training.evaluation import Evaluation, evaluate_run
from residual.training.feed import Normaliser, in_time
from residual.training.inference import seconds_of, validation_batch
from residual.training.ladder import Data
from residual.training.loop import Setting, State, StepEnd, fit
from residual.training.machine import machine
from residual.training.portable import PortableState
from residual.training.prepare import Prepared, Progress, prepare
from residual.training.pruning import unpruned
from residual.training.recipes import RECIPES
from residual.training.recipes import recipe as recipe_named
from residual.training.start import begin_from, put_weights
from residual.training.tensorboard import Board
from residual.training.views import COST
from residual.training.whitening import whitened
from residual.weights import SavedModel
from residual.weights import save as save_model

SNAPSHOT = "snapshots/epoch-{}.safetensors"
_EVERY = 30.0  # seconds between checkpoints within an epoch


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A training that is set up: the run's folder, the state that changes (in PyTorch or elsewhere), the setting that does not."""

    run: Run
    source: Source
    state: State | PortableState
    setting: Setting
    preprocessing: Preprocessing
    architecture: Architecture


def train(
    data: Any, model: str = "", recipe: str = "default", *, backend: str = "torch", out: str | Path | None = None,
    start: str | Path = "", **fields: Any,
) -> Run:  # fmt: skip
    """The run of a training on `data`: a name, a folder, or arrays (images uint8 N H W [C], labels).

    `fields` are the recipe's, e.g. `epochs=5, time=60`. `model` is short for the field of that name. `backend` is the framework whose
    own means train: "torch", "tensorflow", "jax" or "mxnet"; all but the first know SGD and the basic augmentation only. `start` is a model
    file or a run whose weights the training goes on from.

    Raises:
        ValueError: one sentence on what is wrong with the data, a name or a field, or that memory is not enough for a batch.
    """
    experiment = begin(data, recipe, {**({"model": model} if model else {}), **fields}, backend=backend, out=out, start=start)
    for _ in proceed(experiment):
        pass
    finish(experiment)
    return experiment.run


def begin(
    data: Any, recipe: str, fields: dict[str, Any], *, backend: str = "torch", out: str | Path | None = None,
    progress: Progress | None = None, start: str | Path = "",
) -> Experiment:  # fmt: skip
    """A new run, its folder made and its first checkpoint written; nothing is written when the data or a field is wrong.

    `start` is a model file or a run whose weights the training goes on from, instead of first values.
    """
    base = recipe_named(recipe)
    check_backend(backend)
    if backend != "torch":
        check_recipe(adjusted(base, fields), backend)
        fields = {"compile": False, "data_pruning": 0.0, **fields}
    folder = new_folder(out, data, fields.get("model", base.model))
    if isinstance(data, str | Path) and Path(data).expanduser().is_dir():
        data = Path(data).expanduser().resolve()  # so that the run still finds it from another folder
    source = open_source(data)
    seen = look(source.splits["train"])
    told = Data(size=seen.size, channels=seen.channels, count=len(source.splits["train"]), classes=source.classes)
    begun = begin_from(start, told, fields) if start else None
    here = machine() if backend == "torch" else replace(machine(), half=False)
    choice = choose(base, RECIPES[recipe].fitted, fields, told, here, start=begun, freezes=backend == "torch")
    if backend != "torch":
        choice = replace(choice, half=False, reasons=(*choice.reasons, f"Framework: {backend}; speeds were measured with PyTorch."))
    prepared = prepare(source, choice.recipe, choice.size, told.channels, device=_device(backend), progress=progress)
    cleaned = begun.preprocessing if begun and begun.preprocessing else prepared.preprocessing
    prepared = replace(prepared, preprocessing=replace(cleaned, views=choice.recipe.views))
    run = Run(folder=folder, record=_record(source, data, recipe, choice, prepared, backend=backend))
    with enough_memory(choice.recipe, choice.size):
        experiment = _experiment(run, source, choice.recipe, choice.architecture, prepared, half=choice.half)
    folder.mkdir(parents=True, exist_ok=True)
    if begun:
        run.record["start"] = str(start)
        put_weights(experiment.state, begun.weights)
    elif choice.recipe.first_layer != "random":
        first = backend_of(experiment.state.model).get_weights(experiment.state.model)
        put_weights(experiment.state, whitened(first, plan(choice.architecture), prepared.train, experiment.setting.normalise))
    _save(experiment)
    if choice.recipe.snapshots:
        _keep(experiment, SNAPSHOT.format(0))
    run.write()  # last: a folder with a run.json can be resumed
    return experiment


def resume(folder: str | Path, data: Any = None, *, progress: Progress | None = None) -> Experiment:
    """The unfinished run in `folder`, where its checkpoint stands. Arrays must be passed again as `data`.

    ValueError when the run is finished, its checkpoint is damaged, or its data is not what it was.
    """
    run = open_run(folder)
    if run.record["status"] == "finished":
        raise ValueError(f"The run {run.folder} is finished: there is nothing to resume; train anew with another --out.")
    if data is None and run.record["data"]["kind"] == "arrays":
        raise ValueError(f"The run {run.folder} was trained on arrays: pass them again to resume it.")
    source = open_source(run.record["data"]["source"] if data is None else data)
    arch = architecture_from(run.record["architecture"])
    size = tuple(run.record["preprocessing"]["size"])
    device = _device(run.backend)
    prepared = prepare(source, run.recipe, size, arch.in_channels, device=device, progress=progress)
    if prepared.split["hash"] != run.record["split"]["hash"] or as_json(source.fingerprint) != run.record["data"]["fingerprint"]:
        raise ValueError(f"The data {run.record['data']['source']} is not what the run {run.folder} began with; train anew.")
    prepared = replace(prepared, preprocessing=preprocessing_from(run.record["preprocessing"]))
    torch.set_num_threads(run.record["machine"]["threads"])
    experiment = _experiment(run, source, run.recipe, arch, prepared, half=run.record["half"])
    state = experiment.state
    portable.restore(run.folder, state) if isinstance(state, PortableState) else checkpoint.restore(run.folder, state)
    return experiment


def proceed(experiment: Experiment) -> Iterator[StepEnd | EpochEnd]:
    """What happens, step by step, written down as it happens. Stop iterating to stop: `pause` then keeps the state."""
    run, state, recipe = experiment.run, experiment.state, experiment.setting.recipe
    board, last = Board(run.folder), time.monotonic()
    events = portable.fit(state, experiment.setting) if isinstance(state, PortableState) else fit(state, experiment.setting)
    with training_memory() as step_done:
        if isinstance(state, PortableState):
            step_done()  # of such a training whole epochs are seen
        for event in within_memory(events, recipe, experiment.setting.size, parts=isinstance(state, State)):
            step_done()
            if isinstance(event, EpochEnd):
                run.append(event)
                board.epoch(event)
                if recipe.snapshots:
                    _keep(experiment, SNAPSHOT.format(event.epoch))
                if recipe.keep == "last" or state.best_epoch in (0, state.epoch):
                    _keep(experiment)
            if time.monotonic() - last > (2.0 if isinstance(event, EpochEnd) else _EVERY):
                _save(experiment)
                last = time.monotonic()
            yield event
    _save(experiment)
    board.close()


def pause(experiment: Experiment) -> None:
    """Writes the state of a stopped training, so that `resume` picks it up at the very next step."""
    _save(experiment)
    if not (experiment.run.folder / MODEL_FILE).exists():
        _keep(experiment)


def finish(experiment: Experiment) -> Evaluation:
    """The kept model's evaluation on the test split: its one opening in this run."""
    run, state = experiment.run, experiment.state
    last = list(run.events())
    kept = next((e for e in last if e.epoch == state.best_epoch), None) if experiment.setting.recipe.keep == "best" else last[-1]
    run.record["status"] = "finished"
    run.record["result"] = {
        "epochs": state.epoch, "steps": state.step, "seconds": round(state.seconds, 2), "kept_epoch": kept.epoch if kept else state.epoch,
        "train_loss": last[-1].train_loss, "train_accuracy": last[-1].train_accuracy,
        "validation_accuracy": kept.validation_accuracy if kept else None,
        "images_per_second": float(np.median([end.images_per_second for end in last])),
    }  # fmt: skip
    evaluation = evaluate_run(run, experiment.source, "test", by="train", backend=run.backend)
    run.record["result"]["test"] = {"count": evaluation.count, "top1": evaluation.top1, "top5": evaluation.top5}
    run.write()
    return evaluation


def _experiment(run: Run, source: Source, recipe: Recipe, arch: Architecture, prepared: Prepared, *, half: bool) -> Experiment:
    if run.backend != "torch":
        return _portable(run, source, recipe, arch, prepared)
    device = _device(run.backend)
    model = pytorch.build(plan(arch), recipe.seed).to(device)
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.first_layer == "frozen":
        pytorch.freeze_stem(model)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()} if recipe.ema else None
    pruning = unpruned(len(prepared.train), device) if recipe.data_pruning else None
    state = State(
        model=model, optimizer=pytorch.optimizer(model, recipe), average=average, pruning=pruning, warm=not recipe.warmup_rate
    )  # fmt: skip
    normalise, size, reserve, validation = Normaliser(prepared.preprocessing, device), prepared.preprocessing.size, 0.0, prepared.validation
    if recipe.time and validation is not None:
        once = seconds_of(model, validation, normalise, size=size, batch=validation_batch(recipe), half=half)
        reserve = once * COST[recipe.views]
        validation, reserve = in_time(validation, reserve, recipe.time)
        run.record["split"]["looked_at"] = len(validation)
    setting = Setting(
        recipe=recipe, train=prepared.train, validation=validation, normalise=normalise, size=size, device=device, half=half,
        call=training_form(model, half=half, compiled=recipe.compile), reserve=min(reserve, recipe.time / 2),
    )  # fmt: skip
    return Experiment(run=run, source=source, state=state, setting=setting, preprocessing=prepared.preprocessing, architecture=arch)


def _portable(run: Run, source: Source, recipe: Recipe, arch: Architecture, prepared: Prepared) -> Experiment:
    """The same for another framework than PyTorch."""
    check_recipe(recipe, run.backend)
    state = PortableState(model=open_backend(run.backend).build(plan(arch), recipe.seed))
    device = _device(run.backend)
    setting = Setting(
        recipe=recipe, train=prepared.train, validation=prepared.validation, normalise=Normaliser(prepared.preprocessing, device),
        size=prepared.preprocessing.size, device=device, half=False, call=state.model,
    )  # fmt: skip
    return Experiment(run=run, source=source, state=state, setting=setting, preprocessing=prepared.preprocessing, architecture=arch)


def _device(backend: str) -> torch.device:
    """Where batches are made: other frameworks than PyTorch take them from the CPU."""
    return torch.device(machine().device if backend == "torch" else "cpu")


def _save(experiment: Experiment) -> None:
    state, folder = experiment.state, experiment.run.folder
    portable.save(folder, state) if isinstance(state, PortableState) else checkpoint.save(folder, state)


def _keep(experiment: Experiment, name: str = MODEL_FILE) -> None:
    """Writes the weights as they stand (the averaged ones, where there are any) into the run's folder: as its model, or as `name`."""
    state, weights = experiment.state, backend_of(experiment.state.model).get_weights(experiment.state.model)
    if isinstance(state, State) and state.average is not None:
        weights = {name: state.average[name].float().cpu().numpy().copy() for name in weights}
    classes, preprocessing = experiment.source.classes, experiment.preprocessing
    saved = SavedModel(architecture=experiment.architecture, weights=weights, classes=classes, preprocessing=preprocessing)
    file = experiment.run.folder / name
    file.parent.mkdir(exist_ok=True)
    save_model(file, saved)


def _record(source: Source, data: Any, recipe: str, choice: Choice, prepared: Prepared, *, backend: str) -> dict[str, Any]:
    """What `run.json` says from the start."""
    from residual.training.versions import versions

    return {
        "status": "training",
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["residual", *sys.argv[1:]]) if Path(sys.argv[0]).name == "residual" else "residual.train(...)",
        "model": choice.model,
        "backend": backend,
        "architecture": asdict(choice.architecture),
        "recipe_name": recipe,
        "recipe": asdict(choice.recipe),
        "half": choice.half,
        "reasons": [*choice.reasons, f"Memory: {prepared.plan}."],
        "data": {
            "source": str(data) if isinstance(data, str | Path) else source.name,
            "kind": source.kind,
            "classes": list(source.classes),
            "counts": {name: len(records) for name, records in source.splits.items()},
            "fingerprint": as_json(source.fingerprint),
            "notes": list(source.notes),
            "problems": [asdict(problem) for problem in prepared.problems],
        },
        "preprocessing": prepared.preprocessing.as_dict(),
        "split": prepared.split,
        "seed": choice.recipe.seed,
        "versions": versions(backend),
        "machine": machine().as_dict(),
        "test_openings": [],
        "result": {},
    }
