"""Keras files that are damaged or made to harm: one sentence, no other file opened, no memory taken for what is only claimed."""

import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residual.conversion import keras as conversion

h5py: Any = pytest.importorskip("h5py", reason="h5py comes with Keras", exc_type=ImportError)

STAGES, WIDTHS = (1, 2), (4, 6)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def layers() -> dict[str, dict[str, np.ndarray]]:
    """A small V1 net's layers under their names in the older format."""
    stream, found = np.random.default_rng(0), dict[str, dict[str, np.ndarray]]()

    def add(name: str, kernel: int, inner: int, outer: int) -> None:
        weight = stream.standard_normal((kernel, kernel, inner, outer)).astype(np.float32)
        found[f"{name}_conv"] = {"kernel": weight, "bias": np.ones(outer, np.float32)}
        found[f"{name}_bn"] = {part: np.ones(outer, np.float32) for part in NORM}

    add("conv1", 7, 3, 5)
    channels = 5
    for stage, (depth, width) in enumerate(zip(STAGES, WIDTHS, strict=True), 2):
        for block in range(1, depth + 1):
            if block == 1:
                add(f"conv{stage}_block1_0", 1, channels, 4 * width)
            for number, (kernel, inner, outer) in enumerate(((1, channels, width), (3, width, width), (1, width, 4 * width)), 1):
                add(f"conv{stage}_block{block}_{number}", kernel, inner, outer)
            channels = 4 * width
    found["predictions"] = {"kernel": np.ones((channels, 3), np.float32), "bias": np.ones(3, np.float32)}
    return found


Change = Callable[[Any], None]


def written(path: Path, change: Change = lambda file: None) -> Path:
    with h5py.File(path, "w") as file:
        for layer, parts in layers().items():
            for part, value in parts.items():
                file[f"{layer}/{layer}/{part}:0"] = value
        change(file)
    return path


KERNEL = "conv1_conv/conv1_conv/kernel:0"


def _claims(shape: tuple[int, ...], **options: Any) -> Change:
    def change(file: Any) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, shape, "f4", **options)

    return change


def _replaced(value: Any) -> Change:
    def change(file: Any) -> None:
        del file[KERNEL]
        file[KERNEL] = value

    return change


def _holds_nan(file: Any) -> None:
    file[KERNEL][0, 0, 0, 0] = np.nan


def _virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((7, 7, 3, 5), "f4")
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", (7, 7, 3, 5))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def _external(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (7, 7, 3, 5), "f4", external=[("/etc/hostname", 0, 7 * 7 * 3 * 5 * 4)])


def _circle(file: Any) -> None:
    file["conv1_conv/again"] = file["conv1_conv"]


def _many_names_for_one(file: Any) -> None:
    """Hard links let a small file hold the same megabyte a thousand times."""
    file["big/x/kernel:0"] = np.zeros(1 << 18, np.float32)
    for number in range(1000):
        file[f"big/x{number}/kernel:0"] = file["big/x/kernel:0"]


def _scalar_in_a_block(file: Any) -> None:
    name = "conv3_block2_1_conv/conv3_block2_1_conv/kernel:0"
    del file[name]
    file[name] = np.float32(1)


def _without_head(file: Any) -> None:
    del file["predictions"]


HOSTILE: dict[str, tuple[Change, str]] = {
    "10 GiB": (_claims((10, 1024, 1024, 256)), "claims 10737418240 bytes"),
    "never written": (_claims((7, 7, 3, 5)), "claims 2940 bytes"),
    "10 GiB in chunks": (_claims((10, 1024, 1024, 256), chunks=(1, 64, 64, 64), compression="gzip"), "claims 10737418240 bytes"),
    "external link": (_replaced(h5py.ExternalLink("/etc/hostname", "/x")), "is a link to another place"),
    "soft link": (_replaced(h5py.SoftLink("/conv1_bn")), "is a link to another place"),
    "external data": (_external, "lies in another file"),
    "virtual data": (_virtual, "lies in another file"),
    "objects": (_replaced(np.array([b"a", b"bc"], object)), "is of type object"),
    "integers": (_replaced(np.ones((7, 7, 3, 5), int)), "is of type int64"),
    "NaN": (_holds_nan, "conv1.weight holds NaN or infinity"),
    "infinite in float32": (_replaced(np.full((7, 7, 3, 5), 1e300)), "conv1.weight holds NaN or infinity"),
    "wrong shape": (_replaced(np.ones((5, 5, 3, 5), np.float32)), r"conv1.weight has shape \(5, 3, 5, 5\)"),
    "no dimensions": (_replaced(np.float32(1)), "stem is missing"),
    "groups in a circle": (_circle, "nested too deep"),
    "many links": (_many_names_for_one, "claims 1048576 bytes"),
    "a kernel of one number": (_replaced(np.float32(1)), "its stem is missing or has the shape"),
    "a block's kernel of one number": (_scalar_in_a_block, "which no convolution has"),
    "no classifier": (_without_head, "include_top=False"),
    "ancient names": (lambda file: file.move("conv1_conv", "bn_conv1"), "Keras before 2.2.5"),
    "another layer": (lambda file: file.move("conv1_bn", "norm1"), "has layers that no ResNet .* norm1"),
}


