"""Every variant, at full width and depth, in every framework, against the NumPy float64 reference: a table of largest differences.

    python benchmarks/parity.py --mxnet-python .venv-mxnet/bin/python --json benchmarks/results/parity.json

The difference is that of the logits, divided by the largest logit. Weights are random in every tensor; pictures have an even and an odd
side. Exits with 1 where a difference is over 1e-5.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from residual import reference
from residual.backends import BACKENDS, open_backend
from residual.layers import Network
from residual.plan import plan
from residual.variants import VARIANTS, matching
from residual.weights import Weights, initialise

TOLERANCE = 1e-5


def weights_of(network: Network) -> Weights:
    """No tensor at its default: variances around 1, scales around 1 in plain nets and 0.3 in others (a sum of 500 branches must not
    overflow), the rest around 0."""
    stream, found = np.random.default_rng(0), initialise(network)
    scale = 1.0 if network.architecture.shortcut == "none" else 0.3
    for name, value in found.items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            centre = 1.0 if name.endswith("running_var") else scale
            found[name] = (centre * stream.uniform(0.5, 1.5, value.shape)).astype(np.float32)
        elif value.ndim == 1:
            found[name] = (0.2 * stream.normal(size=value.shape)).astype(np.float32)
    return found


def pictures(network: Network) -> np.ndarray:
    small = network.architecture.stem == "cifar"
    shape = (1, network.in_channels, *((8, 9) if small else (34, 45)))
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def differences(backend: str, folder: Path, names: list[str]) -> None:
    """Prints one JSON line for each variant: its difference in `backend` from the logits kept in `folder`."""
    framework = open_backend(backend)
    for name in names:
        network = plan(VARIANTS[name])
        model = framework.build(network, weights=weights_of(network))
        wanted = np.load(folder / f"{name}.npy")
        found = framework.forward(model, pictures(network))["logits"]
        print(json.dumps({"variant": name, "difference": float(np.abs(found - wanted).max() / np.abs(wanted).max())}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pattern", default="*", help="which variants")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--mxnet-python", default=sys.executable, help="the interpreter of MXNet's environment")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names, chosen = list(matching(options.pattern)), options.backends.split(",")
    if options.within:
        differences(chosen[0], options.within, names)
        return 0
    table: dict[str, dict[str, float]] = {name: {} for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            network = plan(VARIANTS[name])
            np.save(Path(folder) / f"{name}.npy", reference.forward(network, weights_of(network), pictures(network))["logits"])
        for backend in chosen:
            python = options.mxnet_python if backend == "mxnet" else sys.executable
            command = [python, "-W", "ignore", __file__, "--within", folder, "--backends", backend, "--pattern", options.pattern]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
            for line in done.stdout.splitlines():
                row = json.loads(line)
                table[row["variant"]][backend] = row["difference"]
    print("| variant | " + " | ".join(chosen) + " |\n" + "|---" * (1 + len(chosen)) + "|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{row[backend]:.1e}" if backend in row else "-" for backend in chosen) + " |")
    complete = all(len(row) == len(chosen) and max(row.values()) <= TOLERANCE for row in table.values())
    print(f"{len(names)} variants x {len(chosen)} backends, all within {TOLERANCE:g}: {'yes' if complete else 'NO'}")
    if options.json:
        options.json.write_text(json.dumps({"tolerance": TOLERANCE, "differences": table}, indent=1) + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
