"""The versions a run was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

_ALWAYS = ("residual", "torch", "numpy", "pillow", "simplejpeg", "datasets", "scikit-learn", "safetensors")
_FRAMEWORKS = {"tensorflow": ("keras", "tensorflow-cpu", "tensorflow"), "jax": ("keras", "jax"), "mxnet": ("mxnet",)}


def versions(backend: str = "torch") -> dict[str, str]:
    """Name -> version of Python and of the packages that can change a number of a run in `backend`."""
    found = {"python": platform.python_version()}
    for name in (*_ALWAYS, *_FRAMEWORKS.get(backend, ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional package, or the project run from its sources
            continue
    return found
