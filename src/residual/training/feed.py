"""Where the loop's batches come from: a tensor that holds every picture on the device, or threads that decode ahead of it.

Both hand out uint8 pictures for lists of indices, so that the order, and with it a resumed run, is the loop's alone.
"""

import copy
import math
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from residual.data import Decoded, Lazy, Problem
from residual.data.picture import strict_pillow
from residual.data.records import Pixels
from residual.preprocessing import Preprocessing

_PART = 16  # pictures that a thread takes at a time, at most
BRIEF = 0.004  # of a training's time: a validation that takes no longer follows every epoch
_LATE = 0.05  # seconds that the last validation ends later than its batches alone would: after a step that began in time, and cold
_THREADS = 8  # above it they would wait for each other at the interpreter's lock, which opening a picture holds for about 0.1 ms
Batch = tuple[Tensor, Tensor, Tensor]  # pictures uint8 N H W C, labels int64 N, indices int64 N


class Feed(Protocol):
    """A labelled set of pictures of one size."""

    labels: npt.NDArray[np.int64]

    def __len__(self) -> int: ...

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        """One batch for each array of indices, in their order, on the feed's device."""
        ...


class Resident:
    """Pictures in one uint8 tensor on `device`: all of `decoded`, or those at `indices`, which are then looked up and not copied."""

    def __init__(self, decoded: Decoded, indices: npt.NDArray[np.int64] | None, device: torch.device) -> None:
        self.images = torch.from_numpy(decoded.images).to(device)
        self._take(decoded.labels, np.arange(len(decoded.labels)) if indices is None else indices)

    def part(self, labels: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> "Resident":
        """The pictures at `indices` of the same tensor; `labels` are those of all its pictures."""
        other = copy.copy(self)
        other._take(labels, indices)
        return other

    def _take(self, labels: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> None:
        self.labels = labels[indices]
        self.rows = torch.from_numpy(indices).to(self.images.device)
        self.targets = torch.from_numpy(self.labels).to(self.images.device)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        order = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *chunks])).to(self.images.device)  # for each batch, it would wait
        for index in torch.split(order, [*map(len, chunks)]):
            yield self.images.index_select(0, self.rows[index]), self.targets[index], index  # 7 times as fast as self.images[...]


