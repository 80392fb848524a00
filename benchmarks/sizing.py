"""Nets of other sizes trained for the same seconds: validation accuracy, so that the test set decides nothing.

    python benchmarks/sizing.py DATA --time 10 --seeds 2 16-32/2-2 16-32-64/1-2-2 --first-layer whitened
    python benchmarks/sizing.py DATA --time 60 16-32-64/1-2-2 --set data_pruning=0 --set learning_rate=0.2

A net is WIDTHS/STRIDES, one pre-activated basic block a stage on a 4x4/2 stem of 32 filters; WIDTHS/STRIDES/dense has a 4x4 at every
place instead. Nets take turns within a seed.
All else is what `default` fits.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from residual.recipe import EpochEnd
from residual.training.experiment import begin, proceed
from residual.training.machine import machine
from residual.variants import spelled


def net(told: str) -> str:
    """The name of the net WIDTHS/STRIDES or WIDTHS/STRIDES/dense."""
    sizes, steps, *dense = told.split("/")
    if dense not in ([], ["dense"]):
        raise SystemExit(f"{told} is no net: WIDTHS/STRIDES or WIDTHS/STRIDES/dense.")
    widths, strides = ([int(n) for n in part.split("-")] for part in (sizes, steps))
    changes: dict[str, Any] = {
        "order": "preact", "stem": "dense-patch" if dense else "patch", "stem_width": 32, "shortcut": "projection",
        "depths": [1] * len(widths), "inner_widths": widths, "out_widths": widths, "strides": strides,
    }  # fmt: skip
    return spelled("cifar_resnet8", changes)


def one(data: str, fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One training; its last validation."""
    experiment = begin(data, "default", fields, out=folder)
    ends = [event for event in proceed(experiment) if isinstance(event, EpochEnd)]
    pictures = experiment.state.step * experiment.setting.recipe.batch_size
    return {
        "validation": ends[-1].validation_accuracy, "seconds": round(ends[-1].seconds, 1), "batch": experiment.setting.recipe.batch_size,
        "passes": round(pictures / len(experiment.setting.train), 2), "pictures_per_second": round(ends[-1].images_per_second),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("nets", nargs="+", metavar="WIDTHS/STRIDES")
    parser.add_argument("--time", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-layer", default="whitened")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the recipe; the value as JSON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, changes = [], {name: json.loads(value) for name, _, value in (told.partition("=") for told in options.set)}
    print("| net | seed | batch | passes | validation | pictures/s | s |\n|---|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        for told in options.nets:
            fields = {"model": net(told), "time": options.time, "seed": seed, "first_layer": options.first_layer, **changes}
            with tempfile.TemporaryDirectory() as folder:
                row = {"net": told, "seed": seed, **one(options.data, fields, Path(folder) / "run")}
            rows.append(row)
            shown = f"{row['passes']} | {row['validation']:.2%} | {row['pictures_per_second']:,} | {row['seconds']}"
            print(f"| {told} | {seed} | {row['batch']} | {shown} |", flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine().as_dict(), "time": options.time, "set": changes, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
