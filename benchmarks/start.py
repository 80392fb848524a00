"""How long commands take to begin: `import residual`, `residual --help`, `list`, and the first training step of `train digits`.

    python benchmarks/start.py --json benchmarks/results/start.json

Each is a process of its own from its start to its end, in turn with the others, after a first turn that is not counted; beside them stands
the import of PyTorch alone, of which the first step consists for the most part. The first step's process ends right behind it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_FIRST_STEP = """
import os, sys
from residual.cli import main
from residual.training import experiment
steps = experiment.fit
def fit(*given):
    for event in steps(*given):
        os._exit(0)
experiment.fit = fit
main(["train", "digits", "--out", sys.argv[1]])
"""
_COMMANDS = {
    "python alone": ["-c", "pass"],
    "import residual": ["-c", "import residual"],
    "residual --help": ["-c", "from residual.cli import main; main(['--help'])"],
    "residual list": ["-c", "from residual.cli import main; main(['list'])"],
    "import torch": ["-c", "import torch"],
    "first step of train digits": ["-c", _FIRST_STEP],
}


def measured(arguments: list[str], folder: Path) -> float:
    """Seconds of the process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments, str(folder)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds + 1):
            for name, arguments in _COMMANDS.items():
                taken = measured(arguments, Path(folder) / str(turn))
                if turn:
                    seconds[name].append(taken)
    for name, taken in seconds.items():
        print(f"{name:28} {statistics.median(taken):6.2f} s ({min(taken):.2f} to {max(taken):.2f})")
    from residual.training.machine import machine
    from residual.training.versions import versions

    told: dict[str, Any] = {"seconds": seconds, "machine": machine().as_dict(), "versions": versions("torch")}
    print(told["machine"], told["versions"], sep="\n")
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
