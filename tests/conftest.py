"""Which tests this environment can run. MXNet needs a numpy below 1.24 and so has an environment of its own: see the Makefile."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("mxnet") else ["*/test_mxnet*.py"]
