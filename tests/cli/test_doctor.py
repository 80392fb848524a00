"""`residual doctor` shows what `examine` found, as text and as JSON, and changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of four pictures, one of them cut short."""
    stream = np.random.default_rng(0)
    for name in ("bee", "cat"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.fromarray(stream.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / name / f"{number}.png")
    cut = tmp_path / "cat" / "3.png"
    cut.write_bytes(cut.read_bytes()[:60])
    return tmp_path


def test_text_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert main(["doctor", str(folder)]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    assert "3.png" in text
    assert main(["doctor", str(folder), "--json"]) == 0
    assert "3.png" in json.dumps(json.loads(capsys.readouterr().out))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
