"""MXNet itself saves what is read here and loads, with its strictest check, what is written here. Runs in MXNet's environment."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import residual
from residual.architecture import Architecture
from residual.backends import torch as backend
from residual.conversion import gluon, ndarrays
from residual.conversion.libraries import computed
from residual.plan import plan
from residual.variants import VARIANTS
from residual.weights import SavedModel, Weights, save
from tests.nets import LOOKALIKES, random_weights

mxnet: Any = pytest.importorskip("mxnet", reason="MXNet is installed in an environment of its own", exc_type=ImportError)

# MXNet 1.9.1 imports SciPy's sparse classes from where they once were
pytestmark = pytest.mark.filterwarnings("ignore:Please import `.*` from the `scipy.sparse` namespace:DeprecationWarning")

TOLERANCE = 1e-4  # of the largest logit
ZOO = [f"resnet{depth}_v{version}" for version in (1, 2) for depth in (18, 34, 50, 101, 152)]
V2 = LOOKALIKES["gluon_resnet50_v2"]


def pictures(side: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(side).random((2, channels, side, side), np.float32)


def zoo(name: str, **options: Any) -> Any:
    return getattr(mxnet.gluon.model_zoo.vision, name)(classes=7, **options)


def randomised(net: Any, channels: int = 3) -> Any:
    """The net with every parameter random, also those that Gluon never changes."""
    net.initialize()
    net(mxnet.nd.zeros((1, channels, 64, 64)))
    stream = np.random.default_rng(5)
    for name, parameter in net.collect_params().items():
        around_one = name.endswith(("gamma", "running_var"))
        if len(parameter.shape) == 1:
            value = stream.uniform(0.5, 1.5, parameter.shape) if around_one else 0.2 * stream.standard_normal(parameter.shape)
        else:
            value = stream.standard_normal(parameter.shape) * (2 / np.prod(parameter.shape[1:])) ** 0.5
        parameter.set_data(mxnet.nd.array(value, dtype="float32"))
    return net


def logits(arch: Architecture, weights: Weights, images: np.ndarray) -> np.ndarray:
    model = backend.build(plan(arch), weights=weights)
    return backend.forward(model, images)["logits"]


def assert_equal_logits(net: Any, arch: Architecture, weights: Weights, sides: tuple[int, ...] = (64, 65)) -> None:
    for side in sides:
        images = pictures(side, arch.in_channels)
        wanted = net(mxnet.nd.array(images)).asnumpy()
        assert np.ptp(wanted) > 1e-3
        assert np.abs(logits(arch, weights, images) - wanted).max() <= TOLERANCE * np.abs(wanted).max()


# The deepest differ in the number of blocks alone, and take the most time: by hand.
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if "101" in name or "152" in name else name for name in ZOO])
def test_every_net_of_the_zoo_is_read_and_written_back(name: str, tmp_path: Path) -> None:
    net, path, again = randomised(zoo(name)), tmp_path / "a.params", tmp_path / "b.params"
    net.save_parameters(str(path))
    found = gluon.read(path)
    sides = (64, 65) if sum(found.architecture.depths) < 20 else (65,)
    assert_equal_logits(net, found.architecture, found.weights, sides)
    assert f"{name}(classes=7)" in found.notes[0]
    assert set(found.pairs.values()) == set(ndarrays.read(path))
    gluon.write(found.saved(), again)
    fresh = zoo(name)
    fresh.load_parameters(str(again))
    before, after = ndarrays.read(path), ndarrays.read(again)
    assert before.keys() == after.keys()
    fixed = {"features.0.gamma"} if name.endswith("v2") else set()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before.keys() - fixed)
    assert_equal_logits(fresh, found.architecture, found.weights, sides[:1])


def _exported(net: Any, path: Path) -> None:
    net.hybridize()
    net(mxnet.nd.zeros((1, 3, 64, 64)))
    net.export(str(path).removesuffix("-0000.params"))


SAVES: dict[str, Callable[[Any, Path], None]] = {
    "counted": lambda net, path: net.collect_params().save(str(path)),
    "without-prefix": lambda net, path: net.collect_params().save(str(path), strip_prefix=net.prefix),
    "exported": _exported,
}


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    "name",
    ["resnet18_v1", "resnet50_v2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50_v1", "resnet18_v2"))],
)
def test_older_names(name: str, save: str, tmp_path: Path) -> None:
    net, path = randomised(zoo(name)), tmp_path / "a-0000.params"
    SAVES[save](net, path)
    found = gluon.read(path)
    assert_equal_logits(net, found.architecture, found.weights)
    assert len(found.pairs) == len(ndarrays.read(path))


def test_a_net_of_the_zoo_s_classes_with_widths_of_one_s_own(tmp_path: Path) -> None:
    vision = mxnet.gluon.model_zoo.vision
    net = randomised(vision.ResNetV1(vision.BottleneckV1, [1, 2, 1], [8, 16, 32, 48], classes=5), channels=1)
    path = tmp_path / "a.params"
    net.save_parameters(str(path))
    found = gluon.read(path)
    assert_equal_logits(net, found.architecture, found.weights)
    assert found.preprocessing is None
    assert "ResNetV1(BottleneckV1, [1, 2, 1], [8, 16, 32, 48], classes=5)" in found.notes[0]


WRITTEN = {
    "resnet18_v1": replace(VARIANTS["resnet18"], num_classes=7),
    "resnet34_v1": replace(VARIANTS["resnet34"], num_classes=7, conv_bias=True, bn_epsilon=1e-2),
    "resnet50_v1": replace(VARIANTS["resnet50_v1"], num_classes=7, dropout=0.5),
    "resnet50_v1 as Keras has it": replace(LOOKALIKES["keras_resnet50"], num_classes=7),
    "resnet50_v2": replace(V2, num_classes=7, bn_epsilon=1e-4),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_our_nets_are_loaded_by_mxnet(name: str, tmp_path: Path) -> None:
    """Biases and epsilons that Gluon does not have are taken up by the batch norms."""
    arch, path = WRITTEN[name], tmp_path / "a.params"
    weights = random_weights(plan(arch))
    gluon.write(SavedModel(architecture=arch, weights=weights), path)
    net = zoo(name.partition(" ")[0])
    net.load_parameters(str(path))
    assert_equal_logits(net, arch, weights)
    back = gluon.read(path)
    assert_equal_logits(net, back.architecture, back.weights)


@pytest.mark.parametrize("name", ["resnet34_v1", "resnet50_v1", "resnet50_v2"])
def test_the_certificate_has_what_mxnet_computes(name: str, tmp_path: Path) -> None:
    arch, target = WRITTEN[name], tmp_path / "a.params"
    save(tmp_path / "ours.safetensors", SavedModel(architecture=arch, weights=random_weights(plan(arch))))
    found = residual.convert(tmp_path / "ours.safetensors", target, "gluon")
    assert found.library == f"mxnet {mxnet.__version__}"
    assert found.library_difference is not None
    assert 0 < found.library_difference <= TOLERANCE * found.largest_logit
    with pytest.raises(ValueError, match="gluon does not take the file"):
        computed("gluon", target, replace(arch, num_classes=3), pictures(64))


class Residual(mxnet.gluon.nn.Block):
    """The chapter's block. Zhang et al., Dive into Deep Learning, section 8.6.2."""

    def __init__(self, num_channels: int, use_1x1conv: bool = False, strides: int = 1, **rest: Any) -> None:
        super().__init__(**rest)
        nn = mxnet.gluon.nn
        self.conv1 = nn.Conv2D(num_channels, kernel_size=3, padding=1, strides=strides)
        self.conv2 = nn.Conv2D(num_channels, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2D(num_channels, kernel_size=1, strides=strides) if use_1x1conv else None
        self.bn1, self.bn2 = nn.BatchNorm(), nn.BatchNorm()

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(mxnet.nd.relu(self.bn1(self.conv1(x)))))
        return mxnet.nd.relu(y + (self.conv3(x) if self.conv3 else x))


