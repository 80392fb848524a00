"""Our own files and runs, read and written like the other formats: one safetensors file that says its architecture."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from residual.conversion.found import Found
from residual.runs import RUN_FILE, open_run
from residual.weights import SavedModel, load, save

NAME = "residual"


def recognise(path: Path) -> bool:
    if path.is_dir():
        return (path / RUN_FILE).is_file()
    try:
        with safe_open(path, framework="numpy") as file:
            return "residual" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read(path: Path) -> Found:
    saved = open_run(path).saved() if path.is_dir() else load(path)
    return Found(
        format=NAME, architecture=saved.architecture, weights=saved.weights, pairs={name: name for name in saved.weights},
        classes=saved.classes, preprocessing=saved.preprocessing,
    )  # fmt: skip


def write(saved: SavedModel, path: Path) -> tuple[str, ...]:
    save(path, saved)
    return ()
