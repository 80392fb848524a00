"""The formats there are, and which one a file is in: found from its content, whatever it is called.

A format is a module with NAME, recognise, read and, where it can be written, write; it is imported when it is asked for.
"""

import importlib
from pathlib import Path
from types import ModuleType

from residual.conversion.files import outline
from residual.conversion.found import Found
from residual.spelling import nearest

READ = ("residual", "transformers", "torchvision", "timm", "cifar", "chapter", "keras", "gluon")
WRITTEN = ("torchvision", "timm", "transformers", "keras", "gluon", "residual")
_MODULES = {"residual": "own"}
_KNOWN = (
    "torchvision's and timm's ResNets, CIFAR checkpoints, folders of transformers, Keras Applications files, Gluon's .params, "
    "the chapter's nets, and residual's own files and runs"
)


def format_module(name: str) -> ModuleType:
    """The module of a format. ValueError for a name that is none, with the nearest right one."""
    if name not in READ:
        raise ValueError(f"There is no format {name!r}.{nearest(name, WRITTEN)} Formats: {', '.join(WRITTEN)}.")
    return importlib.import_module(f"residual.conversion.{_MODULES.get(name, name)}")


def writer(name: str) -> ModuleType:
    """The module of a format that can be written. ValueError for a name that is none."""
    if name not in WRITTEN:
        raise ValueError(f"{name!r} is no format that can be written.{nearest(name, WRITTEN)} Formats: {', '.join(WRITTEN)}.")
    return format_module(name)


def read(path: str | Path) -> Found:
    """What a file or folder of any known format holds.

    Raises:
        ValueError: there is no such file, it is of no known format, or it is damaged; the message names it and what was seen in it.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no model file {path}.")
    for name in READ:
        module = format_module(name)
        if module.recognise(path):
            return module.read(path)  # type: ignore[no-any-return]
    raise ValueError(_unknown(path))


def _unknown(path: Path) -> str:
    """One sentence on a file that no format recognises: what is wrong with it, or what was seen in it."""
    if path.is_dir():
        return f"{path} is not a run: it has no run.json; nor has it the config.json of a ResNet of transformers."
    try:
        shapes = outline(path).shapes
    except ValueError as error:
        return str(error)
    seen = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:3])
    return f"{path} holds {len(shapes)} tensors ({seen}, ...), but no network that is known; known are {_KNOWN}."
