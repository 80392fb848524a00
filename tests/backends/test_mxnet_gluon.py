"""What a Gluon user does to a model: hybridize, export, store, exchange a layer; and dropout of units and of branches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

import residual
from residual.architecture import changed
from residual.backends import mxnet as backend
from residual.layers import Network
from residual.plan import plan
from residual.variants import VARIANTS
from residual.weights import shapes
from tests.backends.test_mxnet import made
from tests.nets import LOOKALIKES, SMALL, images, random_weights, scaled_down

TYPICAL = ["cifar_resnet20", "resnet18_d2l", "resnet50d", "resnext50_32x4d", "se_resnet50", *LOOKALIKES]


def _network(name: str) -> Network:
    return plan(scaled_down((VARIANTS | LOOKALIKES)[name]))


def _close(found: Any, wanted: Any, tolerance: float = 1e-6) -> None:
    found, wanted = (value if isinstance(value, np.ndarray) else value.asnumpy() for value in (found, wanted))
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("options", [{}, {"static_alloc": True, "static_shape": True}], ids=str)
@pytest.mark.parametrize("name", TYPICAL)
def test_a_hybridized_model_computes_the_same(name: str, options: dict[str, bool]) -> None:
    network = _network(name)
    model, x = made(network, random_weights(network)), images(network, 33, 46)
    wanted = backend.forward(model, x, ["layer1", "layer4" if len(network.stages) > 3 else "layer3"])
    model.hybridize(**options)
    found = backend.forward(model, x, list(wanted)[:-1])
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        _close(found[key], value)
    _close(backend.forward(model, x)["logits"], wanted["logits"])
    _close(model(nd.array(x[:1, :, :32, :32])), backend.forward(model, x[:1, :, :32, :32])["logits"])


@pytest.mark.filterwarnings("ignore:Cannot decide type for the following arguments:UserWarning")  # of its input, on every import
@pytest.mark.parametrize("name", TYPICAL)
def test_an_exported_model_is_read_without_this_package_s_classes(name: str, tmp_path: Path) -> None:
    network = _network(name)
    model, x = made(network, random_weights(network)), images(network, 33, 46)
    model.hybridize()
    wanted = model(nd.array(x))
    model.export(str(tmp_path / "net"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-0000.params", "net-symbol.json"]
    read = gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    _close(read(nd.array(x)), wanted)
    _close(read(nd.array(x[:1, :, :32, :31])), model(nd.array(x[:1, :, :32, :31])))


def test_stored_parameters_have_torchvision_s_names_and_come_back(tmp_path: Path) -> None:
    network = _network("resnet50d")
    model, path = made(network, random_weights(network)), str(tmp_path / "net.params")
    model.save_parameters(path)
    other = backend.build(network, seed=9)
    other.load_parameters(path)
    assert all(value.tobytes() == backend.get_weights(other)[name].tobytes() for name, value in backend.get_weights(model).items())
    stored = [name.replace(".gamma", ".weight").replace(".beta", ".bias") for name in nd.load(path)]
    assert sorted(stored) == sorted(name for layer in network.layers() for name in shapes(layer))
    assert {"conv1.3.weight", "bn1.gamma", "layer2.0.downsample.1.weight", "layer4.1.conv3.weight", "fc.bias"} <= nd.load(path).keys()


def test_nothing_waits_for_a_first_picture() -> None:
    for name in TYPICAL:
        parameters = backend.build(_network(name)).collect_params().values()
        assert all(parameter.shape and all(side > 0 for side in parameter.shape) for parameter in parameters)
        assert all(parameter.data() is not None for parameter in parameters)


def test_a_layer_can_be_exchanged() -> None:
    network = _network("resnet50")
    model, x = made(network, random_weights(network)), nd.array(images(network, 32, 32))
    model.hybridize()
    model(x)
    model.fc = nn.Dense(3)
    model.fc.initialize()
    assert model(x).shape == (2, 3)


def test_two_models_live_in_one() -> None:
    class Both(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.one, self.other = (backend.ResidualNet(plan(SMALL)) for _ in range(2))

        def hybrid_forward(self, _ops: Any, x: Any) -> Any:
            return self.one(x) + self.other(x)

    both = Both()
    both.initialize()
    both.hybridize()
    assert both(nd.ones((2, 3, 8, 8))).shape == (2, 5)
    assert len(both.collect_params().keys()) == 2 * len(backend.get_weights(both.one))


def test_the_models_functions_take_it(tmp_path: Path) -> None:
    model = residual.create("cifar_resnet20", backend="mxnet", seed=3)
    residual.save(model, tmp_path / "model.safetensors")
    other = residual.load(tmp_path / "model.safetensors", backend="mxnet")
    wanted = backend.get_weights(model)
    assert all(value.tobytes() == wanted[name].tobytes() for name, value in backend.get_weights(other).items())


def test_dropout_acts_in_training_only_and_keeps_the_expectation() -> None:
    mx.random.seed(0)
    network = plan(changed(SMALL, {"dropout": 0.4}))
    drop = made(network, random_weights(network)).layer1[0].dropout
    ones = nd.ones((2000, 100))
    assert (drop(ones) == 1).asnumpy().all()
    with autograd.train_mode():
        found = drop(ones).asnumpy()
    assert found.mean() == pytest.approx(1, abs=0.01)
    assert (found == 0).mean() == pytest.approx(0.4, abs=0.01)


def test_a_dropped_path_leaves_the_shortcut_and_the_expectation() -> None:
    """Each sample loses its branch whole, with the planned probability; what is kept is scaled up."""
    mx.random.seed(0)
    network = plan(changed(SMALL, {"drop_path": 0.6, "depths": (2, 1), "order": "relu-before-addition"}))
    block, x = made(network, random_weights(network)).layer1[1], nd.array(np.random.default_rng(0).random((1, 4, 5, 5), np.float32))
    many = nd.broadcast_axis(x, axis=0, size=4000)
    with autograd.train_mode():
        branch = x
        for name in block.branch:
            branch = getattr(block, name)(branch)
        found = (block(many) - many).asnumpy()
    dropped = np.abs(found).max((1, 2, 3)) < 1e-6
    assert dropped.mean() == pytest.approx(0.4, abs=0.03)
    kept = found[~dropped]
    _close(kept, np.broadcast_to(branch.asnumpy() / 0.6, kept.shape), 1e-4)
    still = block(x)
    assert (block(x) == still).asnumpy().all()
    assert not np.allclose(still.asnumpy(), x.asnumpy())


def test_a_plain_network_has_no_identity_left_in_its_graph() -> None:
    graph = backend.build(plan(replace(SMALL, shortcut="none")))(mx.sym.var("data")).tojson()
    assert "elemwise_add" not in graph
    assert "_copy" not in backend.build(plan(SMALL))(mx.sym.var("data")).tojson()
