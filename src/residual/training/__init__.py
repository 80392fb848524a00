"""Training in PyTorch: recipes, augmentation, the loop, checkpoints, and the experiment that puts them together.

`__all__` is what studies may use. Importing this package imports nothing: each name is fetched when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from residual.data import Frame as Frame
    from residual.data import decode as decode
    from residual.data import look as look
    from residual.data import open_source as open_source
    from residual.training import machine as machine
    from residual.training import versions as versions
    from residual.training.evaluation import note_opening as note_opening
    from residual.training.prediction import frame_of as frame_of
    from residual.training.prepare import splits as splits

_LATER = {
    "Frame": "residual.data",
    "decode": "residual.data",
    "frame_of": "residual.training.prediction",
    "look": "residual.data",
    "note_opening": "residual.training.evaluation",
    "open_source": "residual.data",
    "splits": "residual.training.prepare",
}

__all__ = ["Frame", "decode", "frame_of", "look", "machine", "note_opening", "open_source", "splits", "versions"]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'residual.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
