"""The same training in four frameworks: the losses of the first 50 steps of two nets, from one seed, on the same batches, in float32.

    python benchmarks/agreement.py --mxnet-python .venv-mxnet/bin/python --json benchmarks/results/agreement.json --page agreement.html

What they may differ by is measured, not chosen: PyTorch trains again from first weights that are off by one part in a million (what
sums in another order leave after a few layers), and the distance this makes by each step, times MARGIN, is the tolerance of that step.
The page shows the losses, each framework's distance from PyTorch's, and that tolerance.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from residual.backends import BACKENDS, open_backend
from residual.plan import plan
from residual.recipe import Batches, Recipe
from residual.training.loop import order
from residual.training.recipes import recipe
from residual.variants import architecture

STEPS, PERTURBED, OFF, MARGIN, FLOOR = 50, 4, 1e-6, 10.0, 2e-6
# net -> its recipe, learning rate, batch, side of the pictures. Gentle rates show agreement over all 50 steps; at the recipes' own
# rates a difference in the last bit doubles every step or two, whatever the framework.
RUNS = {
    "cifar_resnet20, rate 0.001": ("cifar_resnet20", "paper-cifar", 0.001, 64, 8),
    "cifar_resnet20, rate 0.1": ("cifar_resnet20", "paper-cifar", 0.1, 64, 8),
    "resnet18_d2l, rate 0.00001": ("resnet18_d2l", "d2l", 0.00001, 16, 48),
    "resnet18_d2l, rate 0.05": ("resnet18_d2l", "d2l", 0.05, 16, 48),
}
GENTLE = [run for run, (*_, rate, _, _) in RUNS.items() if rate <= 0.001]
RESULTS = Path(__file__).parent / "results" / "agreement.json"
Losses = npt.NDArray[np.float64]


def setting(run: str, steps: int = STEPS) -> tuple[str, Recipe, Batches]:
    """The net's name, its recipe, and one epoch of batches of the digits in the training loop's own order.

    Where the rate is constant, as in `d2l`, fewer steps are the first of STEPS.
    """
    from sklearn.datasets import load_digits

    net, name, rate, size, side = RUNS[run]
    chosen = replace(recipe(name), learning_rate=rate, batch_size=size, epochs=1)
    digits = load_digits()
    images = np.repeat(np.repeat(digits.images[:, None] / 16, side // 8, 2), side // 8, 3).astype(np.float32)
    labels = digits.target.astype(np.int64)
    chunks = [chunk for epoch in range(4) for chunk in order(len(labels), chosen, epoch) if len(chunk) == size]
    return net, chosen, [[(images[chunk], labels[chunk]) for chunk in chunks[:steps]]]


def train(run: str, backend: str, off: float = 0.0, seed: int = 0, *, steps: int = STEPS) -> Losses:
    """The losses of the steps, from first weights that are `off` by a share of their size."""
    net, chosen, batches = setting(run, steps)
    framework = open_backend(backend)
    model = framework.build(plan(architecture(net, in_channels=1, num_classes=10)), 0)
    if off:
        noise = np.random.default_rng(seed)
        first = framework.get_weights(model)
        framework.set_weights(model, {k: (v * (1 + off * noise.standard_normal(v.shape))).astype(np.float32) for k, v in first.items()})
    (end,) = framework.fit(model, batches, chosen)
    return np.array(end.losses)


def distance(losses: Losses, from_: Losses) -> Losses:
    """Relative, the largest up to each step."""
    found: Losses = np.maximum.accumulate(np.abs(losses - from_) / np.abs(from_))
    return found


def tolerance(run: str, torch: Losses, perturbed: int = PERTURBED) -> Losses:
    """What frameworks may be apart by each step: MARGIN times what PyTorch is apart from itself, and FLOOR at least."""
    apart = [distance(train(run, "torch", OFF, seed), torch) for seed in range(1, perturbed + 1)]
    found: Losses = np.maximum(MARGIN * np.max(apart, 0), FLOOR)
    return found


def recorded(run: str) -> Losses:
    """The tolerance as it was measured, from the results beside this file."""
    found: Losses = np.array(json.loads(RESULTS.read_text(encoding="utf-8"))["losses"][run]["tolerance"])
    return found


def elsewhere(run: str, backend: str, python: str = sys.executable) -> Losses:
    """The same in a process of its own, because Keras can be only one of its backends in a process."""
    command = [python, "-W", "ignore", __file__, "--within", run, "--backends", backend]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def page(table: dict[str, dict[str, list[float]]], path: Path) -> None:
    """One HTML page: losses above, distances from PyTorch and the tolerance below."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=len(table), subplot_titles=[*table, *("distance from PyTorch" for _ in table)])
    looks = {"torch": ("#000000", "solid"), "tensorflow": ("#d55e00", "dash"), "jax": ("#0072b2", "dot"), "mxnet": ("#009e73", "dashdot")}
    steps = list(range(1, STEPS + 1))
    for column, found in enumerate(table.values(), 1):
        for name, (color, dash) in looks.items():
            if name in found:
                line = {"color": color, "dash": dash}
                figure.add_trace(Scatter(x=steps, y=found[name], name=name, line=line, showlegend=column == 1), row=1, col=column)
                far = np.maximum(distance(np.array(found[name]), np.array(found["torch"])), 1e-9)
                if name != "torch":
                    figure.add_trace(Scatter(x=steps, y=far.tolist(), line=line, showlegend=False), row=2, col=column)
        shade = {"color": "#999999", "width": 1}
        figure.add_trace(Scatter(x=steps, y=found["tolerance"], name="tolerance", line=shade, showlegend=column == 1), row=2, col=column)
        figure.update_yaxes(type="log", row=2, col=column, exponentformat="power")
        figure.update_xaxes(title="step", row=2, col=column)
    figure.update_layout(template="plotly_white", width=1500, height=760, legend={"orientation": "h", "y": -0.12})
    path.write_text(figure.to_html(include_plotlyjs=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default=",".join(BACKENDS[1:]), help="those compared with torch")
    parser.add_argument("--mxnet-python", default=sys.executable, help="the interpreter of MXNet's environment")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--within", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within:
        print(json.dumps(train(options.within, options.backends).tolist()))
        return 0
    table: dict[str, dict[str, list[float]]] = {}
    good = True
    for run in RUNS:
        torch = train(run, "torch")
        allowed = tolerance(run, torch)
        table[run] = {"torch": torch.tolist(), "tolerance": allowed.tolist()}
        print(f"{run}: tolerance " + ", ".join(f"step {s}: {allowed[s - 1]:.0e}" for s in (1, 2, 5, 10, 20, 50)), flush=True)
        for backend in options.backends.split(","):
            found = elsewhere(run, backend, options.mxnet_python if backend == "mxnet" else sys.executable)
            table[run][backend], far = found.tolist(), distance(found, torch)
            good &= bool((far <= allowed).all())
            told = ", ".join(f"step {s}: {far[s - 1]:.0e}" for s in (1, 2, 5, 10, 20, 50))
            print(f"  {backend:11} {told}  {'within' if (far <= allowed).all() else 'NOT WITHIN'}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"steps": STEPS, "runs": RUNS, "losses": table}, indent=1) + "\n")
    if options.page:
        page(table, options.page)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
