"""Runs an example in a process of its own, as a reader of the chapter would, on a folder with some of the digits."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
CHAPTER = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
# The chapter's trace for one picture of 224 x 224: channels and side of each module's output.
SHAPES = ((64, 112), (64, 112), (64, 112), (64, 56), (64, 56), (128, 28), (256, 14), (512, 7), (512, 1), (10, 0))


def sample(folder: Path) -> Path:
    """A batch of 256 to train on and 64 pictures to test with: JAX compiles for every size of a batch."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:320], digits.target, strict=False)):
        path = folder / ("train" if number < 256 else "test") / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype("uint8")).save(path)
    return folder


def printed(name: str, folder: Path) -> list[str]:
    """The lines that examples/`name` prints."""
    options = {"--data": sample(folder / "digits"), "--image-size": 16, "--epochs": 1, "--out": folder / "run"}
    command = [sys.executable, str(ROOT / "examples" / name), *(str(word) for option in options.items() for word in option)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def check(name: str, folder: Path, *, channels_last: bool) -> None:
    """The chapter's shapes are printed, one epoch was trained, and the net has the parameters that the chapter's net has."""
    assert len((ROOT / "examples" / name).read_text().splitlines()) < 80
    lines = printed(name, folder)
    blocks = [line.rpartition("  ")[2].partition(") (")[2] or line.rpartition("  ")[2].strip(" (") for line in lines[:2]]
    wanted = [(4, 6, 6, 3), (4, 3, 3, 6)] if channels_last else [(4, 3, 6, 6), (4, 6, 3, 3)]
    assert [tuple(map(int, text.strip("()").split(", "))) for text in blocks] == wanted
    for line, part, (width, side) in zip(lines[2:12], CHAPTER, SHAPES, strict=True):
        assert line.startswith(part)
        sides = (side, side) if side else ()
        shape = (1, *sides, width) if channels_last else (1, width, *sides)
        assert line.endswith(f"output shape {shape}")
    assert lines[12].startswith("epoch 1: loss ")
    assert lines[13].startswith("test acc 0.")
    assert lines[14].startswith("11,178,378 parameters in ")
