"""Freed memory stays in the process while a training runs, and not longer. In processes of their own: malloc's settings are a process's."""

import json
import os
import platform
import subprocess
import sys

import pytest

MEASURE = """
import json, resource, torch
from residual.training.allocator import memory_kept

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
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environment
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
