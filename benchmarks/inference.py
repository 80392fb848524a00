"""Inference beside its peers: pictures per second of one model in one process, the peers in turn, median of all rounds.

    python benchmarks/inference.py --variant resnet50 --image-size 224 --batch-size 16 --json benchmarks/results/inference-resnet50.json

Peers: PyTorch eager (N C H W, and channels last), compiled (as it is, and with freezing, which folds batch norm), ONNX Runtime and OpenVINO
on an export of the same model, all in float32; then ours and eager in bfloat16. Each gets the batch size, and all threads. A peer that
is not installed or fails is told with its reason. On a GPU, where there is one: pictures lie there, both peers of the CPU are left out,
"memory" is PyTorch's there, and its float32 convolutions are TensorFloat-32.
Weights are random, no tensor at its default. "memory" is by how much the peak of a process of its own, which had made the model and
nothing else, rose while the peer was made and first run: the median of some processes, since what the model's making left free differs.
"""

import argparse
import copy
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from residual.backends import torch as backend
from residual.backends.torch_inference import inference_form
from residual.cost import cost
from residual.plan import plan
from residual.training.machine import machine
from residual.variants import architecture

Call = Callable[[Tensor], Tensor]


def model_of(variant: str) -> backend.ResidualNet:
    """The variant with random weights whose activations stay near 1."""
    model, stream = backend.build(plan(architecture(variant))), np.random.default_rng(0)
    weights = backend.get_weights(model)
    for name, value in weights.items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            weights[name] = stream.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif value.ndim == 1:
            weights[name] = (0.2 * stream.standard_normal(value.shape)).astype(np.float32)
    backend.set_weights(model, weights)
    return model


def residual(model: backend.ResidualNet, x: Tensor) -> Call:
    return inference_form(model)


def residual_bfloat16(model: backend.ResidualNet, x: Tensor) -> Call:
    return inference_form(model, half=True)


