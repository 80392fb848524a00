"""The PyTorch backend equals the NumPy reference, on even and odd sides, with no tensor at its default value."""

import copy
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from residual.architecture import Architecture, Order, Shortcut, changed
from residual.backends import torch as backend
from residual.backends.torch_inference import inference_form
from residual.plan import plan
from residual.recipe import Recipe
from residual.reference import forward as reference
from residual.variants import VARIANTS, architecture
from tests.nets import DISTINCT, SMALL, images, random_weights, scaled_down

TOLERANCE = 1e-5  # of the largest value


def assert_equals_the_reference(arch: Architecture, height: int, width: int) -> None:
    """Logits and the output of every layer, block and stage."""
    network = plan(arch)
    weights, x = random_weights(network), images(network, height, width)
    model = backend.build(network, weights=weights)
    wanted = reference(network, weights, x, network.names())
    found = backend.forward(model, x, network.names())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == np.float32
        largest = np.abs(value).max()
        difference = np.abs(found[name].reshape(value.shape) - value).max()
        assert difference <= TOLERANCE * largest, f"{name}: {difference} of {largest}"
    assert np.ptp(found["logits"]) > 1e-3, "the network is dead: equality would say nothing"


@pytest.mark.parametrize("name", DISTINCT)
def test_every_variant(name: str) -> None:
    assert_equals_the_reference(DISTINCT[name], 33, 46)


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_every_order_with_every_shortcut(order: Order, shortcut: Shortcut, block: Any) -> None:
    """An odd number of channels is added in each stage."""
    outer = (4, 7, 12) if block == "basic" else (8, 13, 20)
    arch = Architecture(
        depths=(2, 2, 1), inner_widths=(4, 7, 12), out_widths=outer, strides=(1, 2, 2), stem="cifar", stem_width=4, num_classes=5,
        block=block, order=order, shortcut=shortcut,
    )  # fmt: skip
    assert_equals_the_reference(arch, 11, 8)


