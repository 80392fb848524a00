"""Gluon's files without MXNet: written, read back, compared by the reference; refusals by name. test_mxnet_files.py asks MXNet itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residual.architecture import Architecture
from residual.conversion import gluon, ndarrays
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.reference import forward
from residual.variants import VARIANTS
from residual.weights import SavedModel, Weights
from tests.nets import LOOKALIKES, images, random_weights, scaled_down

FOUR = (8, 16, 32, 64)
V1 = replace(scaled_down(VARIANTS["resnet50_v1"]), inner_widths=(2, 4, 8, 16), out_widths=FOUR)
V2 = replace(scaled_down(LOOKALIKES["gluon_resnet50_v2"]), inner_widths=(2, 4, 8, 16), out_widths=FOUR)
NETS = {
    "v1": V1,
    "v1, biases everywhere": replace(V1, conv_bias=True),
    "v1, other epsilon": replace(V1, bn_epsilon=1e-2),
    "v1 basic, biases": replace(scaled_down(VARIANTS["resnet18"]), conv_bias=True),
    "v1 basic, v1.5": replace(scaled_down(VARIANTS["resnet18"]), stride_on="conv2"),
    "v2": V2,
    "v2 basic": replace(V2, block="basic", inner_widths=FOUR),
    "grey": replace(V1, in_channels=1, depths=(1, 2), inner_widths=(2, 4), out_widths=(8, 16), strides=(1, 2)),
}


def saved(arch: Architecture) -> SavedModel:
    return SavedModel(architecture=arch, weights=random_weights(plan(arch)))


def logits(arch: Architecture, weights: Weights) -> np.ndarray:
    network = plan(arch)
    return forward(network, weights, images(network, 33, 32))["logits"]


@pytest.mark.parametrize("name", NETS)
def test_the_same_function_comes_back(name: str, tmp_path: Path) -> None:
    model, path = saved(NETS[name]), tmp_path / "a.params"
    notes = gluon.write(model, path)
    found = gluon.read(path)
    wanted = logits(model.architecture, model.weights)
    assert np.abs(logits(found.architecture, found.weights) - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert set(found.pairs.values()) == set(ndarrays.read(path))
    assert set(found.pairs) <= set(found.weights)
    biases = any(note.startswith("Gluon has no biases in") for note in notes)
    assert biases == model.architecture.conv_bias
    assert any("epsilon" in note for note in notes) == (model.architecture.bn_epsilon != 1e-5)
    assert (found.preprocessing is None) == (model.architecture.in_channels == 1)


def test_a_second_writing_gives_the_same_bytes(tmp_path: Path) -> None:
    gluon.write(saved(NETS["v1, biases everywhere"]), tmp_path / "a")
    gluon.write(gluon.read(tmp_path / "a").saved(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


REFUSED: list[tuple[Architecture, str]] = [
    (replace(V1, stride_on="conv2"), "stride_on is 'conv2', and there it is always 'conv1'"),
    (replace(V1, stem="deep"), "stem is 'deep'"),
    (replace(V1, shortcut_pool=True), "shortcut_pool is True"),
    (replace(V1, se_reduction=4), "se_reduction is 4"),
    (replace(V1, groups=2), "groups is 2"),
    (replace(V1, shortcut="none"), "shortcut is 'none'"),
    (replace(V1, order="relu-before-addition"), "order is 'relu-before-addition'"),
    (replace(V1, stride_block="last"), "stride_block is 'last'"),
    (replace(V1, inner_widths=(4, 8, 16, 32)), r"inner_widths is \(4, 8, 16, 32\)"),
    (replace(V1, strides=(2, 2, 2, 2)), r"strides is \(2, 2, 2, 2\)"),
    (replace(V2, input_norm=False), "input_norm is False, and there it is always True"),
    (replace(V2, preact_start="stem"), "preact_start is 'stem', and there it is always 'both'"),
    (scaled_down(VARIANTS["resnet18_d2l"]), "shortcut_norm is False"),
    (scaled_down(VARIANTS["cifar_resnet20"]), "shortcut is 'pad'"),
    (replace(V2, conv_bias=True), "conv_bias is True, but .* can have no bias there"),
]


@pytest.mark.parametrize(("arch", "message"), REFUSED)
def test_what_the_zoo_does_not_have_is_refused_by_its_field(arch: Architecture, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        gluon.write(saved(arch), tmp_path / "a.params")
    assert str(tmp_path / "a.params") in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_fixed_gamma_of_nothing_is_refused(tmp_path: Path) -> None:
    model = saved(V2)
    model.weights["norm0.weight"][1] = 0
    with pytest.raises(ValueError, match="input_norm"):
        gluon.write(model, tmp_path / "a")


def test_classes_and_preprocessing_are_said_to_be_lost(tmp_path: Path) -> None:
    mine = Preprocessing(size=(32, 32), channels=3, mean=(0.1,) * 3, std=(0.2,) * 3)
    notes = gluon.write(replace(saved(V1), classes=tuple("abcdefg"), preprocessing=mine), tmp_path / "a")
    assert any("class names" in note for note in notes)


def _spoiled(change: str, tensors: dict[str, Any]) -> None:
    first = "features.0.weight"
    match change:
        case "NaN":
            tensors[first] = np.full_like(tensors[first], np.nan)
        case "wrong shape":
            tensors[first] = np.ones((8, 3, 5, 5), np.float32)
        case "vector stem":
            tensors[first] = np.ones(8, np.float32)
        case "missing":
            del tensors["features.5.0.body.4.gamma"]
        case "no classifier":
            del tensors["output.weight"]
        case "no block":
            for name in [name for name in tensors if name.startswith("features.5.0.")]:
                del tensors[name]
        case "foreign":
            tensors["features.4.0.se.weight"] = np.ones(3, np.float32)
        case "twice":
            tensors["arg:output.bias"] = tensors["output.bias"]
        case "unknown":
            tensors.clear()
            tensors["embedding0_weight"] = np.ones((2, 2), np.float32)


SPOILED = {
    "NaN": "conv1.weight holds NaN", "wrong shape": r"conv1.weight has shape \(8, 3, 5, 5\)", "vector stem": "its stem is missing",
    "missing": "missing layer2.0.bn2.weight", "no classifier": "its classifier is missing", "no block": "of stage 2 are missing",
    "foreign": "features.4.0.se.weight", "twice": "several of its names mean the same tensor", "unknown": "embedding0_weight",
}  # fmt: skip


@pytest.mark.parametrize("change", SPOILED)
def test_damaged_nets_are_refused_in_one_sentence(change: str, tmp_path: Path) -> None:
    path = tmp_path / "a.params"
    gluon.write(saved(V1), path)
    tensors = ndarrays.read(path)
    _spoiled(change, tensors)
    ndarrays.write(path, tensors)
    with pytest.raises(ValueError, match=SPOILED[change]) as caught:
        gluon.read(path)
    assert str(caught.value).startswith(f"{path} holds MXNet arrays, but not a residual network")
