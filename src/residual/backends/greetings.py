"""TensorFlow imported without its greetings, which no log level of its own takes away; all else it says is passed on.

Source: `port.cc` and absl's log write them to file descriptor 2 while the library loads, before any setting of theirs is read.
"""

import importlib
import os
import sys
import tempfile

_GREETINGS = (b"All log messages before absl::InitializeLog() is called", b"oneDNN custom operations are on")


def import_tensorflow() -> None:
    """Imports it where it is installed; what it writes to standard error meanwhile follows when it is done."""
    with tempfile.TemporaryFile() as said:
        try:
            sys.stderr.flush()
            outer = os.dup(2)
            os.dup2(said.fileno(), 2)
        except (AttributeError, OSError):  # no standard error to keep quiet
            importlib.import_module("tensorflow")
            return
        try:
            importlib.import_module("tensorflow")
        finally:
            os.dup2(outer, 2)
            os.close(outer)
            said.seek(0)
            for line in said:
                if not any(greeting in line for greeting in _GREETINGS):
                    os.write(2, line)


__all__ = ["import_tensorflow"]