CHANGES: list[dict[str, Any]] = [
    {"stem": "deep", "stem_width": 6},
    {"stem": "patch"},
    {"stem": "dense-patch"},
    {"stem": "imagenet"},
    {"shortcut_pool": True},
    {"shortcut_pool": True, "shortcut": "projection-all"},
    {"shortcut_pool": True, "strides": (3, 2)},
    {"shortcut_norm": False},
    {"conv_bias": True},
    {"conv_bias": True, "order": "preact"},
    {"se_reduction": 2},
    {"se_reduction": 100, "order": "preact"},
    {"se_reduction": 2, "order": "bn-after-addition"},
    {"dropout": 0.5},
    {"dropout": 0.5, "order": "preact", "drop_path": 0.5},
    {"drop_path": 0.5},
    {"strides": (2, 3)},
    {"strides": (3, 1), "shortcut": "pad"},
    {"block": "bottleneck", "out_widths": (12, 20), "stride_on": "conv1"},
    {"inner_widths": (4, 8), "out_widths": (4, 8), "groups": 4},
    {"bn_epsilon": 1e-2},
    {"in_channels": 1, "num_classes": 1},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("size", [(16, 9), (9, 16)])
def test_every_field(changes: dict[str, Any], size: tuple[int, int]) -> None:
    assert_equals_the_reference(changed(SMALL, changes), *size)


def test_the_wide_net_has_dropout_between_its_convolutions() -> None:
    assert_equals_the_reference(scaled_down(architecture("wrn_16_8", dropout=0.3)), 12, 9)


def _model(arch: Architecture = SMALL) -> backend.ResidualNet:
    network = plan(arch)
    return backend.build(network, weights=random_weights(network))


def test_weights_come_back_bit_for_bit_and_as_copies() -> None:
    for arch in (SMALL, scaled_down(VARIANTS["se_resnet50"]), scaled_down(VARIANTS["resnet18_d2l"])):
        model, weights = _model(arch), random_weights(plan(arch), seed=5)
        backend.set_weights(model, weights)
        found = backend.get_weights(model)
        assert list(found) == list(weights)
        assert all(found[name].tobytes() == value.tobytes() for name, value in weights.items())
        found["fc.bias"][:] = 9
        weights["fc.bias"][:] = 8
        assert not (model.fc.bias >= 8).any()


def test_wrong_weights_change_nothing() -> None:
    model, weights = _model(), random_weights(plan(SMALL), seed=5)
    before = backend.get_weights(model)
    weights["other"] = weights.pop("fc.bias")
    with pytest.raises(ValueError, match=r"missing fc.bias .*extra other"):
        backend.set_weights(model, weights)
    assert all((value == before[name]).all() for name, value in backend.get_weights(model).items())


def test_forward_leaves_the_model_as_it_was() -> None:
    model = _model().train()
    before, x = backend.get_weights(model), images(model.plan, 8, 8)
    with pytest.raises(ValueError, match=r"no layer 'layer7'"):
        backend.forward(model, x, ["layer7"])
    backend.forward(model, x, ["layer1"])
    assert model.training
    assert all(not module._forward_hooks for module in model.modules())
    assert all((value == before[name]).all() for name, value in backend.get_weights(model).items())


def test_a_model_starts_from_the_core_s_values() -> None:
    from residual.weights import initialise

    for name in ("resnet18_d2l", "se_resnet50"):
        network = plan(scaled_down(VARIANTS[name]))
        found, wanted = backend.get_weights(backend.build(network, 7)), initialise(network, 7)
        assert all((found[key] == value).all() for key, value in wanted.items())
    buffers = dict(backend.build(plan(SMALL)).named_buffers())
    assert buffers["bn1.num_batches_tracked"].item() == 0


# Zhang et al., "Dive into Deep Learning", section 8.6.2 and 8.6.3: the shapes printed there


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("cifar_resnet20", ("conv1", "bn1")),
        ("cifar_preact_resnet110:preact_start=block", ("conv1",)),
        ("resnet18:input_norm=true", ("conv1", "bn1")),
        ("resnet50d", ("conv1.0", "conv1.1")),
    ],
)
def test_a_frozen_stem_is_not_trained(name: str, frozen: tuple[str, ...]) -> None:
    """Nor are its statistics, although the model is in training mode; all else is."""
    model = backend.build(plan(scaled_down(architecture(name))))
    backend.freeze_stem(model)
    chosen = backend.optimizer(model, Recipe(learning_rate=0.1))
    before = backend.get_weights(model)
    copied = copy.deepcopy(model).train()  # as a snapshot of it would be
    assert not any(copied.get_submodule(part).training for part in frozen)
    model.train()
    torch.nn.functional.cross_entropy(model(torch.randn(4, model.plan.in_channels, 33, 33)), torch.arange(4) % 2).backward()
    chosen.step()
    after = backend.get_weights(model)
    kept = {part for part in before if part.rsplit(".", 1)[0] in frozen}
    assert kept
    assert all(np.array_equal(before[part], after[part]) == (part in kept) for part in before)


def test_a_frozen_stem_is_still_validated_in_the_fast_form() -> None:
    model = backend.build(plan(SMALL))
    wanted = inference_form(model)
    backend.freeze_stem(model)
    assert type(inference_form(model)) is type(wanted)
    model.register_forward_hook(lambda *_: None)
    assert type(inference_form(model)) is not type(wanted)


def test_the_chapter_s_block_keeps_the_shape() -> None:
    block = plan(architecture("resnet18_d2l", depths=(1, 1), inner_widths=(3, 6), out_widths=(3, 6), strides=(1, 2), stem_width=3))
    same, halved = (backend.ResidualBlock(part).eval() for part in block.blocks())
    assert same(torch.rand(4, 3, 6, 6)).shape == (4, 3, 6, 6)
    assert halved(torch.rand(4, 3, 6, 6)).shape == (4, 6, 3, 3)
    assert [name for name, _ in halved.named_parameters() if "downsample" in name] == ["downsample.0.weight", "downsample.0.bias"]


def test_the_chapter_s_shape_trace() -> None:
    model = backend.build(plan(VARIANTS["resnet18_d2l"]))
    stages = ["maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    found = backend.forward(model, np.random.default_rng(0).random((1, 1, 224, 224), np.float32), stages)
    assert [found[name].shape for name in stages] == [
        (1, 64, 56, 56), (1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7), (1, 512, 1, 1), (1, 10),
    ]  # fmt: skip


def test_the_attributes_are_torchvision_s() -> None:
    model = backend.build(plan(scaled_down(VARIANTS["resnet50"])))
    assert [name for name, _ in model.named_children()] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc",
    ]  # fmt: skip
    model.fc = torch.nn.Linear(model.fc.in_features, 3)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_one_pixel_and_one_picture() -> None:
    assert_equals_the_reference(replace(SMALL, stem="imagenet"), 1, 1)
    assert_equals_the_reference(SMALL, 2, 1)
