"""Trains the same thing with several seeds, each in a process of its own, and prints mean and spread.

    python benchmarks/seeds.py --seeds 3 --json benchmarks/results/fashion-60s.json -- DATA --time 60s

All after `--` goes to `residual train`. Wall time is that of the whole command, from a cold start; memory is the largest of the process.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def one(arguments: list[str], seed: int, folder: Path) -> dict[str, Any]:
    """What one seed gave."""
    run = folder / f"seed-{seed}"
    command = [sys.executable, "-m", "residual", "train", *arguments, "--seed", str(seed), "--out", str(run), "--quiet", "--no-report"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    record = json.loads((run / "run.json").read_text())
    result = record["result"]
    return {
        "seed": seed, "test_top1": result["test"]["top1"], "test_count": result["test"]["count"], "openings": len(record["test_openings"]),
        "validation_top1": result["validation_accuracy"], "train_loss": result["train_loss"], "train_top1": result["train_accuracy"],
        "epochs": result["epochs"], "seconds": result["seconds"], "wall_seconds": round(wall, 1),
        "images_per_second": round(result["images_per_second"], 1), "widths": record["architecture"]["out_widths"],
        "threads": record["machine"]["threads"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    arguments = [a for a in options.arguments if a != "--"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            rows.append(one(arguments, seed, Path(folder)))
            print(rows[-1], flush=True)
    from residual.training.machine import machine
    from residual.training.versions import versions

    tests = [row["test_top1"] for row in rows]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    told = {
        "arguments": [Path(a).name if os.sep in a else a for a in arguments], "mean_test_top1": statistics.mean(tests),
        "spread": statistics.stdev(tests) if len(tests) > 1 else None, "peak_memory_gib": round(memory, 2), "runs": rows,
        "machine": machine().as_dict(), "versions": versions(),
    }  # fmt: skip
    spread = f" +- {told['spread']:.2%}" if told["spread"] is not None else ""
    print(
        f"test accuracy {told['mean_test_top1']:.2%}{spread} over {len(rows)} seed(s), {rows[0]['test_count']:,} pictures; {memory:.2f} GiB"
    )
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
