"""Wrong arguments, names, files, folders and checkpoints of the commands that work on data: one sentence each, exit code 2, nothing lost.

`test_frame` holds the same for the commands that only describe networks.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import residual
from residual.cli import main
from residual.preprocessing import Preprocessing
from residual.runs import open_run
from residual.training.experiment import begin, pause, proceed


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)


def folder(root: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture(root / name / f"{index}.png", seed=hash((name, index)) % 1000)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of thing that is wrong, and one run that is finished and one that is not."""
    root = tmp_path_factory.mktemp("mistakes")
    folder(root / "good", cats=12, dogs=12)
    folder(root / "one_class", cats=6)
    folder(root / "empty_class", cats=6, dogs=0)
    folder(root / "tiny", cats=1, dogs=1)
    folder(root / "differ/train", cats=6, dogs=6)
    folder(root / "differ/test", cats=3, birds=3)
    (root / "nothing").mkdir()
    folder(root / "broken", cats=6, dogs=6)
    for index in range(6):
        (root / "broken/dogs" / f"{index}.png").write_bytes(b"not a picture")
    (root / "file.txt").write_text("not a folder")
    (root / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    residual.save(residual.create("cifar_resnet8", num_classes=2), root / "bare.safetensors")
    box = Preprocessing(size=(16, 16), channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    residual.save(residual.create("cifar_resnet8", num_classes=2), root / "other.safetensors", classes=("x", "y"), preprocessing=box)
    fields = dict(model="cifar_resnet8", epochs=2, batch_size=8)
    residual.train(str(root / "good"), out=root / "finished", **fields)
    stopped = begin(str(root / "good"), "default", fields, out=root / "stopped")
    next(iter(proceed(stopped)))
    pause(stopped)
    for name in ("truncated", "text", "no_checkpoint", "bad_json", "future", "changed"):
        shutil.copytree(root / "stopped", root / name)
    checkpoint = "checkpoint/last.safetensors"
    (root / "truncated" / checkpoint).write_bytes((root / "stopped" / checkpoint).read_bytes()[:5000])
    (root / "text" / checkpoint).write_text("hello")
    (root / "no_checkpoint" / checkpoint).unlink()
    (root / "bad_json" / "run.json").write_text('{"model": ')
    (root / "future" / "run.json").write_text('{"format_version": 99}')
    folder(root / "moved", cats=12, dogs=12)
    record = json.loads((root / "changed/run.json").read_text())
    record["data"]["source"] = str(folder(root / "other_data", cats=12, dogs=13))
    (root / "changed/run.json").write_text(json.dumps(record))
    return root


MISTAKES: list[tuple[str, str]] = [
    # arguments of train
    ("train", "needs DATA"),
    ("train {}/good --epohcs 3", "Did you mean '--epochs'"),
    ("train {}/good --epochs three", "--epochs is 'three', but must be a whole number"),
    ("train {}/good --epochs 0", "epochs is 0, but must lie between 1"),
    ("train {}/good --epochs -1", "-1"),
    ("train {}/good --batch-size 0", "batch_size is 0"),
    ("train {}/good --learning-rate fast", "--learning-rate is 'fast', but must be a number"),
    ("train {}/good --learning-rate -0.1", "learning_rate is -0.1"),
    ("train {}/good --learning-rate nan", "learning_rate is nan"),
    ("train {}/good --momentum 1", "momentum is 1"),
    ("train {}/good --optimizer adam", "Did you mean 'adamw'"),
    ("train {}/good --schedule cosin", "Did you mean 'cosine'"),
    ("train {}/good --flip sideways", "--flip is 'sideways'"),
    ("train {}/good --milestones 0.7 0.3 --schedule steps", "milestones"),
    ("train {}/good --crop-scale 0.5", "--crop-scale"),
    ("train {}/good --crop-scale 0.8 0.2", "crop_scale is (0.8, 0.2)"),
    ("train {}/good --validation 1.5", "validation is 1.5"),
    ("train {}/good --accumulate 500 --batch-size 100", "accumulate is 500"),
    ("train {}/good --time soon", "--time is 'soon'"),
    ("train {}/good --time 0s", "--time is '0s'"),
    ("train {}/good --time -5", "--time"),
    ("train {}/good --model resnet19", "Did you mean 'resnet18'"),
    ("train {}/good --model cifar_resnet21", "6n + 2"),
    ("train {}/good --recipe defualt", "Did you mean 'default'"),
    ("train {}/good --recipe paper_cifar", "Did you mean 'paper-cifar'"),
    ("train {}/good --backend pytorch", "Did you mean 'torch'"),
    ("train {}/good --backend jax --time 5s", "The backend 'jax' cannot train with time=5.0"),
    ("train {}/good --backend tensorflow --mixup 0.2", "The backend 'tensorflow' cannot train with mixup=0.2"),
    ("train {}/good --backend mxnet --optimizer adamw", "The backend 'mxnet' cannot train with optimizer='adamw'"),
    ("evaluate {}/finished --backend keras", "There is no backend 'keras'"),
    ("predict {}/finished {}/good --backend tenserflow", "Did you mean 'tensorflow'"),
    ("train {}/good --backend jaxx", "Did you mean 'jax'"),
    ("train {}/good {}/tiny", "does not know what to do with"),
    ("train {}/good --seed -3", "seed is -3"),
    ("train {}/good --image-size 100000", "image_size is 100000"),
    ("train {}/good --ema 1", "ema is 1"),
    # data
    ("train {}/goood", "Did you mean"),
    ("train digit", "Did you mean 'digits'"),
    ("train fashion-mnits", "Did you mean 'fashion-mnist'"),
    ("train {}/file.txt", "is a file"),
    ("train {}/nothing", "nothing"),
    ("train {}/one_class", "cats"),
    ("train {}/empty_class", "dogs"),
    ("train {}/tiny", "tiny"),
    ("train {}/differ", "birds"),
    ("train {}/broken", "broken"),
    # folders and checkpoints
    ("train {}/good --out {}/finished", "holds a run already"),
    ("train {}/good --out {}/file.txt", "is a file"),
    ("train --resume {}/absent", "no run folder"),
    ("train --resume {}/good", "is not a run"),
    ("train --resume {}/finished", "is finished"),
    ("train --resume {}/stopped --epochs 9", "leave out everything"),
    ("train --resume {}/truncated", "truncated/checkpoint/last.safetensors is damaged"),
    ("train --resume {}/text", "text/checkpoint/last.safetensors is damaged"),
    ("train --resume {}/no_checkpoint", "no checkpoint"),
    ("train --resume {}/bad_json", "bad_json/run.json is damaged"),
    ("train --resume {}/future", "not written by this version"),
    ("train --resume {}/changed", "is not what the run"),
    # evaluate, predict, report, doctor
    ("evaluate", "needs RUN"),
    ("evaluate {}/absent", "absent"),
    ("evaluate {}/good", "is not a run"),
    ("evaluate {}/model.safetensors {}/good", "model.safetensors"),
    ("evaluate {}/bare.safetensors", "name the data"),
    ("evaluate {}/other.safetensors {}/good", "class 'cats'"),
    ("evaluate {}/finished --split tset", "Did you mean 'test'"),
    ("evaluate {}/finished {}/absent", "absent"),
    ("predict {}/finished", "no picture to predict"),
    ("predict {}/finished {}/absent.jpg", "absent.jpg"),
    ("predict {}/finished {}/nothing", "nothing"),
    ("predict {}/finished {}/good/cats/0.png --top-k 0", "top_k is 0"),
    ("predict {}/finished {}/broken/dogs/0.png", "broken/dogs/0.png"),
    ("predict {}/absent {}/good", "absent"),
    ("predict {}/finished {}/good --csv {}/none/here.csv", "here.csv"),
    ("report", "needs at least one run"),
    ("report {}/absent", "absent"),
    ("report {}/good", "is neither a run nor a study's result"),
    ("doctor", "needs FOLDER"),
    ("doctor {}/absent", "absent"),
    ("doctor {}/file.txt", "is a file"),
]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("command", "said"), MISTAKES, ids=[command.replace("{}/", "") for command, _ in MISTAKES])
def test_one_sentence_and_nothing_lost(
    command: str, said: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(place)
    code = main([part.replace("{}", str(place)) for part in command.split()])
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert err.startswith("residual: ")
    assert err.count("\n") == 1
    assert err.rstrip().endswith((".", "?"))
    assert "Traceback" not in err
    assert "│" not in err
    assert said in err
    assert contents(place) == before
    assert list(tmp_path.iterdir()) == []


def test_there_are_at_least_forty() -> None:
    assert len(MISTAKES) >= 40


def call(function: Callable[[], object]) -> str:
    with pytest.raises(ValueError, match=r"\S") as error:
        function()
    return str(error.value)


def test_mistakes_in_python() -> None:
    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    assert "uint8" in call(lambda: residual.train((images.astype(np.float32), labels)))
    assert "labels" in call(lambda: residual.train((images, labels[:5])))
    assert "Did you mean 'epochs'" in call(lambda: residual.train((images, labels), epocs=3))
    assert "Did you mean 'resnet18'" in call(lambda: residual.create("resnet_18"))
    assert "Did you mean 'torch'" in call(lambda: residual.create("resnet18", backend="troch"))


def test_a_run_on_arrays_needs_them_again(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8), np.arange(40) % 2
    run = residual.train((images, labels), "cifar_resnet8", out=tmp_path / "run", epochs=1, batch_size=8)
    assert open_run(run.folder).record["status"] == "finished"
    assert "arrays" in call(lambda: residual.evaluate(run))
    assert residual.evaluate(run, (images, labels)).count == 8
