"""Which tests this environment can run. MXNet needs a numpy below 1.24 and so has an environment of its own: see the Makefile."""

import os
from importlib.util import find_spec

os.environ["RESIDUAL_CACHE"] = "off"  # tests decode what they look at, and leave nothing in the user's cache

collect_ignore_glob = [] if find_spec("mxnet") else ["*/test_mxnet*.py"]
