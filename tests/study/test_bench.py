"""Every model sees the same pictures, prepared as it wants them; looking at a test split leaves its trace in a run."""

from pathlib import Path

import numpy as np
import pytest

import residual
from residual.runs import open_run
from residual.study.bench import Ask, open_bench
from residual.training.prepare import splits
from tests.report.conftest import made_run


def arrays(count: int = 40, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(5)
    return stream.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), np.arange(count) % classes


def test_the_pictures_are_a_fixed_subset_prepared_for_each_model(tmp_path: Path) -> None:
    run, data = made_run(tmp_path / "run"), arrays()
    ask = Ask(models=(str(run.folder), "cifar_plain8"), data=data, split="train", count=10, seed=3)
    bench, again, other = open_bench(ask, "x"), open_bench(ask, "x"), open_bench(Ask(**{**vars(ask), "seed": 4}), "x")
    rows = bench.records.rows
    assert len(set(rows.tolist())) == 10
    assert (rows == again.records.rows).all()
    assert rows.tolist() != other.records.rows.tolist()
    assert bench.told["hash"] == again.told["hash"] != other.told["hash"]
    assert (bench.told["count"], bench.told["of"], bench.told["split"]) == (10, 32, "train")
    assert (bench.labels == data[1][rows]).all()
    mine, fresh = bench.subjects
    wanted = (data[0][rows].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(bench.pictures(mine), wanted, atol=1e-6)
    pictures = bench.pictures(fresh)
    np.testing.assert_allclose(pictures.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(pictures.std((0, 2, 3)), 1, atol=1e-4)
    assert fresh.network.num_classes == 4


def test_all_pictures_where_none_are_left_out() -> None:
    for count in (0, 1000):
        bench = open_bench(Ask(models=("cifar_plain8",), data=arrays(), split="test", count=count), "x")
        assert bench.told["count"] == bench.told["of"] == 8


def test_a_run_s_own_data_and_its_own_cut(tmp_path: Path) -> None:
    run = residual.train("digits", "cifar_resnet8", epochs=1, time=1.0, validation=0.2, out=tmp_path / "run")
    bench = open_bench(Ask(models=(str(run.folder),), split="validation", count=0), "lesion")
    wanted = splits(bench.source, run.recipe, [])["validation"]
    assert (bench.records.rows == wanted.rows).all()
    assert bench.told["of"] == run.record["split"]["validation"]
    assert len(open_run(run.folder).record["test_openings"]) == 1
    open_bench(Ask(models=(str(run.folder),), count=20), "lesion")
    last = open_run(run.folder).record["test_openings"][-1]
    assert (last["by"], last["count"], last["data"]) == ("study lesion", 20, "digits")


def test_labels_follow_the_model_s_own_order_of_classes(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", classes=tuple("9876543210"), size=8)
    bench = open_bench(Ask(models=(str(run.folder),), data="digits", count=50), "x")
    assert (bench.targets(bench.subjects[0]) == 9 - bench.labels).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": ()}, "needs at least one model"),
        ({"data": None}, "None of the models is a run"),
        ({"split": "tset"}, "no split 'tset'. Did you mean 'test'"),
        ({"split": "validation"}, "has no validation split"),
        ({"count": -1}, "count is -1"),
        ({"count": 1}, "count is 1"),
        ({"data": "nowhere"}, "no data set and no folder 'nowhere'"),
    ],
)
def test_mistakes(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_bench(Ask(**{"models": ("cifar_plain8",), "data": arrays(), **changes}), "x")


def test_data_that_does_not_fit_the_model(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    with pytest.raises(ValueError, match="digits has the class '0', which run does not know"):
        open_bench(Ask(models=(str(run.folder),), data="digits"), "x")
    residual.save(residual.create("cifar_plain8", num_classes=3), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="arrays has 4 classes, but m has 3 outputs"):
        open_bench(Ask(models=(str(tmp_path / "m.safetensors"),), data=arrays()), "x")
    with pytest.raises(ValueError, match="was trained on arrays: name other data"):
        open_bench(Ask(models=(str(run.folder),)), "x")
