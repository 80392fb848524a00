"""Where the memory of a training stays, and that of a net's weights.

The GNU C library asks the system for every large block anew and hands it back when it is freed, so that each step's activations are
zeroed, page by page, again: a fifth of the time of ResNet-18 at 96x96 on two cores (docs/performance.md). What stays of a step, small as
it is, would lie between its activations and leave holes too small for those of the next: so the first step's are kept apart.
"""

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_TRIM, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # mallopt(3)
_LARGEST = 32 * 2**20  # the highest threshold from which blocks are the system's; where glibc's own adjustment ends
_APART = 2**18
_LOCK = Lock()  # of malloc's settings, which are the process's
_keeping = 0  # scopes that keep memory now


@contextmanager
def training_memory() -> Iterator[Callable[[], None]]:
    """Inside, a training's steps. What it gives is called after each: from the first one on memory is kept (`memory_kept`), and before,
    blocks are apart (`blocks_apart`), while what stays is made: momenta, and what each operation keeps for the shapes that it saw."""
    with ExitStack() as scopes:
        scopes.enter_context(blocks_apart())
        settled = False

        def done() -> None:
            nonlocal settled
            if not settled:
                settled = True
                scopes.close()
                scopes.enter_context(memory_kept())

        try:
            yield done
        finally:
            settled = True  # what is called later has no effect


@contextmanager
def memory_kept() -> Iterator[None]:
    """Inside, freed memory stays for the next step; afterwards it is handed back. Without effect where malloc is not the GNU C library's,
    and where the user has set it by the environment (`MALLOC_...`, `GLIBC_TUNABLES`). Scopes may overlap: the last one's end counts."""
    global _keeping
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    with _LOCK:
        _keeping += 1
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM, -1)  # never
    try:
        yield
    finally:
        with _LOCK:
            _keeping -= 1
            if not _keeping:
                mallopt(_MMAP_MAX, 65536)
                _as_usual(mallopt)
                ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def blocks_apart() -> Iterator[None]:
    """Inside, each block of a quarter MiB and more is the system's, to which it goes back at once when it is freed: for what is made and
    stays, or soon goes, that it leaves no holes between what comes later. Afterwards blocks are the system's from where the GNU C library's
    own adjustment would have ended, which has itself ended. Without effect in `memory_kept`, and where that has none."""
    mallopt = _mallopt()
    with _LOCK:
        if mallopt is not None and not _keeping:
            mallopt(_MMAP_THRESHOLD, _APART)
    try:
        yield
    finally:
        with _LOCK:
            if mallopt is not None and not _keeping:
                _as_usual(mallopt)


def _as_usual(mallopt: "ctypes._NamedFuncPointer") -> None:
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM, 2 * _LARGEST)


def _mallopt() -> "ctypes._NamedFuncPointer | None":
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ) or platform.libc_ver()[0] != "glibc":
        return None
    try:
        return ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return None