def chapter(nested: bool) -> Any:
    """The chapter's net: flat as in its first edition, or with the stem as one part, in `self.net`."""
    nn = mxnet.gluon.nn
    stem = [nn.Conv2D(64, kernel_size=7, strides=2, padding=3), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(3, 2, 1)]
    stages = []
    for number, channels in enumerate((64, 128, 256, 512)):
        stage = nn.Sequential()
        stage.add(Residual(channels, use_1x1conv=number > 0, strides=1 if number == 0 else 2), Residual(channels))
        stages.append(stage)
    net, first = nn.Sequential(), nn.Sequential()
    first.add(*stem)
    net.add(*([first] if nested else stem), *stages, nn.GlobalAvgPool2D(), nn.Dense(10))
    if not nested:
        return net
    outer = nn.Sequential()
    outer.net = net
    outer.forward = net.forward
    return outer


@pytest.mark.parametrize("nested", [False, True])
def test_the_chapter_s_net(nested: bool, tmp_path: Path) -> None:
    net, path = randomised(chapter(nested), channels=1), tmp_path / "a.params"
    net.save_parameters(str(path))
    assert any(name.startswith("net." if nested else "0.") for name in ndarrays.read(path))
    found = gluon.read(path)
    assert found.architecture == VARIANTS["resnet18_d2l"]
    assert_equal_logits(net, found.architecture, found.weights)


