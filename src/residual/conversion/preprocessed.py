"""The preprocessing of files that do not say theirs: what timm's config.json beside them tells, or what their library uses.

The surprising thing: some of its nets (resnetblur50, resnetaa50) have the tensors of another, and blur before they stride: only that
file tells.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from residual.conversion.found import Found
from residual.preprocessing import Preprocessing

UNKNOWN = "The file does not say how pictures are prepared for it; --mean, --std and --image-size of `residual convert` write it down."
ABOUT = "pictures are prepared"  # is in every note that is settled once somebody says how
CONFIG = "config.json"
_MAX_CONFIG = 2**20


def prepared(found: Found, assumed: Preprocessing | None, whose: str) -> Found:
    """`found` with the preprocessing `assumed`, noted as that of `whose`; without any it says that it is unknown."""
    if assumed is None:
        return replace(found, notes=(*found.notes, UNKNOWN))
    note = f"The file does not say how pictures are prepared for it: that of {whose} was taken ({_told(assumed)})."
    return replace(found, preprocessing=assumed, notes=(*found.notes, note))


def prepared_by_timm(found: Found, path: Path, assumed: Preprocessing | None, whose: str) -> Found:
    """`found` with the preprocessing of the config.json that timm puts beside its weights; else as `prepared` has it.

    ValueError where that file names a net that computes something else from these tensors.
    """
    config = _config(path.with_name(CONFIG))
    name = str(config.get("architecture", ""))
    if "blur" in name or "aa" in name:
        raise ValueError(f"{path} belongs to timm's {name} by the {CONFIG} beside it: that net blurs before it strides, which ours cannot.")
    cleaned = _of_config(config.get("pretrained_cfg"), found.architecture.in_channels)
    if cleaned is None:
        return prepared(found, assumed, whose)
    note = f"How pictures are prepared was read from the {CONFIG} beside the file ({_told(cleaned)})."
    return replace(found, preprocessing=cleaned, notes=(*found.notes, note))


def _config(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where it is no JSON object of a fitting size."""
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= _MAX_CONFIG else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _of_config(told: Any, channels: int) -> Preprocessing | None:
    try:
        count, height, width = map(int, told["input_size"])
        mean, std = tuple(map(float, told["mean"])), tuple(map(float, told["std"]))
        cleaned = Preprocessing(size=(height, width), channels=count, mean=mean, std=std, crop=float(told["crop_pct"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return cleaned if count == channels else None


def _told(cleaned: Preprocessing) -> str:
    height, width = cleaned.size
    return f"{height}x{width}, crop {cleaned.crop:g}, mean {cleaned.mean}, std {cleaned.std}"
