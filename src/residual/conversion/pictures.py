"""Hugging Face's preprocessor_config.json and our Preprocessing, either way round.

The surprising thing: ConvNextImageProcessor, which its ResNets name, cuts the centre out below 384 pixels; from there on it squeezes
the whole picture.
"""

import math
from pathlib import Path
from typing import Any

from residual.conversion.preprocessed import UNKNOWN
from residual.preprocessing import Preprocessing

_SQUEEZED = 384
Answer = tuple[Preprocessing | None, tuple[str, ...]]


def processor_config(cleaned: Preprocessing) -> dict[str, Any]:
    """The content of preprocessor_config.json. ValueError where the library has no words for it."""
    if len(cleaned.mean) != cleaned.channels:
        raise ValueError("transformers cannot hold this preprocessing: mean is one number per pixel, and there it is one per channel.")
    height, width = cleaned.size
    told: dict[str, Any] = {
        "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "image_mean": list(cleaned.mean),
        "image_std": list(cleaned.std), "resample": 2,
    }  # fmt: skip
    if height == width < _SQUEEZED:
        kind = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": height}, "crop_pct": cleaned.crop}
    else:
        kind = {
            "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": math.ceil(min(height, width) / cleaned.crop)},
            "do_center_crop": True, "crop_size": {"height": height, "width": width}, "do_convert_rgb": cleaned.channels == 3,
        }  # fmt: skip
    return kind | told


def from_processor(path: Path, told: dict[str, Any], channels: int) -> Answer:
    """The preprocessing that the file at `path` tells, None where it says none of ours; and sentences on it."""
    if not told:
        return None, (UNKNOWN,)
    try:
        return _understood(told, channels)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        return None, (f"{path.name} was not understood ({type(error).__name__}: {error}). {UNKNOWN}",)


def _understood(told: dict[str, Any], channels: int) -> Answer:
    factor = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    if not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise ValueError(f"rescale_factor {factor} is not 1/255")
    normal = told.get("do_normalize", True)
    mean, std = (
        tuple(map(float, told[name])) if normal else (value,) * channels for name, value in (("image_mean", 0.0), ("image_std", 1.0))
    )
    (height, width), crop, notes = _size_and_crop(told)
    return Preprocessing(size=(int(height), int(width)), channels=channels, mean=mean, std=std, crop=crop), notes


def _size_and_crop(told: dict[str, Any]) -> tuple[tuple[int, int], float, tuple[str, ...]]:
    kind = str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")
    size = told["size"]
    side = size if isinstance(size, int) else size.get("shortest_edge")
    warped = (
        "The library squeezes pictures to their size without keeping their shape; pictures are prepared by a cut of the centre here.",
    )
    if kind.startswith("ConvNext"):
        return ((side, side), float(told.get("crop_pct", 0.875)), ()) if side < _SQUEEZED else ((side, side), 1.0, warped)
    if told.get("do_center_crop"):
        cut = told.get("crop_size", size)
        height, width = (cut, cut) if isinstance(cut, int) else (cut["height"], cut["width"])
        return (height, width), min(1.0, min(height, width) / (side or min(size["height"], size["width"]))), ()
    height, width = (side, side) if side else (size["height"], size["width"])
    return (height, width), 1.0, warped
