"""Training steps beside their peers: pictures per second of one net in one process, the peers in turn, median of all rounds.

    python benchmarks/training.py --json benchmarks/results/training-resnet18-96-256.json

As it stands, ResNet-18 at 96x96 in batches of 256, as the chapter trains. Peers: the chapter's loop (eager, float32, N C H W), the same
in channels last, with bfloat16 autocast where that is faster, and what a well-read user switches on (all of this and torch.compile);
on a GPU also autocast in N C H W, and memory is PyTorch's there. Ours is the loop of `residual train` itself, from uint8 pictures in
memory to the optimizer's step, with what `default` picks here. Pictures and labels are random. Compiling is not counted; it is told.
Nor is the first step of each peer in each round. "memory" is by how much the peak of a process of its own rose while it made one of them
and did eight steps: the median of some processes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import memory, wait
from torch.nn import functional as F

from residual.backends import torch as backend
from residual.backends.allocator import memory_kept, training_memory
from residual.backends.torch_convolution import in_layout
from residual.backends.torch_training import training_form
from residual.cost import cost
from residual.data import Decoded
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.recipe import Recipe
from residual.training.feed import Normaliser, Resident
from residual.training.loop import Setting, State, StepEnd, fit
from residual.training.machine import Trial, machine, training_way
from residual.training.versions import versions
from residual.variants import architecture

Step = Callable[[], None]


def written_by_hand(options: argparse.Namespace, *, last: bool, compiled: bool, half: bool) -> Step:
    """The loop that a user writes: pictures are normalised floats on the device already, so that only the step is measured."""
    device = torch.device(machine().device)
    layout = torch.channels_last if last else torch.contiguous_format
    model = backend.build(network(options)).to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.__class__ = torch.nn.Conv2d  # PyTorch's own, not the faster one that `build` takes
    call, chosen = torch.compile(model) if compiled else model, torch.optim.SGD(model.parameters(), 0.05)
    x = torch.rand(options.batch_size, model.plan.in_channels, options.image_size, options.image_size, device=device)
    x, labels = in_layout(x, channels_last=last), torch.randint(10, (len(x),), device=device)  # really so, for one channel too

    def step() -> None:
        chosen.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(call(x).float(), labels)
        loss.backward()
        chosen.step()

    return step


def ours(options: argparse.Namespace, *, compiled: bool, half: bool) -> Step:
    """The package's own loop, taken a step at a time."""
    device, size = torch.device(machine().device), (options.image_size,) * 2
    stream, count = np.random.default_rng(0), options.batch_size * 4
    channels = network(options).in_channels
    recipe = Recipe(epochs=10**5, batch_size=options.batch_size, learning_rate=0.05, validation=0.0, compile=compiled)
    model = backend.build(network(options)).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures, labels = stream.integers(0, 256, (count, *size, channels), np.uint8), stream.integers(0, 10, count)
    train = Resident(Decoded(images=pictures, labels=labels, names=[], problems=(), kept=np.arange(count)), None, device)
    preprocessing = Preprocessing(size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    setting = Setting(
        recipe=recipe, train=train, validation=None, normalise=Normaliser(preprocessing, device), size=size, device=device,
        half=half, call=training_form(model, half=half, compiled=compiled),
    )  # fmt: skip
    events: Iterator[Any] = fit(State(model=model, optimizer=backend.optimizer(model, recipe)), setting)

    def step() -> None:
        while not isinstance(next(events), StepEnd):
            pass

    return step


def network(options: argparse.Namespace) -> Any:
    return plan(replace(architecture(options.variant, num_classes=10), in_channels=options.channels))


def makers(options: argparse.Namespace, half: bool) -> dict[str, Callable[[], Step]]:
    on_gpu = {"autocast": lambda: written_by_hand(options, last=False, compiled=False, half=half)}
    return {
        "the chapter's loop": lambda: written_by_hand(options, last=False, compiled=False, half=False),
        **(on_gpu if machine().device != "cpu" else {}),
        "channels last": lambda: written_by_hand(options, last=True, compiled=False, half=False),
        "channels last, autocast": lambda: written_by_hand(options, last=True, compiled=False, half=half),
        "well-read user": lambda: written_by_hand(options, last=True, compiled=True, half=half),
        "residual": lambda: ours(options, compiled=False, half=half),
        "residual, compiled": lambda: ours(options, compiled=True, half=half),
    }


def kept(name: str) -> AbstractContextManager[None]:
    """Memory as `residual train` has it."""
    return memory_kept() if name.startswith("residual") else nullcontext()


def alone(name: str, options: argparse.Namespace) -> float:
    """MiB by which the peak of this process rises for one peer."""
    machine()
    before = memory(reset=True)
    with training_memory() if name.startswith("residual") else nullcontext(lambda: None) as step_done:
        step = makers(options, options.half)[name]()
        for _ in range(8):
            step()
            step_done()
    return memory() - before


def measure(options: argparse.Namespace) -> dict[str, Any]:
    half = machine().half
    if machine().device == "cpu" and half:  # a GPU that has it takes it, a processor where a trial says so
        half = training_way(network(options).architecture, (options.image_size,) * 2, Trial(batch=16), halves=(False, True)).half
    rows: dict[str, dict[str, Any]] = {}
    steps: dict[str, Step] = {}
    for name, make in makers(options, half).items():
        again = [sys.executable, *sys.argv, "--within", name, *(["--half"] if half else [])]
        told = [subprocess.run(again, check=True, capture_output=True, text=True).stdout for _ in range(options.processes)]
        began = time.perf_counter()
        steps[name] = make()
        steps[name]()
        rows[name] = {"seconds_to_first": round(time.perf_counter() - began, 2), "rates": []}
        rows[name]["memory_mib"] = sorted(float(text.splitlines()[-1]) for text in told)
        steps[name]()
    for _ in range(options.rounds):
        for name, step in steps.items():
            with kept(name):
                step()
                wait()
                began = time.perf_counter()
                for _ in range(options.steps):
                    step()
                wait()
                rows[name]["rates"].append(options.steps * options.batch_size / (time.perf_counter() - began))
    for row in rows.values():
        row["median"] = statistics.median(row["rates"])
    macs = cost(network(options).architecture, image_size=(options.image_size,) * 2).macs
    return {
        "variant": options.variant, "image_size": options.image_size, "batch_size": options.batch_size, "rounds": options.rounds,
        "steps": options.steps, "bfloat16": half,
        "gflop_per_picture": 6 * macs / 1e9, "machine": machine().as_dict(), "versions": versions(), "peers": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="resnet18")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="in each round")
    parser.add_argument("--processes", type=int, default=3, help="in which each peer's memory is measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--within", help=argparse.SUPPRESS)
    parser.add_argument("--half", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.rounds, options.steps, options.processes) < 1:
        parser.error("--rounds, --steps and --processes must be at least 1.")
    if options.within:
        print(alone(options.within, options))
        return
    told = measure(options)
    rows, base = told["peers"], told["peers"]["the chapter's loop"]["median"]
    print(
        f"{options.variant} at {options.image_size}x{options.image_size}, batch {options.batch_size}, {told['machine']}, {told['versions']}"
    )
    floor = told["machine"]["gmac_per_second"] * 2 / told["gflop_per_picture"]
    print(f"floor: {told['gflop_per_picture']:.2f} GFLOP a picture at this machine's matrix rate is {floor:.0f} pictures/s")
    for name, row in rows.items():
        low, high = min(row["rates"]), max(row["rates"])
        print(
            f"{name:24} {row['median']:8.1f} pictures/s ({low:.1f} to {high:.1f})  {row['median'] / base:.2f} x the chapter's  "
            f"first step after {row['seconds_to_first']:.1f} s  memory {statistics.median(row['memory_mib']):.0f} MiB "
            f"({row['memory_mib'][0]:.0f} to {row['memory_mib'][-1]:.0f})"
        )
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
