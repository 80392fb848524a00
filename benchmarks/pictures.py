"""A folder of JPEG files to batches, beside a plain pipeline of Pillow and PyTorch's DataLoader with the same workers.

    python benchmarks/pictures.py --json benchmarks/results/pictures.json
    python benchmarks/pictures.py --folder FLOWERS_FOLDER --size 96 --crop 1
    python benchmarks/pictures.py --made 2000x1500 --count 200
    python benchmarks/pictures.py --pixels

The peer is written from the libraries' own tutorials: open, convert to RGB, resize the shorter side (bilinear), cut the centre, make a
float32 tensor and normalise it (ToTensor and Normalize as torchvision describes them); the DataLoader's workers do all of it and stack.
Ours are the same batches, normalised whole, as in a training. With `--pixels` both end at uint8, N H W C. Ours is what `residual train`
reads from: `streamed` where pictures do not fit into memory, from an empty cache, and `later run`, a process that finds that cache full;
`fitting` where they would fit: decoded first, from an empty cache, then looked up in memory or, where they take more of it than is spent
on them, read from the cache. The pipelines run in turn, each in a process of its own, and are compared with the peer of the same round;
both epochs are in a fresh random order and count from the first call to the last batch. Memory is the highest sum over the process and
its children of their proportional set sizes (shared pages count once).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PIPELINES = ("peer", "streamed", "later run", "fitting")


def make_pictures(folder: Path, count: int, side: tuple[int, int] = (500, 375), quality: int = 90) -> None:
    """`count` JPEG files in ten class folders: colour noise whose amplitude falls as one over frequency, as in photographs."""
    from PIL import Image

    width, height = side
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    for index in range(count):
        stream = np.random.default_rng(index)
        spectrum = stream.standard_normal((3, *frequency.shape)) + 1j * stream.standard_normal((3, *frequency.shape))
        planes = np.fft.irfft2(spectrum / np.maximum(frequency, 1), (height, width))
        planes = planes[:1] + 0.3 * planes  # the three colours of a photograph are much alike
        pixels = np.clip(128 + 50 * planes / planes.std(), 0, 255).astype(np.uint8)
        place = folder / f"class{index % 10}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(place / f"{index:05}.jpg", quality=quality)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, in 0..1


class Photographs:
    """The peer's data set."""

    def __init__(self, files: list[str], size: int, crop: float, *, pixels: bool) -> None:
        self.files, self.size, self.shorter, self.pixels = files, size, round(size / crop), pixels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        image = Image.open(self.files[index]).convert("RGB")
        scale = self.shorter / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
        pixels = np.array(image.crop((left, top, left + self.size, top + self.size)))
        return pixels if self.pixels else self._tensor(pixels), index % 10

    def _tensor(self, pixels: Any) -> Any:
        import torch

        tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        return tensor.sub_(mean).div_(std)


