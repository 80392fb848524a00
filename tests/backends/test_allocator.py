"""Freed memory stays in the process while a training runs, and not longer; weights leave no holes. Each in a process of its own, whose
malloc is set."""

import json
import os
import platform
import subprocess
import sys

import pytest

MEASURE = """
import json, resource, torch
from residual.backends.allocator import memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

outside, before = faults(), resident()
with memory_kept():
    faults()
    inside, kept = faults(), resident() - before
print(json.dumps({"outside": outside, "inside": inside, "kept": kept, "after": resident() - before}))
"""


def measured(**environment: str) -> dict[str, int]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))} | environment
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=env)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not the GNU C library's here, and is left alone")
def test_blocks_are_kept_inside_and_handed_back_afterwards() -> None:
    """Ten blocks of 100 MB: about 24,000 pages of 4 KiB each, unless they are reused."""
    found = measured()
    assert found["outside"] > 100_000
    assert found["inside"] < 1_000
    assert found["kept"] > 90e6
    assert found["after"] < 30e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not the GNU C library's here, and is left alone")
def test_what_the_user_has_set_is_left_alone() -> None:
    assert measured(MALLOC_MMAP_THRESHOLD_="1000000")["inside"] > 100_000


APART = """
import json, sys, torch
from residual.backends.allocator import blocks_apart, memory_kept, training_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

torch.ones(8_000_000)  # freed: from now on glibc takes blocks of up to 32 MB from its own heap
scopes = []
for name in sys.argv[1].split():
    if name == "ended":  # the oldest, as of two trainings that overlap
        scopes.pop(0).__exit__(None, None, None)
    elif name == "step":
        step_done()
    else:
        scopes.append({"apart": blocks_apart, "kept": memory_kept, "training": training_memory}[name]())
        step_done = scopes[-1].__enter__()
before = resident()
blocks = [torch.ones(250_000) for _ in range(100)]
made = resident() - before
del blocks[::2]
left = resident() - before
print(json.dumps({"made": made, "left": left}))
"""


def left_of(scopes: str) -> float:
    """The share of 100 blocks of 1 MB that the process still holds when every other one is freed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", APART, scopes], capture_output=True, text=True, check=True, env=env)
    found: dict[str, int] = json.loads(done.stdout)
    assert found["made"] > 90e6
    return found["left"] / found["made"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not the GNU C library's here, and is left alone")
@pytest.mark.parametrize(
    ("scopes", "wanted"),
    [
        ("apart", 0.5),
        ("", 1.0),
        ("kept apart", 1.0),
        ("apart kept ended", 1.0),
        ("kept kept ended ended apart", 0.5),
        ("kept kept ended apart", 1.0),
        ("training", 0.5),  # until its first step is done
        ("training step", 1.0),
        ("training ended", 1.0),
        ("training ended step apart", 0.5),  # too late to keep memory
        ("training step apart", 1.0),
        ("training step ended apart", 0.5),
    ],
)
def test_what_is_freed_apart_goes_back_at_once(scopes: str, wanted: float) -> None:
    """But not within a training, which keeps its memory."""
    assert abs(left_of(scopes) - wanted) < 0.1
