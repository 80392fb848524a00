"""Which tests this environment can run, and in what order. MXNet needs a numpy below 1.24 and so has an environment of its own: see the
Makefile."""

import os
from importlib.util import find_spec

import pytest

os.environ["RESIDUAL_CACHE"] = "off"  # tests decode what they look at, and leave nothing in the user's cache

collect_ignore_glob = [] if find_spec("mxnet") else ["*/test_mxnet*.py"]

# Files of which each keeps one worker for minutes. They are begun first, or the last of them would run while the other workers wait.
LONG = (
    "test_keras_on_jax.py", "test_checkpoint.py", "test_code.py", "test_notebooks.py", "test_chapter.py", "test_agreement.py",
    "test_keras.py", "test_browser.py", "test_mxnet_agreement.py", "test_mxnet_code.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
