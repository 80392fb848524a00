"""A run's snapshots are the path of its training."""

from pathlib import Path

import numpy as np
import pytest

import residual
from residual.study.landscape_path import snapshots, stops


def test_the_path_of_a_run_is_its_snapshots(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (60, 9, 8)).astype(np.uint8), np.arange(60) % 3
    run = residual.train((images, labels), "cifar_resnet8", epochs=2, batch_size=16, snapshots=True, out=tmp_path / "run")
    assert [name for name, _ in stops(run.folder)] == ["epoch-0", "epoch-1", "epoch-2"]
    found = snapshots(run.folder)
    assert len(found) == 3
    assert all(np.array_equal(found[-1][name], value) for name, value in run.saved().weights.items())
    (tmp_path / "run/snapshots").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="train with --snapshots True"):
        snapshots(run.folder)
