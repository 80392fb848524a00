"""A command whose numbers do not fit into memory says so in one sentence, a training also what to change."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import residual
from residual.recipe import Recipe
from residual.shortage import GENERAL, enough_memory, within_memory

# A process that may take so many bytes more than it has when PyTorch is there, on one thread: other threads' stacks count too.
CRAMPED = """
import resource, sys, torch
from pathlib import Path
from residual.cli import main
torch.set_num_threads(1)
has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (has + int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process as Linux does")
GONE = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


def cramped(room: int, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", CRAMPED, str(room), *command]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


@LINUX
@pytest.mark.parametrize("options", [["--recipe", "d2l", "--epochs", "1"], ["--model", "resnet18", "--epochs", "100000"]])
def test_training_says_what_to_change(options: list[str], tmp_path: Path) -> None:
    """In its first step, whose first layer alone puts out 4 GiB, and before the run's folder is made: a trial of the compiler's comes first
    where so many epochs take long."""
    size = ["--image-size", "224", "--batch-size", "1294"]
    done = cramped(2**31, "train", "digits", *size, *options, "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr == (
        "residual: There is not enough memory for batches of 1294 pictures of 224x224: train anew with --accumulate 2, which does each in "
        "2 parts, --batch-size 647, or a smaller --image-size or --model.\n"
    )
    assert (tmp_path / "run").exists() == ("d2l" in options)


@LINUX
def test_other_commands_say_that_it_is_memory(tmp_path: Path) -> None:
    residual.save(residual.create("resnet152", num_classes=10), tmp_path / "model.safetensors")
    done = cramped(2**27, "evaluate", str(tmp_path / "model.safetensors"), "digits")
    assert (done.returncode, done.stderr) == (2, f"residual: {GENERAL}\n")


@pytest.mark.parametrize(
    "error",
    [
        GONE, MemoryError(), torch.OutOfMemoryError("on the GPU"), RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), type("ResourceExhaustedError", (Exception,), {})("tensor"),
    ],
    ids=repr,
)  # fmt: skip
def test_every_framework_s_lack_is_known(error: Exception) -> None:
    with pytest.raises(ValueError, match="not enough memory for batches of 128 pictures of 8x9: "), enough_memory(Recipe(), (8, 9)):
        raise error


@pytest.mark.parametrize(
    ("batch", "accumulate", "parts", "said"),
    [
        (128, 1, True, "--accumulate 2, which does each in 2 parts, --batch-size 64, or a smaller"),
        (7, 4, True, "in up to 4 parts: train anew with --accumulate 7, which does each in 7 parts, --batch-size 3, or a smaller"),
        (7, 7, True, "in up to 7 parts: train anew with --batch-size 3, or a smaller"),
        (128, 1, False, "train anew with --batch-size 64, or a smaller"),
        (1, 1, True, "for a picture of 8x9: train anew with a smaller --image-size or --model."),
    ],
)
def test_only_what_can_be_changed_is_proposed(batch: int, accumulate: int, parts: bool, said: str) -> None:
    recipe = replace(Recipe(), batch_size=batch, accumulate=accumulate)
    with pytest.raises(ValueError, match=said), enough_memory(recipe, (8, 9), parts=parts):
        raise GONE


def test_other_errors_and_those_of_who_listens_stay() -> None:
    with pytest.raises(RuntimeError, match="another"), enough_memory(Recipe(), (8, 8)):
        raise RuntimeError("another")

    def listen() -> None:
        for _ in within_memory(iter([1, 2]), Recipe(), (8, 8)):
            raise MemoryError

    with pytest.raises(MemoryError):
        listen()