# the container


def test_written_bytes_are_mxnet_s(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    tensors = {"a": stream.random((2, 3, 1, 4), np.float32), "ünï": stream.random(5, np.float32)}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ndarrays.write(ours, tensors)
    mxnet.nd.save(str(theirs), {name: mxnet.nd.array(value) for name, value in tensors.items()})
    assert ours.read_bytes() == theirs.read_bytes()


def test_other_precisions_and_numpy_semantics_are_read(tmp_path: Path) -> None:
    path, values = tmp_path / "a", np.array([[1.5, -2.25]])
    for kind in ("float16", "float64", "float32"):
        mxnet.nd.save(str(path), {"x": mxnet.nd.array(values, dtype=kind)})
        found = ndarrays.read(path)["x"]
        assert found.dtype == np.float32
        assert (found == values).all()
    mxnet.npx.set_np()
    try:
        mxnet.npx.save(str(path), {"x": mxnet.np.array(values), "scalar": mxnet.np.array(3.0), "none": mxnet.np.ones((0, 2))})
    finally:
        mxnet.npx.reset_np()
    found = ndarrays.read(path)
    assert (found["x"] == values).all()
    assert (found["scalar"].shape, found["scalar"][()], found["none"].shape) == ((), 3.0, (0, 2))


@pytest.mark.parametrize("version", [0, 1])
def test_the_first_versions_are_read_as_mxnet_reads_them(version: int, tmp_path: Path) -> None:
    values, path = np.arange(6, dtype=np.float32).reshape(2, 3), tmp_path / "a"
    shape = struct.pack("<III", 2, 2, 3) if version == 0 else struct.pack("<Iiqq", ndarrays.V1, 2, 2, 3)
    array = shape + struct.pack("<iii", 1, 0, 0) + values.tobytes()
    path.write_bytes(ndarrays.LIST + struct.pack("<Q", 1) + array + struct.pack("<QQ", 1, 1) + b"x")
    assert (mxnet.nd.load(str(path))["x"].asnumpy() == values).all()
    assert (ndarrays.read(path)["x"] == values).all()


@pytest.mark.parametrize("kind", ["row_sparse", "csr"])
def test_sparse_arrays_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    mxnet.nd.save(str(tmp_path / "a"), {"x": mxnet.nd.array(np.eye(3)).tostype(kind)})
    with pytest.raises(ValueError, match=rf"{tmp_path / 'a'} .*stored as {kind.replace('_', '-')}"):
        ndarrays.read(tmp_path / "a")


def test_integers_and_lists_without_names_are_refused(tmp_path: Path) -> None:
    mxnet.nd.save(str(tmp_path / "a"), {"x": mxnet.nd.array([1, 2], dtype="int32")})
    with pytest.raises(ValueError, match="of type int32"):
        ndarrays.read(tmp_path / "a")
    mxnet.nd.save(str(tmp_path / "a"), [mxnet.nd.array([1, 2])])
    with pytest.raises(ValueError, match="1 arrays and 0 different names"):
        ndarrays.read(tmp_path / "a")
