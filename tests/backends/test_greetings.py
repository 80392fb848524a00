"""TensorFlow's greetings are left out; all else that it writes while it loads is passed on."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

LOUD = """import os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may see\\n")
os.write(2, b"E0000 something is wrong\\n")
{end}
"""
RUN = "from residual.backends.greetings import import_tensorflow; import_tensorflow(); import os; os.write(2, b'later\\n')"


def said(folder: Path, end: str) -> str:
    (folder / "tensorflow.py").write_text(LOUD.format(end=end))
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {RUN}"], capture_output=True, text=True
    ).stderr


def test_what_is_not_a_greeting_is_heard(tmp_path: Path) -> None:
    assert said(tmp_path, "") == "E0000 something is wrong\nlater\n"


def test_so_it_is_where_the_import_fails(tmp_path: Path) -> None:
    told = said(tmp_path, "raise ImportError('no such processor')")
    assert told.startswith("E0000 something is wrong\n")
    assert "no such processor" in told


@pytest.mark.skipif(not find_spec("tensorflow"), reason="TensorFlow has an environment of its own")
def test_fast_convolutions_and_silence() -> None:
    code = "import os, residual; residual.create('cifar_resnet8', backend='tensorflow'); print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"
    assert "oneDNN" not in done.stderr
