"""The figures of the pages are those that the kept results make, and each stands on a page."""

import re
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import DOCS, pages

SCRIPT = DOCS.parent / "scripts" / "docs_figures.py"


def test_every_figure_is_of_its_result(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=True)
    made = [Path(line) for line in done.stdout.splitlines()]
    assert {path.stem for path in made} >= {"degradation", "responses", "landscape"}
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    for path in made:
        kept = DOCS / "assets" / path.name
        assert path.read_text(encoding="utf-8") == kept.read_text(encoding="utf-8"), (
            f"python scripts/docs_figures.py draws {path.name} anew"
        )
        assert re.search(rf"!\[[^]]+\]\([./]*assets/{path.name}\)", text), f"no page shows {path.name}"
