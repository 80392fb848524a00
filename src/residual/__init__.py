"""Residual networks, whole: described once, built in every framework, trained, studied and shipped.

Importing this package imports no framework: what needs one is fetched when it is first used. The core is imported here, at once,
because its modules `plan`, `cost` and `architecture` carry the names of their functions: imported first, they leave those names
to the functions.
"""

import importlib
from typing import TYPE_CHECKING, Any

from residual.architecture import Architecture
from residual.cost import Cost, cost
from residual.layers import Network
from residual.plan import plan
from residual.variants import VARIANTS, architecture

__version__ = "0.1.0"

_LATER = {
    "create": "models",
    "save": "models",
    "load": "models",
    "convert": "conversion",
    "Run": "runs",
    "train": "training.experiment",
    "evaluate": "training.evaluation",
    "Evaluation": "training.evaluation",
    "predict": "training.prediction",
}

if TYPE_CHECKING:
    from residual.conversion import convert as convert
    from residual.models import create as create
    from residual.models import load as load
    from residual.models import save as save
    from residual.runs import Run as Run
    from residual.training.evaluation import Evaluation as Evaluation
    from residual.training.evaluation import evaluate as evaluate
    from residual.training.experiment import train as train
    from residual.training.prediction import predict as predict

__all__ = ["VARIANTS", "Architecture", "Cost", "Network", "__version__", "architecture", "cost", "plan", *_LATER]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'residual' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"residual.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
