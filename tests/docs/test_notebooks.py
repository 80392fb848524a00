"""The notebooks run from top to bottom in a kernel of their own, with shorter trainings of shallower nets, and are kept without large
outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
_RUN = r"""
import re, sys, nbformat
from nbclient import NotebookClient
book = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(book)
for cell in book.cells:
    cell.source = re.sub(r"\bepochs=\d+", "epochs=1", cell.source).replace("cifar_{kind}20", "cifar_{kind}8")
NotebookClient(book, timeout=600, kernel_name="python3").execute()
nbformat.write(book, "run.ipynb")
"""


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 8


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, tmp_path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    assert sum(len(json.dumps(cell.get("outputs", []))) for cell in kept["cells"]) < 200_000
    done = subprocess.run([sys.executable, "-c", _RUN, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run.ipynb").read_text(encoding="utf-8"))
    for cell in run["cells"]:
        if cell["cell_type"] == "code" and "".join(cell["source"]).rstrip().endswith(("figure", ")")):
            assert cell["outputs"], "".join(cell["source"])
