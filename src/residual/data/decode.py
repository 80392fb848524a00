"""Records to one uint8 array, into the cache, or one picture at a time for data that does not fit into memory.

The surprising thing: pictures are pasted into one tall Pillow canvas and read out together, because handing a small one to NumPy
costs more than decoding it; and threads are used for large pictures only, because the interpreter's lock makes them
slower.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from PIL import Image

from residual.data.cache import PictureCache
from residual.data.chunks import Progress, each_chunk
from residual.data.picture import LARGE, Frame, fit, fit_into, reason, strict_pillow
from residual.data.records import ArrayStore, Labels, Pixels, Problem, Records

_CANVAS = 2**18  # pixels of one canvas: small enough to stay in the cache
_TOGETHER = 16  # pictures that a thread brings into the cache at a time


@final
@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A split in memory.

    Attributes:
        images: uint8, N H W C.
        labels: class index of each.
        names: file or row of each.
        problems: the pictures that were left out.
        kept: positions in the records of the pictures that are here.
    """

    images: Pixels
    labels: Labels
    names: list[str]
    problems: tuple[Problem, ...]
    kept: Labels


@final
@dataclass(frozen=True, kw_only=True)
class Lazy:
    """A split whose pictures are decoded when asked for, and kept in the `cache`, where there is one."""

    records: Records
    frame: Frame
    cache: PictureCache | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> Labels:
        """Class index of each picture."""
        return self.records.labels

    @property
    def names(self) -> list[str]:
        """File or row of each picture."""
        return self.records.names

    def read(self, index: int) -> "Pixels | Problem":
        """The picture, H W C, or what is wrong with it."""
        image = np.empty((*self.frame.size, self.frame.channels), np.uint8)
        with strict_pillow():
            return self._into(index, image) or image

    def fill(self, indices: Labels, images: Pixels) -> dict[int, Problem]:
        """What is wrong with pictures, by their place in `indices`; the others are now in `images`, N H W C.

        Threads may share the work; call inside `strict_pillow`.
        """

        def make(places: Labels) -> dict[int, Problem]:
            found = {place: self._into(int(indices[place]), images[place]) for place in places.tolist()}
            return {place: problem for place, problem in found.items() if problem}

        return _through(self.cache, self.records.rows[indices], images, make)

    def _into(self, index: int, image: Pixels) -> Problem | None:
        try:
            fit_into(self.records.open(index), self.frame, image)
        except Exception as error:  # Pillow's readers raise a dozen kinds on broken files
            return Problem(file=self.records.name(index), reason=reason(error))
        return None


