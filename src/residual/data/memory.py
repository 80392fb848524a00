"""Where decoded pictures go: into this machine's memory, or to the disk.

The surprising thing: a container's own limit counts, not only the machine's.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from residual.data.picture import Frame

Place = Literal["memory", "cache", "stream"]
_HELD = 64 * 2**20  # bytes that pictures may always take
_SMALL = 64  # side of a picture up to which a training asks for more of them than a cache gives: 20,000 a second
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Where decoded pictures go.

    Attributes:
        place: "memory"; "cache" when they would fit there but are read from a cache on disk all the same, as quickly as a training asks
            for large pictures; or "stream" when they are decoded, or read from a cache, in every epoch.
        needed: bytes that all decoded pictures take.
        free: bytes that are available now; `where` tells of which memory.
        share: the part of `free` they may take.
        cache: half a sentence on where pictures are kept once decoded, or why they are not.
    """

    place: Place
    needed: int
    free: int
    share: float
    cache: str = ""
    where: str = "free memory"

    def __str__(self) -> str:
        told = f"{size_text(self.needed)} of pictures are read as they are needed and take none of it"
        if self.place != "cache":
            fits = "fit into" if self.place == "memory" else "do not fit into"
            told = f"{size_text(self.needed)} of pictures {fits} {self.share:.0%} of {size_text(self.free)} {self.where}"
        return f"{told}; {self.cache}" if self.cache else told


def memory_plan(count: int, frame: Frame, share: float = 0.4, *, cached: bool = False, device_free: int | None = None) -> MemoryPlan:
    """The place for `count` pictures of this frame as uint8; `cached`: there is a cache of them that is quick enough; `device_free`: bytes
    that are free where they are to lie in the end, if that is a memory of its own: the smaller of the two counts."""
    if not 0 < share <= 1:
        raise ValueError(f"The share of free memory lies above 0 and is at most 1, and is not {share}.")
    needed = count * frame.size[0] * frame.size[1] * frame.channels
    free, where = free_memory(), "free memory"
    if device_free is not None and device_free < free:
        free, where = device_free, "free memory on the GPU"
    spared = cached and needed > _HELD and max(frame.size) > _SMALL
    place: Place = "stream" if needed > share * free else "cache" if spared else "memory"
    return MemoryPlan(place=place, needed=needed, free=free, share=share, where=where)


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
