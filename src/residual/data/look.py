"""What the pictures of a split are like, from a sample.

The surprising thing: colour files whose pixels are all grey count as grey.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from residual.data.picture import is_grey, reason, shrink_on_load, strict_pillow, upright_size
from residual.data.records import Records


@dataclass(frozen=True, kw_only=True)
class Look:
    """A sample of a split.

    Attributes:
        size: median height and width in pixels, after turning as EXIF asks.
        smallest: lowest height and lowest width.
        largest: likewise.
        channels: 1 if every sampled picture is grey, else 3.
        formats: file formats and how often each was seen; "array" for pictures that came decoded.
        modes: Pillow's pixel types, likewise.
        sampled: pictures that were read.
    """

    size: tuple[int, int]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    channels: int
    formats: dict[str, int]
    modes: dict[str, int]
    sampled: int


def look(records: Records, sample: int = 64) -> Look:
    """What `sample` evenly spaced pictures are like; ValueError where not one of them can be read."""
    sizes, formats, modes, grey = [], Counter[str](), Counter[str](), True
    first = ""
    with strict_pillow():
        for index in np.unique(np.linspace(0, len(records) - 1, min(sample, len(records))).astype(int)):
            try:
                image = records.open(int(index))
                size = upright_size(image)
                mode = image.mode
                shrink_on_load(image, (64, 64))
                grey = is_grey(image) and grey
            except Exception as error:  # Pillow's readers raise a dozen kinds on broken files
                first = first or f"{records.name(int(index))} ({reason(error)})"
                continue
            sizes.append(size)
            formats[image.format or "array"] += 1
            modes[mode] += 1
    if not sizes:
        raise ValueError(f"Not one of the sampled pictures can be read; the first is {first}.")
    median, low, high = np.median(sizes, axis=0), np.min(sizes, axis=0), np.max(sizes, axis=0)
    return Look(
        size=(int(median[0]), int(median[1])),
        smallest=(int(low[0]), int(low[1])),
        largest=(int(high[0]), int(high[1])),
        channels=1 if grey else 3,
        formats=dict(formats.most_common()),
        modes=dict(modes.most_common()),
        sampled=len(sizes),
    )
