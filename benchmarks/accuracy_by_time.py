"""Accuracy against seconds: `residual train DATA --time T` for several T and seeds, each from a cold start in a process of its own.

    python benchmarks/accuracy_by_time.py DATA --times 2,10,30,60,300 --seeds 3 --json benchmarks/results/fashion-mnist-by-time.json

"Training" is what the run itself counts (validation included); "command" is the wall time of the whole process, from its start to the
weights, the test result and the report's numbers on disk. The test set is opened once in each run, by the run.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from seeds import one  # beside this file

from residual.training.machine import machine
from residual.training.versions import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--times", default="10,30,60,300", help="seconds, with commas")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=0, help="seed, so that more can be added to a table")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table: dict[str, list[dict[str, Any]]] = {}
    print("| time | test accuracy, mean +- spread | training, s | whole command, s | net | passes |\n|---|---|---|---|---|---|")
    for seconds in options.times.split(","):
        with tempfile.TemporaryDirectory() as folder:
            seeds = range(options.first, options.first + options.seeds)
            rows = [one([options.data, "--time", f"{seconds}s"], seed, Path(folder)) for seed in seeds]
        table[seconds] = rows
        tests = [row["test_top1"] for row in rows]
        spread = f" +- {statistics.stdev(tests):.2%}" if len(tests) > 1 else ""
        span = [f"{min(row[key] for row in rows):.1f} to {max(row[key] for row in rows):.1f}" for key in ("seconds", "wall_seconds")]
        nets = ", ".join(sorted({"-".join(map(str, row["widths"])) for row in rows}))
        passes = ", ".join(sorted({str(row["epochs"]) for row in rows}))
        print(f"| {seconds} s | {statistics.mean(tests):.2%}{spread} | {span[0]} | {span[1]} | {nets} | {passes} |", flush=True)
        if options.json:  # after each time, so that an interrupted table keeps what it has
            told = {"data": Path(options.data).name, "machine": machine().as_dict(), "versions": versions(), "times": table}
            options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
