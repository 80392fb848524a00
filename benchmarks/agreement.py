"""The same training in four frameworks: the losses of the first 50 steps of two nets, from one seed, on the same batches, in float32.

    python benchmarks/agreement.py --mxnet-python .venv-mxnet/bin/python --json benchmarks/results/agreement.json --page agreement.html

Each framework runs `residual train digits --recipe ... --backend ...` in a process of its own. The page shows the losses, and how far each
framework's are from PyTorch's, step by step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from residual.backends import BACKENDS

STEPS = 50
RUNS = {
    "cifar_resnet20": ("--recipe", "paper-cifar", "--model", "cifar_resnet20", "--validation", "0"),
    "resnet18_d2l": ("--recipe", "d2l", "--image-size", "32"),
}


def losses(python: str, backend: str, net: str, folder: Path) -> list[float]:
    """The loss of each of the first STEPS steps."""
    out = folder / f"{net}-{backend}"
    command = [
        python, "-W", "ignore", "-m", "residual", "train", "digits", *RUNS[net], "--batch-size", "28", "--epochs", "1", "--seed", "0",
        "--backend", backend, "--out", str(out), "--quiet", "--no-report",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
    event = json.loads((out / "events.jsonl").read_text().splitlines()[0])
    return [float(loss) for loss in event["losses"][:STEPS]]


def page(table: dict[str, dict[str, list[float]]], path: Path) -> None:
    """One HTML page with both nets: losses above, distances from PyTorch below."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    titles = [f"{net}: {what}" for what in ("loss", "|loss - PyTorch's| / PyTorch's") for net in table]
    figure = make_subplots(rows=2, cols=len(table), subplot_titles=titles)
    dashes = ("solid", "dash", "dot", "dashdot")
    for column, found in enumerate(table.values(), 1):
        steps = list(range(1, STEPS + 1))
        for (backend, values), dash in zip(found.items(), dashes, strict=False):
            line = {"dash": dash, "color": ("#000000", "#0072b2", "#d55e00", "#009e73")[dashes.index(dash)]}
            figure.add_trace(Scatter(x=steps, y=values, name=backend, line=line, showlegend=column == 1), row=1, col=column)
            if backend != "torch":
                far = [max(abs(a - b) / abs(b), 1e-9) for a, b in zip(values, found["torch"], strict=True)]
                figure.add_trace(Scatter(x=steps, y=far, name=backend, line=line, showlegend=False), row=2, col=column)
        figure.update_yaxes(type="log", row=2, col=column, exponentformat="power")
        figure.update_xaxes(title="step", row=2, col=column)
    figure.update_layout(template="plotly_white", width=1200, height=760, legend={"orientation": "h", "y": -0.12})
    path.write_text(figure.to_html(include_plotlyjs=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--mxnet-python", default=sys.executable, help="the interpreter of MXNet's environment")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    table: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for net in RUNS:
            table[net] = {}
            for backend in options.backends.split(","):
                python = options.mxnet_python if backend == "mxnet" else sys.executable
                table[net][backend] = losses(python, backend, net, Path(folder))
                far = [abs(a - b) / abs(b) for a, b in zip(table[net][backend], table[net]["torch"], strict=True)]
                told = ", ".join(f"step {step}: {max(far[:step]):.1e}" for step in (1, 5, 10, 20, 50))
                print(f"{net:15} {backend:11} largest relative distance from torch up to {told}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"steps": STEPS, "runs": RUNS, "losses": table}, indent=1) + "\n")
    if options.page:
        page(table, options.page)


if __name__ == "__main__":
    main()