def epochs(pipeline: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of two epochs, and the pictures in one."""
    import torch

    from residual.backends.allocator import training_memory
    from residual.data import Frame, Lazy, decode, decode_into, memory_plan, open_source
    from residual.data.cache import open_cache
    from residual.preprocessing import Preprocessing
    from residual.training.feed import Feed, Normaliser, Resident, Streamed

    source, frame = open_source(options.folder), Frame(size=(options.size, options.size), channels=3, crop=options.crop)
    records, device = source.splits["train"], torch.device("cpu")
    photographs: Any = Photographs(records.names, options.size, options.crop, pixels=options.pixels)
    normalise = Normaliser(Preprocessing(size=frame.size, channels=3, mean=MEAN, std=STD), device)
    loader = torch.utils.data.DataLoader(photographs, batch_size=options.batch, shuffle=True, num_workers=options.workers)
    feed: Feed | None = None
    seconds = []
    for epoch in range(2):
        order = np.random.default_rng(epoch).permutation(len(records))
        chunks = [order[start : start + options.batch] for start in range(0, len(order), options.batch)]
        began = time.perf_counter()
        if pipeline == "peer":
            count = sum(len(images) for images, _ in loader)
        else:
            if feed is None:
                cache, _ = open_cache(source, "train", frame)
                assert cache is not None
                place = memory_plan(len(records), frame, cached=True).place if pipeline == "fitting" else "stream"
                if place == "cache":
                    decode_into(cache, records, frame, workers=options.workers)
                if place == "memory":
                    feed = Resident(decode(records, frame, workers=options.workers, cache=cache), None, device)
                else:
                    feed = Streamed(Lazy(records=records, frame=frame, cache=cache), None, device, options.workers)
            assert feed is not None
            count = 0
            with training_memory() as step_done:
                for images, _, _ in feed.read(chunks):
                    count += len(images if options.pixels else normalise(images))
                    del images  # as a training does
                    step_done()
        seconds.append(time.perf_counter() - began)
        assert count == len(records)
    return {"seconds": seconds, "pictures": len(records), "torch": torch.__version__}


def measured(pipeline: str, options: argparse.Namespace, cache: str) -> dict[str, Any]:
    """What `epochs` gave in a process of its own, and the highest memory of that process and its children, in MiB."""
    command = [sys.executable, __file__, "--within", pipeline, "--folder", options.folder]
    for name in ("size", "crop", "batch", "workers"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--pixels"] if options.pixels else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "RESIDUAL_CACHE": cache}) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(0.25)
        assert process.stdout is not None
        told = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{pipeline} failed with exit code {process.returncode}.")
    return {**json.loads(told.splitlines()[-1]), "memory": peak / 1024}


def _memory(pid: int) -> int:
    """KiB of a process and its children."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) + sum(map(_memory, children))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="", help="a folder of pictures, one folder per class; without it, pictures are made")
    parser.add_argument("--count", type=int, default=2000, help="how many are made, of quality 90")
    parser.add_argument("--made", default="500x375", help="their width and height")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--crop", type=float, default=0.875, help="share of the shorter side that is kept: 224 of 256")
    parser.add_argument("--pixels", action="store_true", help="batches of uint8 N H W C instead of normalised float32 N C H W")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--within", choices=PIPELINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.within:
        print(json.dumps(epochs(options.within, options)))
        return
    import PIL
    import simplejpeg
    from PIL import features

    from residual.training.machine import machine

    found: dict[str, list[dict[str, Any]]] = {pipeline: [] for pipeline in PIPELINES}
    with tempfile.TemporaryDirectory() as folder:
        if not options.folder:
            options.folder = f"{folder}/pictures"
            width, height = map(int, options.made.split("x"))
            make_pictures(Path(options.folder), options.count, (width, height))
        for turn in range(options.rounds):
            for pipeline in PIPELINES:
                found[pipeline].append(measured(pipeline, options, f"{folder}/{'another' if pipeline == 'fitting' else 'cache'}{turn}"))
                row = found[pipeline][-1]
                print(f"{pipeline:10}", *(f"{row['pictures'] / s:9.0f}/s" for s in row["seconds"]), f"{row['memory']:7.0f} MiB", flush=True)
    told = report(found)
    told["setting"] = {name: value for name, value in vars(options).items() if name not in ("json", "within", "folder")}
    told["versions"] = {
        "python": platform.python_version(), "torch": found["peer"][0]["torch"], "pillow": PIL.__version__, "numpy": np.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"), "simplejpeg": simplejpeg.__version__,
    }  # fmt: skip
    told["machine"] = machine().as_dict()
    print(told["setting"], told["versions"], told["machine"], sep="\n")
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def report(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The medians, printed as a table of pictures a second and of how many times as fast as the peer in the same round."""
    told: dict[str, Any] = {"pictures": found["peer"][0]["pictures"]}
    for pipeline, rows in found.items():
        seconds = [statistics.median(row["seconds"][epoch] for row in rows) for epoch in range(2)]
        pairs = list(zip(found["peer"], rows, strict=True))
        ratios = [statistics.median(peer["seconds"][epoch] / ours["seconds"][epoch] for peer, ours in pairs) for epoch in range(2)]
        memory = statistics.median(row["memory"] for row in rows)
        told[pipeline] = {"median_seconds": seconds, "median_ratios": ratios, "median_memory_mib": memory, "rounds": rows}
        rates = "  ".join(f"{told['pictures'] / s:8.0f}/s ({ratio:5.2f}x)" for s, ratio in zip(seconds, ratios, strict=True))
        print(f"{pipeline:10} first, second epoch: {rates}   {memory:5.0f} MiB")
    return told


if __name__ == "__main__":
    main()
