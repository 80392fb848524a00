"""A local folder in the hub's parquet layout: FOLDER/data/train-*.parquet, FOLDER/train-*.parquet or FOLDER/train.parquet.

The surprising thing: small files are read into memory, without `datasets`; large ones it rewrites as a memory-mapped table in its own
cache (or in a temporary folder where that cannot be written). Nothing is ever written beside the data.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from residual.data.digest import files_digest
from residual.data.folder import SPLIT_NAMES
from residual.data.records import Source
from residual.data.table import Table, features_of, find_columns, split_of, table_splits

_SMALL = 256 * 2**20  # bytes of a split, packed and unpacked, up to which it is read into memory
_FILE = re.compile(r"(?P<split>[A-Za-z]+)(?:[-_.].*)?\.parquet", re.IGNORECASE)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet$")


def parquet_files(root: Path) -> list[Path]:
    """The parquet files of a folder: its own, else those of data/, else those of its only subfolder that has some."""
    inner = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    places = [root, root / "data", *inner]
    found = {place: sorted(place.glob("*.parquet")) for place in dict.fromkeys(places) if place.is_dir()}
    filled = [files for files in found.values() if files]
    if found.get(root) or found.get(root / "data"):
        return filled[0]
    if len(filled) > 1:
        choices = ", ".join(str(files[0].parent) for files in filled)
        raise ValueError(f"{root} holds several data sets; pass one of them: {choices}.")
    return filled[0] if filled else []


def open_parquet(root: Path) -> Source:
    """The data set of a folder of parquet files; ValueError naming the file that is missing, broken or of unknown split."""
    files = parquet_files(root)
    groups = _grouped(files, root)
    tables = _tables(groups)
    columns = find_columns(tables["train"].features, str(root))
    for split, table in tables.items():
        if find_columns(table.features, f"The {split} split of {root}") != columns:
            raise ValueError(f"The {split} split of {root} has other columns or class names than its train split.")
    classes, splits, notes = table_splits(tables, columns, str(root))
    names = [path.relative_to(root).as_posix() for path in files]
    return Source(
        name=str(root),
        kind="parquet",
        classes=classes,
        splits=splits,
        fingerprint={"kind": "parquet", **files_digest(root, names)},
        notes=notes,
    )


@contextmanager
def quiet_datasets() -> Iterator[Any]:
    """The `datasets` library without progress bars."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        if shown:
            datasets.enable_progress_bars()


def _grouped(files: list[Path], root: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in files:
        match = _FILE.fullmatch(path.name)
        split = split_of(match["split"]) if match else None
        if split is None:
            known = ", ".join(f"{name}-*.parquet" for name in SPLIT_NAMES)
            raise ValueError(f"{path} names no split; parquet files are called {known}.")
        groups.setdefault(split, []).append(path)
    if "train" not in groups:
        raise ValueError(f"{root} holds no train-*.parquet; it holds {', '.join(path.name for path in files[:5])}.")
    for split, paths in groups.items():
        _check_shards(split, paths)
    return groups


def _check_shards(split: str, paths: list[Path]) -> None:
    numbers = [match.groups() for match in (_SHARD.search(path.name) for path in paths) if match]
    if len(numbers) == len(paths):
        missing = sorted(set(range(int(numbers[0][1]))) - {int(number) for number, _ in numbers})
        if missing:
            part = f"Part {missing[0]} of {int(numbers[0][1])} of the {split} split"
            raise ValueError(f"{part} is missing beside {paths[0]}; copy it there.")


def _tables(groups: dict[str, list[Path]]) -> dict[str, Any]:
    """The table of each split: all in memory, where all are small and plain, else all mapped from disk."""
    import pyarrow

    features = {split: _small_features(paths) for split, paths in groups.items()}
    if None in features.values():
        return {split: _mapped(paths) for split, paths in groups.items()}
    tables = {}
    for split, paths in groups.items():
        try:
            tables[split] = Table(paths, features[split] or {})
        except (pyarrow.ArrowException, OSError) as error:
            raise _unreadable(paths, error) from error
    return tables


def _small_features(paths: list[Path]) -> dict[str, Any] | None:
    """The features of a split that may be read into memory, or None; ValueError naming a file that is none of parquet's."""
    import pyarrow.parquet

    schemas, size = [], 0
    for path in paths:
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                footer = file.metadata
                schemas.append(file.schema_arrow)
        except (pyarrow.ArrowException, OSError) as error:
            cause = str(error).splitlines()[0]
            raise ValueError(f"{path} is not a readable parquet file ({cause}); copy or download it again.") from error
        size += max(path.stat().st_size, sum(footer.row_group(k).total_byte_size for k in range(footer.num_row_groups)))
    return features_of(schemas) if size <= _SMALL else None


def _mapped(paths: list[Path]) -> Any:
    """The table on disk, as `datasets` writes it there."""
    import pyarrow

    with quiet_datasets() as datasets:
        try:
            return datasets.load_dataset(
                "parquet", data_files={"train": [str(path) for path in paths]}, split="train", cache_dir=_cache(datasets)
            )
        except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, OSError, TypeError) as error:  # TypeError: odd metadata
            raise _unreadable(paths, error.__cause__ or error) from error


def _unreadable(paths: list[Path], error: BaseException) -> ValueError:
    cause = str(error).splitlines()[0]
    return ValueError(f"{paths[0].parent} cannot be read ({cause}); copy or download {paths[0].name} again.")


def _cache(datasets: Any) -> str | None:
    """None for the user's own cache, else a temporary folder, where that one cannot be written."""
    home = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        home.mkdir(parents=True, exist_ok=True)
        if os.access(home, os.W_OK):
            return None
    except OSError:
        pass
    return str(Path(tempfile.gettempdir()) / f"residual-datasets-{os.getuid() if os.name == 'posix' else 'cache'}")
