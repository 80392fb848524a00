"""A point of a loss surface: by the study, and by a model rebuilt for it, in one process, one after the other.

    python benchmarks/landscape.py runs/cifar_resnet20 --count 4000 --subset 400 --json benchmarks/results/landscape.json

"rebuild" is the public way: create, set_weights, forward of batches of 256 prepared pictures. "evaluate" also prepares the pictures anew,
as `residual.evaluate` does for every model. Each number is the median of the rounds, a round being one point of a random plane for each in
turn. "subset" is the study on fewer pictures, whose error bars stand beside it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import residual
from residual.backends import torch as backend
from residual.backends.torch_moving import MovingNet
from residual.study.bench import Ask, Bench, open_bench
from residual.study.landscape import random_plane, standard_error
from residual.training.evaluation import evaluate_model
from residual.training.machine import machine
from residual.training.prediction import classifier_of
from residual.training.versions import versions
from residual.weights import Weights

Losses = Callable[[float, float], np.ndarray]
_BATCH = 256


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels), reduction="none").numpy()


def ways(bench: Bench, subset: int, seed: int) -> dict[str, Losses]:
    """Name -> the losses at (a, b) that this way finds."""
    (subject,) = bench.subjects
    prepared = subject.preprocessing
    assert prepared is not None
    x, labels, center = bench.pictures(subject), bench.targets(subject), subject.weights
    plane = random_plane(center, seed, 1.0, 3)
    rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:subset])

    def rebuilt(a: float, b: float) -> Any:
        weights: Weights = {name: value + np.float32(a) * plane.x[name] + np.float32(b) * plane.y[name] for name, value in center.items()}
        model = residual.create(subject.network.architecture)
        backend.set_weights(model, weights)
        return model

    def by_forward(a: float, b: float) -> np.ndarray:
        model = rebuilt(a, b)
        logits = [backend.forward(model, x[start : start + _BATCH])["logits"] for start in range(0, len(x), _BATCH)]
        return cross_entropy(np.concatenate(logits), labels)

    def by_evaluate(a: float, b: float) -> np.ndarray:
        classes = subject.classes or tuple(map(str, range(subject.network.num_classes)))
        found = evaluate_model(classifier_of(rebuilt(a, b), preprocessing=prepared, classes=classes), bench.records, split=bench.ask.split)
        return -np.log(np.maximum(found.probabilities[np.arange(len(labels)), labels], 1e-300))

    def moving(chosen: Any) -> Losses:
        net = MovingNet(subject.network, center, x[chosen], labels[chosen])
        directions = [net.direction(plane.x), net.direction(plane.y)]
        return lambda a, b: net.losses((a, b), directions)[0]

    return {"rebuild": by_forward, "evaluate": by_evaluate, "study": moving(slice(None)), "subset": moving(rows)}


def measured(chosen: dict[str, Losses], repeats: int, population: int) -> dict[str, Any]:
    """Median seconds of a point, ratios to "rebuild", and how far each way's loss is from it, over `repeats` points."""
    stream = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    apart: dict[str, list[float]] = {name: [] for name in chosen}
    bars, off = list[float](), list[float]()
    for turn in range(repeats + 1):
        a, b = stream.uniform(-0.5, 0.5, 2).tolist()
        found = {}
        for name, losses in chosen.items():
            began = time.perf_counter()
            found[name] = losses(a, b)
            seconds[name].append(time.perf_counter() - began)
        if turn == 0:  # the first round warms up
            seconds = {name: [] for name in chosen}
            continue
        wanted = found["rebuild"].mean()
        for name in ("evaluate", "study"):
            apart[name].append(abs(found[name].mean() / wanted - 1))
        bars.append(standard_error(found["subset"], population) / wanted)
        off.append((found["subset"].mean() - wanted) / wanted)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds_a_point": middle,
        "times_faster_than_rebuild": {name: middle["rebuild"] / value for name, value in middle.items()},
        "all_seconds": seconds,
        "largest_relative_difference": {name: max(apart[name]) for name in ("evaluate", "study")},
        "subset_standard_error": bars,
        "subset_off_by": off,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run, a model file or a variant")
    parser.add_argument("--data", default="")
    parser.add_argument("--split", default="train")
    parser.add_argument("--count", type=int, default=4000, help="pictures that count as all")
    parser.add_argument("--subset", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = open_bench(Ask(models=(options.model,), data=options.data, split=options.split, count=options.count), "landscape")
    result = {
        "model": bench.subjects[0].label, "data": bench.told, "subset": options.subset, "machine": machine().as_dict(),
        "versions": versions(), "threads": torch.get_num_threads(),
        **measured(ways(bench, options.subset, 0), options.repeats, options.count),
    }  # fmt: skip
    print(f"{result['model']}, {options.count} pictures, {result['threads']} threads, median of {options.repeats} points")
    for name, value in result["seconds_a_point"].items():
        print(f"  {name:<9} {value:8.3f} s a point  {result['times_faster_than_rebuild'][name]:6.2f} times as fast as rebuild")
    print(f"  study against rebuild: loss apart by {result['largest_relative_difference']['study']:.1e} of it")
    bars = ", ".join(
        f"{off:+.1%} (bar {bar:.1%})" for off, bar in zip(result["subset_off_by"], result["subset_standard_error"], strict=True)
    )
    print(f"  subset of {options.subset}: off by {bars}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
