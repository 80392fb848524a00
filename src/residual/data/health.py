"""What was found wrong with a folder of pictures, and how it reads as text.

The surprising thing: a picture can be in several lists at once; a twin that leaks from train into test is also a duplicate.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from residual.data.records import Problem

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Pictures that are the same.

    Attributes:
        pictures: file or row of each.
        classes: the class of each.
        splits: the split of each.
        exact: whether their files agree byte for byte; they look the same otherwise.
    """

    pictures: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Health:
    """What `examine` found.

    Attributes:
        folder: what was examined.
        kind: "folder" or "parquet".
        fault: the sentence with which training would refuse the folder, or an empty string.
        counts: split -> class -> pictures.
        unreadable: pictures that cannot be read.
        leaked: twins in train and in another split.
        contradictions: twins that are filed under different classes.
        duplicates: exact twins, the above among them.
        near: twins that only look the same, the above among them.
        sizes: smallest, median and largest height and width in pixels; empty where nothing could be read.
        formats: file formats and how many pictures have each.
        modes: Pillow's pixel types, likewise.
        stray: pictures that lie in no class folder.
        ignored: files of other kinds by extension.
        notes: what else training would tell the user about this data.
    """

    folder: str
    kind: str
    fault: str
    counts: dict[str, dict[str, int]]
    unreadable: tuple[Problem, ...]
    leaked: tuple[Twins, ...]
    contradictions: tuple[Twins, ...]
    duplicates: tuple[Twins, ...]
    near: tuple[Twins, ...]
    sizes: dict[str, tuple[int, int]]
    formats: dict[str, int]
    modes: dict[str, int]
    stray: tuple[str, ...]
    ignored: dict[str, int]
    notes: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found that a person should look at."""
        return not (self.fault or self.unreadable or self.duplicates or self.near or self.stray)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def describe_health(health: Health) -> str:
    """The findings as text, what matters most first, lists cut at 10."""
    total = sum(sum(classes.values()) for classes in health.counts.values())
    per_split = ", ".join(f"{split} {sum(classes.values())}" for split, classes in health.counts.items())
    names = {name for classes in health.counts.values() for name in classes}
    lines = [f"{health.folder}: {_many(total, 'picture')} in {_many(len(names), 'class', 'classes')} ({per_split or 'none'})"]
    if health.fault:
        lines.append(f"Cannot be trained on: {health.fault}")
    lines += _section("Cannot be read and would be left out", (f"{p.file}: {p.reason}" for p in health.unreadable))
    lines += _section("In train and in another split", (_pair(twins) for twins in health.leaked))
    lines += _section("The same picture under different classes", (_pair(twins) for twins in health.contradictions))
    lines += _section("Exact duplicates", (_pair(twins) for twins in health.duplicates))
    lines += _section("Near duplicates", (_pair(twins) for twins in health.near))
    lines += _section("Pictures in no class folder, left out", health.stray)
    lines += [f"Note: {note}" for note in health.notes]
    lines += _balance(health)
    if health.sizes:
        low, middle, high = (f"{h} x {w}" for h, w in (health.sizes[key] for key in ("smallest", "median", "largest")))
        lines.append(f"Height x width: median {middle}, from {low} to {high}")
    for label, counts in (("Formats", health.formats), ("Pixels", health.modes), ("Other files, ignored", health.ignored)):
        if counts:
            lines.append(f"{label}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    lines.append("Nothing is wrong with it." if health.clean else "Nothing was changed on disk.")
    return "\n".join(lines)


def _section(title: str, items: Iterable[str]) -> list[str]:
    entries = list(items)
    if not entries:
        return []
    more = [f"  and {len(entries) - _SHOWN} more"] if len(entries) > _SHOWN else []
    return [f"{title}: {len(entries)}", *(f"  {entry}" for entry in entries[:_SHOWN]), *more]


def _pair(twins: Twins) -> str:
    """The twins in a line; class and split are told only where they differ."""
    parts = []
    for picture, label, split in list(zip(twins.pictures, twins.classes, twins.splits, strict=True))[:4]:
        told = [split] * (len(set(twins.splits)) > 1) + [label] * (len(set(twins.classes)) > 1)
        parts.append(f"{picture} ({', '.join(told)})" if told else picture)
    more = f" and {len(twins.pictures) - 4} more" if len(twins.pictures) > 4 else ""
    return (" = " if twins.exact else " ~ ").join(parts) + more


def _balance(health: Health) -> list[str]:
    train = health.counts.get("train", {})
    if len(train) < 2:
        return []
    least, most = min(train, key=lambda name: train[name]), max(train, key=lambda name: train[name])
    if train[least] == train[most]:
        return [f"Balance: every class has {_many(train[least], 'training picture')}"]
    ratio = f", {train[most] / train[least]:.1f} times as many" if train[least] else ""
    return [f"Balance: from {train[least]} training pictures ({least}) to {train[most]} ({most}){ratio}"]


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"