def test_the_file_that_the_others_are_made_of_is_read(tmp_path: Path) -> None:
    found = conversion.read(written(tmp_path / "a.h5"))
    assert (found.architecture.depths, found.architecture.inner_widths, found.architecture.num_classes) == (STAGES, WIDTHS, 3)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_hdf5(name: str, tmp_path: Path) -> None:
    change, message = HOSTILE[name]
    path = written(tmp_path / "a.h5", change)
    assert conversion.recognise(path)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as caught:
        conversion.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 1 << 25


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_a_file_cut_off(kind: str, share: float, tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5")
    path = archived(path) if kind == "keras" else path
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    conversion.recognise(path)
    with pytest.raises(ValueError, match=str(path)):
        conversion.read(path)


def archived(path: Path, config: str | None = None, weights: bytes | None = None, **options: Any) -> Path:
    """A .keras archive around the weights in `path`."""
    target = path.with_suffix(".keras")
    with zipfile.ZipFile(target, "w", **options) as archive:
        archive.writestr("config.json", json.dumps(CONFIG) if config is None else config)
        archive.writestr("model.weights.h5", path.read_bytes() if weights is None else weights)
    return target


def _layer(name: str) -> dict[str, Any]:
    first = name.endswith(("_block1_1_conv", "_block1_0_conv"))
    strides = [2, 2] if name == "conv1_conv" or (first and not name.startswith("conv2")) else [1, 1]
    if name.endswith("_bn"):
        return {"class_name": "BatchNormalization", "config": {"name": name, "epsilon": 0.001}}
    return {"class_name": "Conv2D" if name.endswith("_conv") else "Dense", "config": {"name": name, "strides": strides}}


CONFIG: dict[str, Any] = {"class_name": "Functional", "config": {"layers": [_layer(name) for name in layers()]}}


def test_the_layer_list_is_heeded(tmp_path: Path) -> None:
    found = conversion.read(archived(written(tmp_path / "a.h5"), compression=zipfile.ZIP_DEFLATED))
    assert found.architecture.bn_epsilon == 0.001


def _config(name: str, **changes: Any) -> str:
    told = json.loads(json.dumps(CONFIG))
    layer = next(layer for layer in told["config"]["layers"] if layer["config"]["name"] == name)
    layer["class_name"] = changes.pop("class_name", layer["class_name"])
    layer["config"] |= changes
    return json.dumps(told)


CONFIGS = {
    "v1.5": (_config("conv3_block1_1_conv", strides=[1, 1]), "conv3_block1_1_conv has strides and dilation"),
    "dilated": (_config("conv3_block1_2_conv", dilation_rate=[2, 2]), "conv3_block1_2_conv has strides and dilation"),
    "epsilons": (_config("conv1_bn", epsilon=0.1), "different epsilons"),
    "another activation": (_config("conv1_bn", class_name="Activation", activation="tanh"), "conv1_bn in it is 'tanh'"),
    "code": (_config("conv1_bn", class_name="Lambda"), r"has layers .*conv1_bn \(Lambda\)"),
    "not json": ("{", "config.json in it is not JSON"),
    "deep": ("[" * 200_000, "config.json in it is not JSON"),
    "a list": ("[]", "not a JSON object"),
    "no layers": ("{}", "not the layer list"),
    "wrong types": ('{"config": {"layers": [7]}}', "not the layer list"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_layer_lists(name: str, tmp_path: Path) -> None:
    config, message = CONFIGS[name]
    path = archived(written(tmp_path / "a.h5"), config)
    with pytest.raises(ValueError, match=message):
        conversion.read(path)


@pytest.mark.parametrize("member", ["model.weights.h5", "config.json"])
def test_a_zip_bomb(member: str, tmp_path: Path) -> None:
    zeros, small = bytes(1 << 27), written(tmp_path / "a.h5").read_bytes()
    weights, config = (zeros, json.dumps(CONFIG)) if member == "model.weights.h5" else (small, " " * (1 << 27))
    path = archived(tmp_path / "a.h5", config, weights, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    del zeros, weights, config
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{member} in it claims"):
        conversion.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    path.write_bytes(b"\x80\x02ctorch\n")
    assert not conversion.recognise(path)
    assert not conversion.recognise(tmp_path)
    assert not conversion.recognise(tmp_path / "none")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert not conversion.recognise(path)
    with pytest.raises(ValueError, match="is not a Keras ResNet"):
        conversion.read(path)
