"""Values that options are written as."""

import re


def image_size(text: str) -> tuple[int, int]:
    """(height, width) of "224" or "96x128". ValueError for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,4})(?:[xX]([1-9]\d{0,4}))?", text.strip(), re.ASCII)
    if not match:
        raise ValueError(f"--image-size is {text!r}, but must be a side in pixels, e.g. 224, or height x width, e.g. 96x128.")
    return int(match[1]), int(match[2] or match[1])


def seconds(text: str) -> float:
    """Seconds of "60s", "90", "5m" or "1.5h". ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|m|min|h)?", text.strip().lower(), re.ASCII)
    value = float(match[1]) * {"m": 60, "h": 3600}.get((match[2] or "s")[0], 1) if match else 0.0
    if value <= 0:
        raise ValueError(f"--time is {text!r}, but must be a time above zero such as 60s, 5m or 1.5h.")
    return value