def eager_bfloat16(model: backend.ResidualNet, x: Tensor) -> Call:
    """Channels last and autocast."""
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def call(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            found: Tensor = other(images.contiguous(memory_format=torch.channels_last))
            return found.float()

    return call


def autocast(model: backend.ResidualNet, x: Tensor) -> Call:
    """N C H W."""

    def call(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            found: Tensor = model(images)
            return found.float()

    return call


def eager(model: backend.ResidualNet, x: Tensor) -> Call:
    return model


def channels_last(model: backend.ResidualNet, x: Tensor) -> Call:
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda images: other(images.contiguous(memory_format=torch.channels_last))


def compiled(model: backend.ResidualNet, x: Tensor) -> Call:
    call: Call = torch.compile(lambda images: model(images))
    return call


def frozen(model: backend.ResidualNet, x: Tensor) -> Call:
    import torch._inductor.config as inductor

    other = copy.deepcopy(model)
    call: Call = torch.compile(lambda images: other(images))  # not the lambda above, whose compiled code would be taken
    with inductor.patch(freezing=True):
        call(x)  # it is compiled here
    return call


def onnx_runtime(model: backend.ResidualNet, x: Tensor) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(exported(model, x, folder), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def openvino(model: backend.ResidualNet, x: Tensor) -> Call:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    with tempfile.TemporaryDirectory() as folder:
        made = ov.compile_model(ov.convert_model(exported(model, x, folder)), "CPU", settings)
    return lambda images: torch.from_numpy(made(images.numpy(), share_inputs=True)[0])


def exported(model: backend.ResidualNet, x: Tensor, folder: str) -> str:
    path = str(Path(folder) / "model.onnx")
    torch.onnx.export(model, (x,), path, opset_version=18, dynamo=True, verbose=False)
    return path


PEERS: dict[str, Callable[[backend.ResidualNet, Tensor], Call]] = {
    "residual": residual,
    "eager": eager,
    "eager, channels last": channels_last,
    "compiled": compiled,
    "compiled, freezing": frozen,
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
    "residual, bfloat16": residual_bfloat16,
    "eager, bfloat16": eager_bfloat16,
    "eager, bfloat16, N C H W": autocast,
}
CPU_ONLY = ("ONNX Runtime", "OpenVINO")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured, by peer, and on what."""
    arch = architecture(options.variant)
    size = (options.image_size,) * 2
    device = machine().device
    model, x = model_of(options.variant).to(device), torch.rand(options.batch_size, arch.in_channels, *size, device=device)
    rows: dict[str, dict[str, Any]] = {}
    calls: dict[str, Call] = {}
    with torch.no_grad():
        wanted = model(x)
        for name in [name for name in options.peers.split(";") if device == "cpu" or name not in CPU_ONLY]:
            began = time.perf_counter()
            try:
                call = PEERS[name](model, x)
                difference = float((call(x) - wanted).abs().max() / wanted.abs().max())
                seconds = time.perf_counter() - began
                again = [sys.executable, *sys.argv, "--within", name]
                told = [subprocess.run(again, check=True, capture_output=True, text=True).stdout for _ in range(options.processes)]
            except Exception as error:
                rows[name] = {"missing": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
                continue
            calls[name] = call
            rows[name] = {
                "seconds_to_first": seconds, "difference": difference, "rates": [],
                "memory_mib": sorted(float(text.splitlines()[-1]) for text in told),
            }  # fmt: skip
        for number in range(options.rounds):
            start = number % len(calls)
            for name in [*calls, *calls][start : start + len(calls)]:
                call = calls[name]
                call(x)  # not counted: threads of the peer before may still be spinning
                wait()
                began = time.perf_counter()
                for _ in range(options.repeat):
                    call(x)
                wait()
                rows[name]["rates"].append(options.repeat * len(x) / (time.perf_counter() - began))
    for name in calls:
        rows[name]["median"] = statistics.median(rows[name]["rates"])
    macs = cost(arch, image_size=size).macs
    return {
        "variant": options.variant, "image_size": options.image_size, "batch_size": options.batch_size, "rounds": options.rounds,
        "gflop_per_picture": 2 * macs / 1e9, "machine": machine().as_dict(), "versions": versions(), "peers": rows,
    }  # fmt: skip


def alone(name: str, options: argparse.Namespace) -> float:
    """MiB by which the peak of this process rises for one peer."""
    model = model_of(options.variant).to(machine().device)
    x = torch.rand(options.batch_size, model.plan.in_channels, options.image_size, options.image_size, device=machine().device)
    before = memory(reset=True)
    with torch.no_grad():
        PEERS[name](model, x)(x)
    return memory() - before


def memory(*, reset: bool = False) -> float:
    """MiB of this process, or on its GPU where there is one: the largest since the last `reset`, or with `reset` those now. NaN where
    Linux does not tell."""
    if torch.cuda.is_available():
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    wanted = "VmRSS:" if reset else "VmHWM:"
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(wanted)), float("nan"))


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("torch", "onnx", "onnxruntime", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def show(found: dict[str, Any]) -> None:
    print(f"{found['variant']} at {found['image_size']}, batch {found['batch_size']}, {found['gflop_per_picture']:.2f} GFLOP a picture")
    print(json.dumps(found["machine"]), json.dumps(found["versions"]))
    base = found["peers"].get("eager", {}).get("median")
    for name, row in found["peers"].items():
        if "missing" in row:
            print(f"{name:22} missing: {row['missing']}")
            continue
        ratio = f"{row['median'] / base:.2f} of eager's" if base else ""
        print(
            f"{name:22} {row['median']:7.2f} pictures/s ({min(row['rates']):.2f} to {max(row['rates']):.2f})  {ratio}  "
            f"difference {row['difference']:.1e}  first answer after {row['seconds_to_first']:.1f} s  "
            f"memory {statistics.median(row['memory_mib']):.0f} MiB ({row['memory_mib'][0]:.0f} to {row['memory_mib'][-1]:.0f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=1, help="batches timed together")
    parser.add_argument("--processes", type=int, default=5, help="in which each peer's memory is measured")
    parser.add_argument("--peers", default=";".join(PEERS), help="names separated by ';'")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--within", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.rounds, options.repeat, options.processes) < 1:
        parser.error("--rounds, --repeat and --processes must be at least 1.")
    warnings.simplefilter("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    if options.within:
        print(alone(options.within, options))
        return
    found = measure(options)
    show(found)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
