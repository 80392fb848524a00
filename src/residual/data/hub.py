"""Data sets of the Hugging Face hub, fetched by the `datasets` library.

The surprising thing: where the hub's machine cannot be reached, only the local cache is asked, at once; the library's own five
retries take 23 seconds to say the same.
"""

import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from residual.data.catalog import CATALOG, Entry
from residual.data.parquet import quiet_datasets
from residual.data.records import Source
from residual.data.table import find_columns, split_of, table_splits

_PATIENCE = 3.0  # seconds


def open_catalog(name: str) -> Source:
    """The data set of that short name."""
    return _open(name, CATALOG[name])


def open_hub(name: str) -> Source:
    """The data set `owner/name`; its columns and splits are told by their types and names."""
    return _open(name, None)


def _open(name: str, entry: Entry | None) -> Source:
    hub = entry.hub if entry else name
    found = _fetch(hub, entry)
    tables: dict[str, Any] = {}
    for split, table in found.items():
        role = split_of(split)
        if entry and entry.test == split:
            role = "test"
        elif entry and role == "test":
            continue
        if role and role not in tables:
            tables[role] = table
    if "train" not in tables:
        raise ValueError(f"{hub} has no train split; its splits are {', '.join(found)}.")
    features = tables["train"].features
    columns = find_columns(features, hub, image=entry.image, label=entry.label) if entry else find_columns(features, hub)
    classes, splits, notes = table_splits(tables, columns, hub)
    ignored = [split for split in found if split_of(split) is None]
    if ignored:
        notes = (*notes, f"The splits {', '.join(ignored)} of {hub} are not used.")
    return Source(
        name=name,
        kind="hub",
        classes=classes,
        splits=splits,
        fingerprint=_fingerprint(hub, entry, tables),
        notes=notes,
        mean=entry.mean if entry else None,
        std=entry.std if entry else None,
    )


def _fetch(hub: str, entry: Entry | None) -> dict[str, Any]:
    """The splits of a data set of the hub, by the names they have there."""
    config = entry.config if entry else None
    with quiet_datasets() as datasets, _offline(datasets, not _reachable()):
        try:
            found = datasets.load_dataset(hub, config)
        except datasets.exceptions.DatasetNotFoundError as error:
            remedy = (
                entry.licence_note if entry and entry.licence_note else f"look the name up on https://huggingface.co/datasets?search={hub}"
            )
            raise ValueError(f"The hub hands out no data set {hub}; {remedy}.") from error
        except (ConnectionError, OSError) as error:
            raise ValueError(
                f"{hub} is not on this machine and the Hugging Face hub cannot be reached; download it on another machine "
                f"(hf download {hub} --repo-type dataset --local-dir FOLDER) and pass that folder."
            ) from error
        except (datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
            raise ValueError(f"{hub} cannot be loaded from the hub: {str(error).splitlines()[0]}") from error
    return dict(found)


def _fingerprint(hub: str, entry: Entry | None, tables: dict[str, Any]) -> dict[str, Any]:
    """The hub's name and, from the path of the cached table, the commit it was made from."""
    cached = tables["train"].cache_files
    revision = Path(cached[0]["filename"]).parent.name if cached else ""
    rows = {split: len(table) for split, table in tables.items()}
    return {"kind": "hub", "hub": hub, "config": entry.config if entry else None, "revision": revision, "rows": rows}


def _reachable() -> bool:
    """Whether the hub's machine answers; taken for granted where a proxy stands in between."""
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if "https" in urllib.request.getproxies():
        return True
    try:
        socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


@contextmanager
def _offline(datasets: Any, offline: bool) -> Iterator[None]:
    """Keeps both libraries off the network inside, if asked."""
    import huggingface_hub.constants as constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if offline:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
