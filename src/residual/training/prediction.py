"""Naming what is on pictures: files, folders or arrays in, the most probable classes out.

The surprising thing: a picture that cannot be read is an answer too, with its `problem`; it stops nothing unless all are so.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from residual import models
from residual.backends import check_backend, open_backend
from residual.backends.allocator import blocks_apart
from residual.backends.torch import ResidualNet
from residual.data import Frame, Lazy, Records
from residual.data.folder import EXTENSIONS
from residual.data.records import ArrayStore, FileStore, Store
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.runs import Run
from residual.spelling import nearest
from residual.training.feed import Normaliser, Streamed
from residual.training.inference import Scores, answered, batch_of, device_of, scorer, scorer_of

Images = str | Path | Sequence[str | Path] | npt.NDArray[Any]
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one picture shows.

    Attributes:
        name: the file, or "image[3]" of an array.
        classes: the most probable classes, most probable first; empty where the picture cannot be read.
        probabilities: of `classes`, from 0 to 1.
        problem: why the picture cannot be read; empty where it can.
    """

    name: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """What answers for a trained model of any backend, and what its inputs and outputs mean.

    Attributes:
        scores: logits of prepared pictures on `device`.
        batch: how many pictures it is best given together.
        half: whether it computes in bfloat16.
    """

    scores: Scores
    device: torch.device
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    batch: int
    half: bool = False


def classifier_of(model: Any, *, preprocessing: Preprocessing, classes: tuple[str, ...], half: bool = False) -> Classifier:
    """The classifier of a model as it is now: later changes of the model do not reach it."""
    scores, device = scorer(model, half=half, views=preprocessing.views), device_of(model)
    batch = batch_of(preprocessing, parted=isinstance(model, ResidualNet) and device.type == "cpu", half=half)
    return Classifier(scores=scores, device=device, preprocessing=preprocessing, classes=classes, batch=batch, half=half)


def open_classifier(run_or_file: Run | str | Path, backend: str = "torch", *, precision: str = "float32") -> Classifier:
    """The model of a run or a model file, on the GPU where there is one; classes without names are called "0", "1", ...

    Raises:
        ValueError: there is no such run, file, backend or precision, the file is damaged, or does not say how pictures are prepared.
    """
    check_backend(backend)
    if precision not in PRECISIONS:
        raise ValueError(f"There is no precision {precision!r}.{nearest(precision, PRECISIONS)} Precisions: {', '.join(PRECISIONS)}.")
    if precision == "bfloat16" and backend != "torch":
        raise ValueError(f"Only the backend torch computes in bfloat16; {backend} does so in float32.")
    with blocks_apart():
        saved = models.read(run_or_file)
    if saved.preprocessing is None:
        place = run_or_file.folder if isinstance(run_or_file, Run) else run_or_file
        raise ValueError(
            f"{place} does not say how pictures are prepared: `residual convert {place} MODEL.safetensors --to residual` says it with "
            "--mean, --std and --image-size, `residual.save` with preprocessing."
        )
    network = plan(saved.architecture)
    classes = saved.classes or tuple(map(str, range(network.num_classes)))
    if backend != "torch":
        model = open_backend(backend).build(network, weights=saved.weights)
        return classifier_of(model, preprocessing=saved.preprocessing, classes=classes)
    half, device = precision == "bfloat16", torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = scorer_of(network, saved.weights, device, half=half, views=saved.preprocessing.views)
    batch = batch_of(saved.preprocessing, parted=device.type == "cpu", half=half)
    return Classifier(scores=scores, device=device, preprocessing=saved.preprocessing, classes=classes, batch=batch, half=half)


def frame_of(preprocessing: Preprocessing) -> Frame:
    """How a picture is brought to what the network sees: the same for validation, test and prediction."""
    return Frame(size=preprocessing.size, channels=preprocessing.channels, crop=preprocessing.crop)