def decode(
    records: Records, frame: Frame, *, workers: int = 0, progress: Progress | None = None, cache: PictureCache | None = None
) -> Decoded:  # fmt: skip
    """All pictures of a split in one array; those that cannot be read are left out and named.

    `workers` threads share the work where the pictures are large, and what is in the `cache` is read from there; the result does not
    depend on either.
    ValueError where more than half cannot be read, or all of a class.
    """
    images = np.empty((len(records), *frame.size, frame.channels), np.uint8)
    broken: dict[int, Problem] = {}
    if _is_ready(records, frame):
        images[...] = records.store.images[records.rows]  # type: ignore[attr-defined]  # _is_ready says it is an ArrayStore
        if progress:
            progress(len(records), len(records))
    else:
        with strict_pillow():
            large = are_large(records)
            fill = (Lazy if large else _Small)(records=records, frame=frame, cache=cache).fill
            step = _TOGETHER if large else max(1, min(512, _CANVAS // (frame.size[0] * frame.size[1])))

            def work(chunk: range) -> dict[int, Problem]:
                problems = fill(np.arange(chunk.start, chunk.stop), images[chunk.start : chunk.stop])
                return {chunk[place]: problem for place, problem in problems.items()}

            for found in each_chunk(work, len(records), step, workers=workers if large else 0, progress=progress):
                broken.update(found)
    if not broken:
        return Decoded(images=images, labels=records.labels, names=records.names, problems=(), kept=np.arange(len(records), dtype=np.int64))
    problems = tuple(broken[index] for index in sorted(broken))
    kept = np.setdiff1d(np.arange(len(records), dtype=np.int64), np.fromiter(broken, np.int64))
    check_losses(records, kept, problems)
    names = [records.name(int(index)) for index in kept]
    return Decoded(images=images[kept], labels=records.labels[kept], names=names, problems=problems, kept=kept)


def decode_into(
    cache: PictureCache, records: Records, frame: Frame, *, workers: int = 0, progress: Progress | None = None
) -> tuple[Problem, ...]:  # fmt: skip
    """The pictures that cannot be read; all others are in the cache now, and none in memory. It ends early where the cache fails.

    `workers` threads share the work where the pictures are large; what the cache has is not decoded again.
    """
    missing = np.flatnonzero(~cache.known(records.rows))
    lazy, spare = Lazy(records=records, frame=frame, cache=cache), list[Pixels]()  # of the threads that are done with a chunk

    def fill(chunk: range) -> dict[int, Problem]:
        places = missing[chunk.start : chunk.stop]
        if cache.fault:
            return {}
        try:
            images = spare.pop()
        except IndexError:
            images = np.empty((_TOGETHER, *frame.size, frame.channels), np.uint8)
        problems = lazy.fill(places, images[: len(places)])
        spare.append(images)
        return {int(places[place]): problem for place, problem in problems.items()}

    with strict_pillow():
        threads = workers if workers > 1 and len(missing) and are_large(records) else 0
        found = list(each_chunk(fill, len(missing), _TOGETHER, workers=threads, progress=progress))
    return tuple(problem for problems in found for _, problem in sorted(problems.items()))


def check_losses(records: Records, kept: Labels, problems: tuple[Problem, ...]) -> None:
    """Nothing; ValueError where more than half of the pictures were left out, or all pictures of a class."""
    first = f"the first is {problems[0].file} ({problems[0].reason})" if problems else ""
    if 2 * len(kept) < len(records):
        raise ValueError(f"{len(records) - len(kept)} of {len(records)} pictures cannot be read; {first}.")
    lost = np.setdiff1d(records.labels, records.labels[kept])
    if len(lost):
        index = int(np.flatnonzero(records.labels == lost[0])[0])
        where = f"the class of {records.name(index)}"
        raise ValueError(f"Not one picture of {where} can be read; {first}. Replace them or remove the class.")


@dataclass(frozen=True, kw_only=True)
class _Small:
    """As `Lazy`, for small pictures: those of a `fill` are pasted one under the other and taken out together."""

    records: Records
    frame: Frame
    cache: PictureCache | None

    def fill(self, indices: Labels, images: Pixels) -> dict[int, Problem]:
        height, width = self.frame.size

        def make(places: Labels) -> dict[int, Problem]:
            problems, canvas = dict[int, Problem](), Image.new(self.frame.mode, (width, height * len(places)))
            for row, place in enumerate(places.tolist()):
                index = int(indices[place])
                try:
                    canvas.paste(fit(self.records.open(index), self.frame), (0, row * height))
                except Exception as error:  # Pillow's readers raise a dozen kinds on broken files
                    problems[place] = Problem(file=self.records.name(index), reason=reason(error))
            images[places] = np.asarray(canvas).reshape(len(places), height, width, self.frame.channels)
            return problems

        return _through(self.cache, self.records.rows[indices], images, make)


def _through(
    cache: PictureCache | None, rows: Labels, images: Pixels, make: Callable[[Labels], dict[int, Problem]]
) -> dict[int, Problem]:  # fmt: skip
    """`images` filled from the cache and, where it has none, by `make`, which gets their places and gives what is wrong with them."""
    missing = np.flatnonzero(~cache.read(rows, images)) if cache else np.arange(len(rows))
    problems = make(missing) if len(missing) else {}
    new = [place for place in missing.tolist() if place not in problems]
    if cache and new:
        cache.write(rows[new], [images[place] for place in new])
    return problems


def _is_ready(records: Records, frame: Frame) -> bool:
    store = records.store
    return isinstance(store, ArrayStore) and store.images.shape[1:] == (*frame.size, frame.channels) and frame.crop == 1.0


def are_large(records: Records) -> bool:
    """Whether the median of a few pictures is large enough for threads to pay."""
    areas = []
    with strict_pillow():
        for index in np.linspace(0, len(records) - 1, 9).astype(int):
            try:
                image = records.open(int(index))
            except Exception:  # named as a problem when its turn comes
                continue
            areas.append(image.width * image.height)
    return bool(areas) and float(np.median(areas)) >= LARGE
