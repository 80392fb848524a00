"""A folder of pictures, one folder per class, perhaps under train/, validation/ and test/.

The surprising thing: this is plain `os.walk` and not the `imagefolder` builder of `datasets`, because messages and the doctor
need each file's own name, the empty folders and the files that were passed over, and a cache of paths goes stale.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from residual.data.digest import files_digest
from residual.data.records import FileStore, Records, Source

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lies in a folder; raises nothing about it.

    Attributes:
        root: the folder.
        splits: split -> class -> pictures, relative to the root; one split "train" where there are no split folders.
        folders: split -> the folder that holds its classes, relative to the root ("" is the root itself).
        stray: pictures that lie beside class folders instead of in one.
        ignored: files of other kinds, counted by extension.
    """

    root: Path
    splits: dict[str, dict[str, list[str]]]
    folders: dict[str, str]
    stray: tuple[str, ...]
    ignored: dict[str, int]


def open_folder(root: Path) -> Source:
    """The pictures of a folder; ValueError where they are not one folder per class."""
    listing = scan_folder(root)
    fault = folder_fault(listing)
    if fault:
        raise ValueError(fault)
    classes = tuple(sorted(listing.splits["train"]))
    splits = folder_splits(listing, classes)
    files = [name for groups in listing.splits.values() for names in groups.values() for name in names]
    notes = []
    if listing.stray:
        notes.append(f"{len(listing.stray)} pictures lie in no class folder and are left out, such as {listing.stray[0]}.")
    return Source(
        name=str(root),
        kind="folder",
        classes=classes,
        splits=splits,
        fingerprint={"kind": "folder", **files_digest(root, files)},
        notes=tuple(notes),
    )


def scan_folder(root: Path) -> Listing:
    """What lies in the folder, sorted; hidden files and the litter of operating systems are as if they were not there."""
    tops = _folders(root)
    found = {split: next((t for t in tops if t.lower() in names), None) for split, names in SPLIT_NAMES.items()}
    ignored: Counter[str] = Counter()
    folders = {split: top for split, top in found.items() if top} if _is_split(root, found, tops) else {"train": ""}
    splits: dict[str, dict[str, list[str]]] = {}
    stray: list[str] = []
    for split, top in folders.items():
        splits[split] = {}
        for name in _folders(root / top):
            splits[split][name] = _pictures(root, PurePath(top) / name, ignored)
    for top in {*folders.values(), ""}:
        for name in _files(root / top):
            if _is_picture(name):
                stray.append((PurePath(top) / name).as_posix())
            else:
                ignored[Path(name).suffix.lower() or name] += 1
    return Listing(root=root, splits=splits, folders=folders, stray=tuple(sorted(stray)), ignored=dict(sorted(ignored.items())))


def folder_fault(listing: Listing) -> str:
    """One sentence on what keeps these pictures from being a data set, or an empty string."""
    train = listing.splits.get("train")
    if train is None:
        have = ", ".join(listing.folders.values())
        return f"{listing.root} has {have} but no train folder; put the training pictures in train/."
    where = listing.root / listing.folders["train"]
    if not any(train.values()):
        if listing.stray:
            return f"The pictures lie directly in {where}; put those of each class in a folder of their own, {where}/CLASS/*.jpg."
        kinds = f"; it holds {_kinds(listing.ignored)}" if listing.ignored else ""
        return f"No pictures ({' '.join(sorted(EXTENSIONS))}) in {where}{kinds}. Expected is one folder per class."
    for split, groups in listing.splits.items():
        for name, files in groups.items():
            if not files:
                return f"The class folder {listing.root / listing.folders[split] / name} holds no pictures; fill it or remove it."
    if len(train) == 1:
        only = next(iter(train))
        inner = [name for name in _folders(where / only) if any(_is_picture(f) for f in _files(where / only / name))]
        if len(inner) > 1:
            return f"{where} holds only the folder {only}; its classes lie one level deeper: pass {where / only}."
        return f"{where} holds only one class, {only}; a classifier needs at least two class folders."
    return _other_classes(listing)


def folder_splits(listing: Listing, classes: tuple[str, ...]) -> dict[str, Records]:
    """The records of every split; a class it lacks has none."""
    splits = {}
    for split, groups in listing.splits.items():
        files = tuple(name for label in classes for name in groups.get(label, ()))
        labels = np.repeat(np.arange(len(classes)), [len(groups.get(label, ())) for label in classes]).astype(np.int64)
        store = FileStore(root=str(listing.root), files=files)
        splits[split] = Records(store=store, rows=np.arange(len(files), dtype=np.int64), labels=labels)
    return splits


def _other_classes(listing: Listing) -> str:
    train = listing.splits["train"]
    for split, groups in listing.splits.items():
        extra, missing = sorted(set(groups) - set(train)), sorted(set(train) - set(groups))
        where = listing.root / listing.folders[split]
        if extra:
            return f"Class {extra[0]} is in {where} but not in train; both need the same class folders."
        if missing:
            return f"Class {missing[0]} is in train but not in {where}; both need the same class folders."
    return ""


def _is_split(root: Path, found: dict[str, str | None], tops: list[str]) -> bool:
    """Whether the top folders are splits: they are if train/ holds folders, or if there is nothing but split names."""
    if found["train"]:
        others = set(tops) - {name for name in found.values() if name}
        return bool(_folders(root / found["train"])) or not others
    return bool(tops) and all(any(t.lower() in names for names in SPLIT_NAMES.values()) for t in tops)


def _pictures(root: Path, folder: PurePath, ignored: Counter[str]) -> list[str]:
    """Every picture at any depth below a class folder, links followed once, sorted."""
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not _is_junk(name)]
        if real in seen:
            continue
        seen.add(real)
        for name in files:
            if _is_picture(name):
                found.append((Path(place) / name).relative_to(root).as_posix())
            elif not _is_junk(name):
                ignored[Path(name).suffix.lower() or name] += 1
    return sorted(found)


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if not _is_junk(entry.name) and entry.is_dir())


def _files(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if not _is_junk(entry.name) and not entry.is_dir())


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS and not _is_junk(name)


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _kinds(ignored: dict[str, int]) -> str:
    top = sorted(ignored.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{count} {kind} file{'s' if count > 1 else ''}" for kind, count in top)