def predict(
    run_or_model_file: Run | str | Path, images: Images, *, top_k: int = 5, backend: str = "torch", precision: str = "float32"
) -> list[Prediction]:
    """One Prediction for each picture, in order; folders are read to any depth, sorted by name.

    Args:
        images: a path, a list of paths, or uint8 pixels: H W, H W C, N H W or N H W C with 1 or 3 channels.
        precision: "float32", or "bfloat16": several times faster where the processor has it, to two or three digits (PyTorch only).

    Raises:
        ValueError: a path does not exist, a folder has no pictures, an array is not uint8, or no picture at all can be read.
    """
    return predict_with(open_classifier(run_or_model_file, backend, precision=precision), images, top_k=top_k)


def predict_with(classifier: Classifier, images: Images, *, top_k: int = 5) -> list[Prediction]:
    """As `predict`, with a model that is open already."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}, but must be a whole number of at least 1.")
    store, count = _pixels(images) if isinstance(images, np.ndarray) else _files(images)
    rows = np.arange(count, dtype=np.int64)
    lazy = Lazy(records=Records(store=store, rows=rows, labels=np.zeros_like(rows)), frame=frame_of(classifier.preprocessing))
    found = _predictions(classifier, lazy, min(top_k, len(classifier.classes)))
    if all(prediction.problem for prediction in found):
        first = found[0]
        raise ValueError(
            f"{first.name} cannot be read: {first.problem}."
            if len(found) == 1
            else f"None of the {len(found)} pictures can be read; the first is {first.name} ({first.problem})."
        )
    return found


def _predictions(classifier: Classifier, lazy: Lazy, top_k: int) -> list[Prediction]:
    device, preprocessing = classifier.device, classifier.preprocessing
    feed, normalise = Streamed(lazy, None, device, os.cpu_count() or 1), Normaliser(preprocessing, device)
    found = dict[int, Prediction]()
    for index, logits in answered(classifier.scores, feed, normalise, size=preprocessing.size, batch=classifier.batch):
        values, places = torch.softmax(logits.double(), 1).sort(dim=1, descending=True, stable=True)
        for number, shares, chosen in zip(index.tolist(), values[:, :top_k].tolist(), places[:, :top_k].tolist(), strict=True):
            classes = tuple(classifier.classes[place] for place in chosen)
            found[number] = Prediction(name=lazy.records.name(number), classes=classes, probabilities=tuple(shares))
    names = map(lazy.records.name, range(len(lazy)))
    return [found.get(number) or Prediction(name=name, problem=feed.problems[name]) for number, name in enumerate(names)]


def _files(images: str | Path | Sequence[str | Path]) -> tuple[Store, int]:
    paths = [images] if isinstance(images, str | Path) else list(images)
    if not paths:
        raise ValueError("There is no picture to predict; give a file, a folder or an array.")
    found: list[str] = []
    for path in paths:
        if not isinstance(path, str | Path):
            raise ValueError(f"A picture is a path or part of a NumPy array of uint8, and not {type(path).__name__}.")
        place = Path(path).expanduser()
        if place.is_dir():
            found += _below(place)
        elif place.exists():
            found.append(str(place))
        else:
            raise ValueError(f"There is no picture or folder {str(path)!r}.")
    return FileStore(root="", files=tuple(found)), len(found)


def _below(folder: Path) -> list[str]:
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    found = sorted(str(file) for file in files if file.suffix.lower() in EXTENSIONS and not file.name.startswith("."))
    if not found:
        raise ValueError(f"The folder {folder} has no pictures ({', '.join(sorted(EXTENSIONS))}).")
    return found


def _pixels(images: npt.NDArray[Any]) -> tuple[Store, int]:
    shape = images.shape
    if images.dtype != np.uint8:
        raise ValueError(f"Pictures as an array are uint8 from 0 to 255, and not {images.dtype}: scale and convert them first.")
    if images.ndim == 2:
        images = images[None, :, :, None]
    elif images.ndim == 3:
        images = images[None] if shape[-1] in (1, 3) else images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(f"Pictures as an array are H W, H W C, N H W or N H W C with 1 or 3 channels, and not of shape {shape}.")
    return ArrayStore(images=images, split="image"), len(images)


__all__ = ["Classifier", "Prediction", "classifier_of", "frame_of", "open_classifier", "predict", "predict_with"]
