"""The chapter's recipe in four frameworks: pictures per second of training ResNet-18 at 96x96, batch 256, float32, beside each other.

    python benchmarks/frameworks.py --mxnet-python .venv-mxnet/bin/python --json benchmarks/results/frameworks.json

Each framework trains `--recipe d2l` on random pictures in a process of its own, the frameworks in turn, twice; an epoch is two steps. The
first epoch of a process (compilation) is told apart. The median and range are over all other epochs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from residual.backends import BACKENDS

PICTURES, EPOCHS, ROUNDS = 512, 4, 2


def train(backend: str) -> dict[str, Any]:
    """Pictures per second of each epoch, by the run's own record."""
    import numpy as np

    import residual

    stream = np.random.default_rng(0)
    data = (stream.integers(0, 256, (PICTURES * 5 // 4, 28, 28), np.uint8), np.arange(PICTURES * 5 // 4) % 10)
    with tempfile.TemporaryDirectory() as folder:
        run = residual.train(data, recipe="d2l", backend=backend, epochs=EPOCHS, out=Path(folder) / "run")
        return {
            "rates": [end.images_per_second for end in run.events()], "trained": run.record["split"]["train"],
            "versions": run.record["versions"], "machine": run.record["machine"],
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--mxnet-python", default=sys.executable, help="the interpreter of MXNet's environment")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within:
        print(json.dumps(train(options.backends)))
        return
    found: dict[str, dict[str, Any]] = {}
    for _ in range(ROUNDS):
        for backend in options.backends.split(","):
            python = options.mxnet_python if backend == "mxnet" else sys.executable
            command = [python, "-W", "ignore", __file__, "--within", "--backends", backend]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
            told = json.loads(done.stdout.splitlines()[-1])
            row = found.setdefault(backend, {"rates": [], "first": [], "versions": told["versions"], "machine": told["machine"]})
            row["first"].append(told["rates"][0])
            row["rates"] += told["rates"][1:]
            print(backend, [round(rate, 1) for rate in told["rates"]], flush=True)
    base = statistics.median(found["torch"]["rates"]) if "torch" in found else None
    for backend, row in found.items():
        row["median"] = statistics.median(row["rates"])
        ratio = f", {row['median'] / base:.2f} of torch's" if base else ""
        print(f"{backend:11} {row['median']:.1f} pictures/s ({min(row['rates']):.1f} to {max(row['rates']):.1f}){ratio}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
