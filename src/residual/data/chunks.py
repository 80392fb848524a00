"""Work on a split, a chunk of pictures at a time, in a loop or by threads, with progress reported.

The surprising thing: threads and not processes, because Pillow releases the interpreter's lock while it decodes, and processes
would need a guard (`if __name__ == "__main__"`) in every user's script.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]

_TICK = 0.05  # seconds between two reports


def each_chunk(work: Callable[[range], T], total: int, step: int, *, workers: int = 0, progress: Progress | None = None) -> Iterator[T]:
    """What `work` gives for each range of `step` positions out of `total`, in order; below two `workers` there are no threads."""
    chunks = [range(start, min(start + step, total)) for start in range(0, total, step)]
    done, last = 0, time.monotonic()
    for chunk, result in zip(chunks, _run(work, chunks, workers), strict=True):
        yield result
        done += len(chunk)
        if progress and (done == total or time.monotonic() - last >= _TICK):
            last = time.monotonic()
            progress(done, total)


def _run(work: Callable[[range], T], chunks: list[range], workers: int) -> Iterator[T]:
    if workers < 2:
        yield from map(work, chunks)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, chunks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
