"""A training whose batch does not fit into memory says so in one sentence, and what to change."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from residual.recipe import Recipe
from residual.training.shortage import enough_memory

# A process that may take 2 GiB more than it has when PyTorch is there; the first layer's output alone takes 4.
CRAMPED = """
import resource, sys, torch
from pathlib import Path
from residual.cli import main
has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (has + 2**31, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process as Linux does")
@pytest.mark.parametrize("options", [["--recipe", "d2l", "--batch-size", "1294"], ["--model", "resnet18", "--batch-size", "1294"]])
def test_the_command_says_what_to_change(options: list[str], tmp_path: Path) -> None:
    """In its first step, and before the run's folder is made: by the second command a trial of the compiler's comes first."""
    command = ["train", "digits", "--image-size", "224", "--epochs", "30", "--out", str(tmp_path / "run"), *options]
    done = subprocess.run([sys.executable, "-c", CRAMPED, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr == (
        "residual: There is not enough memory for batches of 1294 pictures of 224x224: try --accumulate 2, which does each in 2 parts, "
        "--batch-size 647, or a smaller --image-size or --model.\n"
    )
    assert (tmp_path / "run").exists() == ("d2l" in options)


def test_a_gpu_s_lack_is_known_and_other_errors_stay() -> None:
    recipe = replace(Recipe(), batch_size=1)
    with (
        pytest.raises(ValueError, match="for a picture of 8x9: try a smaller --image-size or --model"),
        enough_memory(recipe, (8, 9)),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    with (
        pytest.raises(ValueError, match="in 4 parts: try --accumulate 7, "),
        enough_memory(replace(recipe, batch_size=7, accumulate=4), (8, 8)),
    ):
        raise MemoryError
    with pytest.raises(RuntimeError, match="another"), enough_memory(recipe, (8, 8)):
        raise RuntimeError("another")
