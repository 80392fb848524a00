"""Prediction from a folder of JPEG files, model file to answers, beside scripts that a user would write: pictures per second and memory.

    python benchmarks/predict.py --variant resnet50 --json benchmarks/results/predict-resnet50.json

Each pipeline is a process of its own that opens the model's file, answers for all pictures once (not counted: threads start, code is
compiled) and then again (counted); in turn, median of all rounds. The peers open, convert, resize and cut by Pillow, in as many threads as
there are processors, and run batches of 16, one after the other: eager PyTorch with the model as `residual.load` gives it, N C H W; the
same compiled with freezing; ONNX Runtime and OpenVINO on an export of it, without PyTorch. Ours is what `residual.predict(FILE, FOLDER)`
does, which decodes ahead, in float32 and bfloat16, and `residual.evaluate(FILE, FOLDER)`, which opens the file in each pass; with `--anew`
all do. "whole" is the process's peak of memory, "rise" by how much that is more than it took with its libraries imported.
"""

import argparse
import contextlib
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 16
Pass = Callable[[], int]  # over all pictures; how many there were


def batches(folder: Path, size: int) -> Iterator[np.ndarray]:
    """What a script would read: float32 N C H W, normalised."""
    from PIL import Image

    def read(file: Path) -> np.ndarray:
        image = Image.open(file).convert("RGB")
        scale = round(size / 0.875) / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        return np.asarray(image.crop((left, top, left + size, top + size)))

    files, mean, std = sorted(folder.rglob("*.jpg")), np.float32(MEAN), np.float32(STD)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _BATCH):
            pixels = np.stack([*pool.map(read, files[start : start + _BATCH])])
            yield np.ascontiguousarray(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))


def by_script(run: Callable[[np.ndarray], np.ndarray], folder: Path, size: int) -> Pass:
    return lambda: sum(len(run(x).argmax(1)) for x in batches(folder, size))


def ours(precision: str) -> Callable[[Path, Path, int], Pass]:
    def begin(model: Path, folder: Path, size: int) -> Pass:
        from residual.training.prediction import open_classifier, predict_with

        classifier = open_classifier(model, precision=precision)
        return lambda: len(predict_with(classifier, folder))

    return begin


def evaluated(model: Path, folder: Path, size: int) -> Pass:
    from residual.training.evaluation import evaluate

    return lambda: evaluate(model, folder).count


def eager(model: Path, folder: Path, size: int, *, compiled: bool = False) -> Pass:
    import torch

    import residual

    net = residual.load(model)
    freezing: Any = contextlib.nullcontext()
    if compiled:
        import torch._inductor.config as inductor

        net, freezing = torch.compile(net), inductor.patch(freezing=True)

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad(), freezing:
            answer: np.ndarray = net(torch.from_numpy(x)).numpy()
        return answer

    return by_script(run, folder, size)


def frozen(model: Path, folder: Path, size: int) -> Pass:
    return eager(model, folder, size, compiled=True)