class Streamed:
    """Pictures decoded, or read from the cache, by `workers` threads ahead of what is asked for; one that turns out to be bad is left out
    of its batch and told in `problems`: file -> reason.

    Threads and not processes: Pillow decodes outside the interpreter's lock, a thread puts a picture where the batch needs it, and forking
    is not safe beside JAX, TensorFlow or CUDA.
    """

    def __init__(self, lazy: Lazy, indices: npt.NDArray[np.int64] | None, device: torch.device, workers: int) -> None:
        self.lazy, self.device, self.workers = lazy, device, min(max(workers, 1), _THREADS)
        self.indices = np.arange(len(lazy)) if indices is None else indices
        self.labels = lazy.labels[self.indices]
        self.problems: dict[str, str] = {}
        self._told = False

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        waiting, room = deque[_Batch](), _Room(large_pages=True)
        longest = max(1, *map(len, chunks))
        part = min(_PART, -(-longest // self.workers))
        ahead = -(-self.workers // -(-longest // part))  # batches: a part for every thread, and no more memory than that
        with strict_pillow(), ThreadPoolExecutor(self.workers) as pool:
            try:
                for chunk in chunks:
                    waiting.append(self._begin(chunk, part, pool, room=room))
                    if len(waiting) > ahead:
                        yield from self._end(waiting.popleft())
                while waiting:
                    yield from self._end(waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        self._tell()

    def _begin(self, chunk: npt.NDArray[np.int64], part: int, pool: ThreadPoolExecutor, *, room: "_Room") -> "_Batch":
        shape = (len(chunk), *self.lazy.frame.size, self.lazy.frame.channels)
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=True) if self.device.type == "cuda" else room.take(shape)
        cuts = [slice(start, start + part) for start in range(0, len(chunk), part)]
        parts = {cut.start: pool.submit(self._fill, self.indices[chunk[cut]], [images[cut].numpy()]) for cut in cuts}
        return _Batch(chunk=chunk, images=images, parts=parts)

    def _fill(self, indices: npt.NDArray[np.int64], part: list[Pixels]) -> dict[int, Problem]:
        """`part` is a list of one, which is taken out of it, so that the memory is nobody's the moment that the part is done."""
        return self.lazy.fill(indices, part.pop())

    def _end(self, batch: "_Batch") -> Iterator[Batch]:
        """The batch on the device, or nothing where no picture of it could be read."""
        bad = {start + place: problem for start, part in batch.parts.items() for place, problem in part.result().items()}
        self.problems.update({problem.file: problem.reason for problem in bad.values()})
        kept, images = batch.chunk, batch.images
        if bad:
            good = np.setdiff1d(np.arange(len(kept)), list(bad))
            kept, images = kept[good], images[torch.from_numpy(good)]
        if len(kept):
            yield self._sent(images), self._sent(torch.from_numpy(self.labels[kept])), self._sent(torch.from_numpy(kept))

    def _sent(self, values: Tensor) -> Tensor:
        """On the device; a GPU takes them from memory that stays where it is, so that its steps need not be waited for."""
        held = values.pin_memory() if self.device.type == "cuda" else values
        return held.to(self.device, non_blocking=True)

    def _tell(self) -> None:
        """Warns, once, that the cache has failed."""
        if self.lazy.cache and self.lazy.cache.fault and not self._told:
            self._told = True
            warnings.warn(self.lazy.cache.fault, stacklevel=2)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """A batch that threads are filling: where each part of it starts, and what will be wrong with it."""

    chunk: npt.NDArray[np.int64]
    images: Tensor
    parts: dict[int, Future[dict[int, Problem]]]


class _Room:
    """Memory of batches, taken again once nobody holds the batch in it: new pages cost more than reading cached pictures into them.

    With `large_pages` NumPy's, which asks the system for such: quicker, but looking for many may take ten times as long. Else PyTorch's.
    """

    def __init__(self, *, large_pages: bool) -> None:
        self._free: deque[npt.NDArray[np.uint8]] = deque(maxlen=4)
        self._large_pages = large_pages

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """uint8 of this shape that may hold anything, its holder's alone."""
        size = math.prod(shape)
        try:
            memory = self._free.popleft()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if len(memory) < size:
            memory = np.empty(size, np.uint8) if self._large_pages else torch.empty(size, dtype=torch.uint8).numpy()
        batch = memory[:size].reshape(shape)
        weakref.finalize(batch, self._free.append, memory).atexit = False
        return torch.from_numpy(batch)


class Sample:
    """`count` pictures of a feed, evenly spread over it."""

    def __init__(self, feed: Feed, count: int) -> None:
        self.feed, self.chosen = feed, np.arange(count) * len(feed) // count
        self.labels = feed.labels[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, chunks: Sequence[npt.NDArray[np.int64]]) -> Iterator[Batch]:
        for pictures, labels, index in self.feed.read([self.chosen[chunk] for chunk in chunks]):
            yield pictures, labels, torch.from_numpy(np.searchsorted(self.chosen, index.cpu().numpy())).to(index.device)
            del pictures  # nobody holds them when the next are asked for


def in_time(feed: Feed, seconds: float, time: float) -> tuple[Feed, float]:
    """As many validation pictures as can be looked at in a twentieth of the `time` of a training, 500 at least, and the seconds to keep for
    that at its end; all of `feed` take `seconds`, seen one batch behind the other."""
    count = max(int(len(feed) * time / 20 / max(seconds, 1e-9)), 500)
    feed, seconds = (Sample(feed, count), seconds * count / len(feed)) if count < len(feed) else (feed, seconds)
    return feed, seconds + _LATE * (seconds > BRIEF * time)


class Normaliser:
    """uint8 N H W C on a device -> float N C H W (channels last in memory), as `preprocessing` says.

    A per-pixel mean is stretched to the size of the pictures.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        std = torch.from_numpy(preprocessing.std_array()).to(device)
        self.scale = 1 / (255 * std)
        self.shift = -torch.from_numpy(preprocessing.mean_array()).to(device) / std
        self._room = _Room(large_pages=False)

    def __call__(self, images: Tensor) -> Tensor:
        shift, size = self.shift, tuple(images.shape[1:3])
        if tuple(shift.shape[1:]) not in ((1, 1), size):
            shift = F.interpolate(shift[None], size=size, mode="bilinear", antialias=True)[0]
        # line by line: broadcasting over three colours, the innermost, takes twice as long
        line = size[1] * images.shape[3]
        shift = shift.expand(-1, size[0] if shift.shape[1] > 1 else 1, size[1]).permute(1, 2, 0).reshape(-1, line)
        pixels = images.reshape(len(images), size[0], line)
        if images.device.type == "cpu":
            found = self._room.take((*pixels.shape, 4)).view(torch.float32)[..., 0].copy_(pixels)
        else:
            found = pixels.to(torch.float32, copy=True)
        return found.mul_(self.scale.flatten().repeat(size[1])).add_(shift).view(images.shape).permute(0, 3, 1, 2)


def centre_cut(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle `size` of N C H W."""
    top, left = (x.shape[2] - size[0]) // 2, (x.shape[3] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]
