"""Small real data sets on disk for the tests of this folder."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def shared(name: str) -> Path:
    """The folder ../shared/data/NAME; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not on this machine")
    return folder


def pixels(seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    """Smooth colours, so that a JPEG stays close to them and no two seeds look alike."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def folder(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """A folder of PNG pictures, so many for each class; the seeds count up from `start`."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            Image.fromarray(pixels(start)).save(root / name / f"{k}.png")
            start += 1
    return root


def encoded(seed: int) -> bytes:
    """A PNG file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path: Path, labels: list[int] | list[str], *, names: tuple[str, ...] = (), start: int = 0, image: str = "image") -> Path:
    """A parquet file as the hub writes it: structs of bytes and path, labels, and the class names in its metadata."""
    cells = [{"bytes": encoded(start + k), "path": None} for k in range(len(labels))]
    table = pyarrow.table(
        {
            image: pyarrow.array(cells, pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
            "label": pyarrow.array(labels),
        }
    )
    if names:
        listed = ", ".join(f'"{name}"' for name in names)
        features = f'{{"{image}": {{"_type": "Image"}}, "label": {{"names": [{listed}], "_type": "ClassLabel"}}}}'
        table = table.replace_schema_metadata({"huggingface": f'{{"info": {{"features": {features}}}}}'})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)
    return path