def onnx_runtime(model: Path, folder: Path, size: int) -> Pass:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = os.cpu_count() or 1, 3
    session = onnxruntime.InferenceSession(str(model.with_suffix(".onnx")), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return by_script(lambda x: session.run(None, {name: x})[0], folder, size)


def openvino(model: Path, folder: Path, size: int) -> Pass:
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": os.cpu_count(), "PERFORMANCE_HINT": "LATENCY"}
    made = ov.compile_model(ov.convert_model(str(model.with_suffix(".onnx"))), "CPU", settings)
    return by_script(lambda x: made(x, share_inputs=True)[0], folder, size)


PIPELINES: dict[str, tuple[Callable[[Path, Path, int], Pass], str]] = {
    "residual": (ours("float32"), "import residual.training.prediction"),
    "residual, bfloat16": (ours("bfloat16"), "import residual.training.prediction"),
    "residual, evaluate": (evaluated, "import residual.training.evaluation"),
    "eager": (eager, "import torch, residual.backends.torch, PIL.Image"),
    "compiled, freezing": (frozen, "import torch, residual.backends.torch, PIL.Image"),
    "ONNX Runtime": (onnx_runtime, "import onnxruntime, PIL.Image"),
    "OpenVINO": (openvino, "import openvino, PIL.Image"),
}


def within(name: str, model: Path, folder: Path, size: int, passes: int, *, anew: bool) -> dict[str, float]:
    """One pipeline, in this process: seconds of each pass after the first, pictures, MiB."""
    begin, imports = PIPELINES[name]
    exec(imports, {})
    before = memory("VmRSS:")
    run = (lambda: begin(model, folder, size)()) if anew else begin(model, folder, size)
    run()
    began = time.perf_counter()
    count = sum(run() for _ in range(passes))
    rate = count / (time.perf_counter() - began)
    return {"rate": rate, "whole": memory("VmHWM:"), "rise": memory("VmHWM:") - before}


def memory(field: str) -> float:
    """MiB of this process; NaN where Linux does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


def prepare(variant: str, size: int, count: int, folder: Path) -> Path:
    """Pictures, the model's file and its export."""
    import torch
    from inference import model_of
    from pictures import make_pictures

    import residual
    from residual.preprocessing import Preprocessing

    make_pictures(folder / "pictures", count)
    model, path = model_of(variant), folder / "model.safetensors"
    classes = [f"class{index}" for index in range(1000)]  # ten of them are the pictures' folders
    residual.save(model, path, classes=classes, preprocessing=Preprocessing(size=(size, size), channels=3, mean=MEAN, std=STD, crop=0.875))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    inputs, batch = (torch.rand(2, 3, size, size),), torch.export.Dim("batch")
    try:
        torch.onnx.export(
            model, inputs, str(path.with_suffix(".onnx")), opset_version=18, dynamo=True, verbose=False, dynamic_shapes=({0: batch},)
        )
    except (ImportError, RuntimeError) as error:
        print(f"Without ONNX Runtime and OpenVINO: {error}", file=sys.stderr)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--count", type=int, default=128, help="pictures")
    parser.add_argument("--passes", type=int, default=1, help="counted passes over the pictures in each process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--anew", action="store_true", help="each pass opens the model's file, and counts it")
    parser.add_argument("--pipelines", default=";".join(PIPELINES), help="names separated by ';'")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--within", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.within:
        name, model, folder = options.within
        print(json.dumps(within(name, Path(model), Path(folder), options.image_size, options.passes, anew=options.anew)))
        return
    from inference import versions

    from residual.training.machine import machine

    told: dict[str, list[dict[str, float]]] = {name: [] for name in options.pipelines.split(";")}
    with tempfile.TemporaryDirectory() as place:
        model = prepare(options.variant, options.image_size, options.count, Path(place))
        for number in range(options.rounds):
            start = number % len(told)
            for name in [*told, *told][start : start + len(told)]:
                again = [sys.executable, *sys.argv, "--within", name, str(model), f"{place}/pictures"]
                done = subprocess.run(again, capture_output=True, text=True)
                if done.returncode:
                    print(f"{name}: {(done.stderr.splitlines() or [f'ended with {done.returncode}'])[-1]}", file=sys.stderr)
                else:
                    told[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = {name: {part: [one[part] for one in rounds] for part in rounds[0]} for name, rounds in told.items() if rounds}
    anew = ", opened anew" if options.anew else ""
    print(f"{options.variant} at {options.image_size}, {options.count} JPEG files of 500x375, {options.rounds} rounds{anew}")
    base = statistics.median(rows["eager"]["rate"]) if "eager" in rows else float("nan")
    for name, row in rows.items():
        rate, whole, rise = (statistics.median(row[part]) for part in ("rate", "whole", "rise"))
        spread = f"({min(row['rate']):.1f} to {max(row['rate']):.1f})"
        more = f"({min(row['rise']):.0f} to {max(row['rise']):.0f})"
        print(f"{name:20} {rate:7.1f} pictures/s {spread}  {rate / base:.2f} of eager's  whole {whole:.0f} MiB  rise {rise:.0f} MiB {more}")
    if options.json:
        keys = {
            "variant": options.variant,
            "image_size": options.image_size,
            "count": options.count,
            "rounds": options.rounds,
            "anew": options.anew,
        }
        found = {**keys, "machine": machine().as_dict(), "versions": versions(), "pipelines": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
