"""Whether decoded pictures fit into this machine's memory.

The surprising thing: a container's own limit counts, not only the machine's.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from residual.data.picture import Frame

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Where decoded pictures go.

    Attributes:
        place: "memory", or "stream" when they are decoded, or read from a cache on disk, in every epoch.
        needed: bytes that all decoded pictures take.
        free: bytes that are available now.
        share: the part of `free` they may take.
        cache: half a sentence on where pictures are kept once decoded, or why they are not.
    """

    place: Literal["memory", "stream"]
    needed: int
    free: int
    share: float
    cache: str = ""

    def __str__(self) -> str:
        fits = "fit into" if self.place == "memory" else "do not fit into"
        told = f"{size_text(self.needed)} of pictures {fits} {self.share:.0%} of {size_text(self.free)} free memory"
        return f"{told}; {self.cache}" if self.cache else told


def memory_plan(count: int, frame: Frame, share: float = 0.4) -> MemoryPlan:
    """The place for `count` pictures of this frame as uint8."""
    if not 0 < share <= 1:
        raise ValueError(f"The share of free memory lies above 0 and is at most 1, and is not {share}.")
    needed = count * frame.size[0] * frame.size[1] * frame.channels
    free = free_memory()
    return MemoryPlan(place="memory" if needed <= share * free else "stream", needed=needed, free=free, share=share)


def free_memory() -> int:
    """Bytes that can be taken without swapping."""
    free = _machine()
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(int(limit) - used, 0))


def _machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # Windows has neither
        return 4 * 2**30


def size_text(count: float) -> str:
    """Bytes as a person reads them, such as "1.5 GiB"."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
