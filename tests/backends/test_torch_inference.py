"""The fast form equals the NumPy reference on every net, changes nothing, and steps aside where the model is no longer its plan."""

import copy
import platform
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from residual.architecture import Architecture, Order, Shortcut, changed
from residual.backends import torch as backend
from residual.backends.torch_fused import fused_works
from residual.backends.torch_inference import inference_form
from residual.plan import plan
from residual.reference import forward as reference
from residual.variants import VARIANTS
from tests.backends.test_torch import CHANGES
from tests.nets import DISTINCT, SMALL, images, random_weights, scaled_down

TOLERANCE = 1e-5  # of the largest logit


@pytest.fixture(params=["fused", "plain"])
def convolutions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's, and what takes their place where it is switched off."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", request.param == "fused")


def made(arch: Architecture) -> backend.ResidualNet:
    network = plan(arch)
    return backend.build(network, weights=random_weights(network))


def pictures(arch: Architecture, count: int = 3, height: int = 12, width: int = 9) -> Tensor:
    return torch.from_numpy(images(plan(arch), height, width, count))


def native(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(x)


def assert_close(found: Tensor, wanted: Any, tolerance: float = TOLERANCE) -> None:
    wanted = torch.as_tensor(wanted)
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def assert_equals_the_reference(arch: Architecture, height: int, width: int) -> None:
    model, x = made(arch), pictures(arch, 3, height, width)
    before, form = x.clone(), inference_form(model)
    calls = list[int]()
    model.register_forward_hook(lambda *_: calls.append(1))
    wanted = reference(model.plan, backend.get_weights(model), x.numpy())["logits"]
    assert np.ptp(wanted) > 1e-3, "the network is dead: equality would say nothing"
    for _ in range(2):
        assert_close(form(x), wanted)
    assert torch.equal(x, before)
    assert not calls, "this was the model itself, not its fast form"


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.usefixtures("convolutions")
def test_every_variant(name: str) -> None:
    assert_equals_the_reference(DISTINCT[name], 33, 46)


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.usefixtures("convolutions")
def test_every_order_with_every_shortcut(order: Order, shortcut: Shortcut, block: Any) -> None:
    outer = (4, 7, 12) if block == "basic" else (8, 13, 20)
    arch = Architecture(
        depths=(2, 2, 1), inner_widths=(4, 7, 12), out_widths=outer, strides=(1, 2, 2), stem="cifar", stem_width=4, num_classes=5,
        block=block, order=order, shortcut=shortcut,
    )  # fmt: skip
    assert_equals_the_reference(arch, 11, 8)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("size", [(16, 9), (1, 1)])
@pytest.mark.usefixtures("convolutions")
def test_every_field(changes: dict[str, Any], size: tuple[int, int]) -> None:
    if "patch" in changes.get("stem", "") and size == (1, 1):
        size = (4, 5)
    assert_equals_the_reference(changed(SMALL, changes), *size)


@pytest.mark.usefixtures("convolutions")
def test_a_batch_norm_that_stands_alone_has_its_own_epsilon() -> None:
    assert_equals_the_reference(changed(SMALL, {"order": "preact", "bn_epsilon": 0.05}), 16, 9)


@pytest.mark.usefixtures("convolutions")
def test_a_batch_norm_behind_a_relu_is_not_folded() -> None:
    """No variant has one, but a plan may."""
    network = plan(SMALL)
    conv, norm, relu = network.stem
    network = replace(network, stem=(conv, relu, norm))
    model = backend.build(network, weights=random_weights(network))
    x = pictures(SMALL)
    assert_close(inference_form(model)(x), reference(network, backend.get_weights(model), x.numpy())["logits"])


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN's own kernels are for x86")
def test_the_fused_convolutions_pass_their_trial() -> None:
    """Else all would be right but slow."""
    assert fused_works(torch.float32)


def test_many_pictures_and_other_sizes_after_the_first() -> None:
    model = made(SMALL)
    form = inference_form(model)
    for count, height, width in ((1, 12, 9), (21, 12, 9), (17, 7, 20), (8, 12, 9)):
        x = pictures(SMALL, count, height, width)
        for laid_out in (x, x.contiguous(memory_format=torch.channels_last), x[:, :, :, 1:]):
            assert_close(form(laid_out), native(model, laid_out))


def test_a_batch_norm_of_any_size_is_folded_without_loss() -> None:
    """Variances from 1e-4 to 1e4, gammas from -10 to 10."""
    model, stream = made(SMALL), np.random.default_rng(3)
    weights = backend.get_weights(model)
    for name in weights:
        if name.endswith("running_var"):
            weights[name] = (10.0 ** stream.uniform(-4, 4, weights[name].shape)).astype(np.float32)
        elif weights[name].ndim == 1 and name.endswith("weight"):
            weights[name] = stream.uniform(-10, 10, weights[name].shape).astype(np.float32)
    backend.set_weights(model, weights)
    x = pictures(SMALL)
    assert_close(inference_form(model)(x), reference(model.plan, weights, x.numpy())["logits"])


@pytest.mark.parametrize("changes", [{"order": "preact"}, {"se_reduction": 2}], ids=str)
def test_the_model_stays_as_it_is_and_the_form_too(changes: dict[str, Any]) -> None:
    arch = changed(SMALL, changes)
    model, x = made(arch).train(), pictures(arch)
    before, modules = copy.deepcopy(model.state_dict()), [repr(model), *map(id, model.modules())]
    form = inference_form(model)
    first = form(x)
    assert model.training
    assert modules == [repr(model), *map(id, model.modules())]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    assert torch.equal(form(x), first)


@pytest.mark.parametrize("tensor", ["conv1.weight", "layer1.0.bn1.running_var", "fc.bias"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_stay_visible(tensor: str, value: float) -> None:
    model, x = made(SMALL), pictures(SMALL)
    model.state_dict()[tensor][0] = value
    wanted = native(model, x)
    assert torch.equal(inference_form(model)(x).nan_to_num(7), wanted.nan_to_num(7))


class Doubled(backend.ResidualNet):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def doubled(model: backend.ResidualNet) -> None:
    model.__class__ = Doubled


def patched(model: backend.ResidualNet) -> None:
    model.layer1[0].forward = torch.zeros_like


def exchanged(model: backend.ResidualNet) -> None:
    model.fc = nn.Linear(model.fc.in_features, 3)


def same_class_other_stride(model: backend.ResidualNet) -> None:
    model.conv1.stride = (2, 2)


def another_activation(model: backend.ResidualNet) -> None:
    model.layer1[0].relu1 = nn.Softplus()


def another_epsilon(model: backend.ResidualNet) -> None:
    model.bn1.eps = 0.5


def without_statistics(model: backend.ResidualNet) -> None:
    model.bn1.track_running_stats, model.bn1.running_mean, model.bn1.running_var = False, None, None


def a_layer_more(model: backend.ResidualNet) -> None:
    model.layer2.append(nn.Softplus())


def a_layer_less(model: backend.ResidualNet) -> None:
    model.layer2 = model.layer2[:1]


def padded_otherwise(model: backend.ResidualNet) -> None:
    model.conv1.padding_mode = "circular"
    model.conv1._reversed_padding_repeated_twice = [1, 1, 1, 1]


def reordered(model: backend.ResidualNet) -> None:
    model.layer1[0].after = ()


def parametrized(model: backend.ResidualNet) -> None:
    parametrizations.weight_norm(model.layer1[0].conv1)


def hooked(model: backend.ResidualNet) -> None:
    model.layer1[0].bn1.register_forward_hook(lambda _module, _inputs, output: output * 2)


def hooked_before(model: backend.ResidualNet) -> None:
    model.layer1.register_forward_pre_hook(lambda _module, inputs: inputs[0] * 2)


EDITS = [
    doubled, patched, exchanged, same_class_other_stride, another_activation, another_epsilon, without_statistics, a_layer_more,
    a_layer_less, padded_otherwise, reordered, parametrized, hooked, hooked_before,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_a_model_that_was_changed_is_run_as_it_is(edit: Any) -> None:
    model, x = made(SMALL), pictures(SMALL)
    planned = native(model, x)
    edit(model)
    wanted = native(model, x)
    assert wanted.shape != planned.shape or (wanted - planned).abs().max() > 1e-3 * planned.abs().max() or edit is parametrized
    assert torch.equal(inference_form(model)(x), wanted)


def test_hooks_for_all_modules_are_heard() -> None:
    model, seen = made(SMALL), list[nn.Module]()
    handle = nn.modules.module.register_module_forward_hook(lambda module, _inputs, _output: seen.append(module))
    try:
        inference_form(model)(pictures(SMALL))
    finally:
        handle.remove()
    assert model.conv1 in seen


def test_a_changed_model_keeps_the_mode_of_each_module() -> None:
    model, x = made(changed(SMALL, {"dropout": 0.5})), pictures(SMALL)
    exchanged(model)
    model.train()
    model.bn1.eval()
    modes = [module.training for module in model.modules()]
    form = inference_form(model)
    assert torch.equal(form(x), form(x))
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("name", ["resnet50", "preact_resnet18", "se_resnet50", "resnext50_32x4d", "cifar_resnet20"])
def test_bfloat16_is_near(name: str) -> None:
    arch = scaled_down(VARIANTS[name])
    model, x = made(arch), pictures(arch, 9, 33, 46)
    found, wanted = inference_form(model, half=True)(x), native(model, x)
    assert_close(found, wanted, 0.05)
    assert (found - wanted).abs().max() > 1e-4 * wanted.abs().max(), "these are float32 numbers"
    exchanged(model)
    found, wanted = inference_form(model, half=True)(x), native(model, x)
    assert_close(found, wanted, 0.05)
    assert (found - wanted).abs().max() > 1e-4 * wanted.abs().max(), "these are float32 numbers"


def test_a_model_in_double_precision_is_run_as_it_is() -> None:
    model, x = made(SMALL).double(), pictures(SMALL).double()
    assert torch.equal(inference_form(model)(x), native(model, x).float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["resnet50", "preact_resnet18", "se_resnet50", "cifar_resnet20"])
def test_on_a_gpu(name: str, half: bool) -> None:
    arch = scaled_down(VARIANTS[name])
    model, x = made(arch), pictures(arch, 9, 33, 46)
    wanted = native(model, x)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = inference_form(model.cuda(), half=half)(x.cuda())
    assert found.device.type == "cuda"
    assert_close(found.cpu(), wanted, 0.05 if half else 1e-4)
