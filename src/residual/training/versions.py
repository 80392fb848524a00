"""The versions a run was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Name -> version of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in ("residual", "torch", "numpy", "pillow", "datasets", "scikit-learn", "safetensors"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional package, or the project run from its sources
            continue
    return found
