"""Costs agree with what PyTorch does: every layer's output shape, every parameter, every multiply-add, and how far a value sees."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from residual.architecture import Architecture
from residual.backends import torch as backend
from residual.cost import cost, network_cost
from residual.plan import plan
from residual.variants import VARIANTS, architecture
from tests.nets import DISTINCT, SMALL, images


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("size", [(64, 64), (37, 50)])
def test_shapes_parameters_and_operations_are_pytorchs(name: str, size: tuple[int, int]) -> None:
    network = plan(DISTINCT[name])
    model = backend.build(network)
    found = network_cost(network, size)
    taps = [row.name for row in found.rows]
    with FlopCounterMode(display=False) as counter:
        outputs = backend.forward(model, images(network, *size, count=1), taps)
    for row in found.rows:
        assert outputs[row.name].shape[1:] == (row.output if row.kind != "Linear" else row.output[:1]), row.name
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 2 * found.macs == counter.get_total_flops()
    convolutions = [outputs[row.name].size for row in found.rows if row.kind == "Conv"]
    assert found.activations == sum(convolutions)


def test_parameters_by_hand() -> None:
    """3x3x3x4 + 8; 2 x (4x4x9 + 8); then 4x7x9 + 14, 7x7x9 + 14, 4x7 + 14, 2 x (7x7x9 + 14); 7x5 + 5."""
    found = cost(SMALL, (8, 8))
    assert found.parameters == 108 + 8 + 2 * (144 + 8) + (252 + 14) + (441 + 14) + (28 + 14) + 2 * (441 + 14) + 40
    assert found.macs == 64 * (108 + 2 * 144) + 16 * (252 + 441 + 28 + 2 * 441) + 35
    assert found.activations == 64 * 4 * 3 + 16 * 7 * 5


# Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks", table 1
@pytest.mark.parametrize(("depths", "field"), [((3, 4, 6, 3), 483), ((3, 4, 23, 3), 1027), ((3, 8, 36, 3), 1507)])
def test_published_receptive_fields(depths: tuple[int, ...], field: int) -> None:
    """Theirs are the nets of the 2015 paper: stride on the first 1x1."""
    assert cost(architecture("resnet50_v1", depths=depths)).receptive_field == field


def test_receptive_fields_by_hand() -> None:
    rows = {row.name: row.receptive_field for row in cost(VARIANTS["resnet18"]).rows}
    assert [rows[name] for name in ("conv1", "maxpool", "layer1.0.conv1", "layer1.0.conv2")] == [7, 11, 19, 27]
    assert rows["layer2.0.downsample.0"] == 43
    assert (rows["avgpool"], rows["fc"]) == (0, 0)


@pytest.mark.parametrize("stem", ["cifar", "patch", "dense-patch", "imagenet", "deep"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_value_sees_as_far_as_its_gradient_reaches(stem: str, block: str) -> None:
    arch = architecture("cifar_resnet8", stem=stem, block=block, shortcut="projection", stem_width=4)
    arch = replace(arch, inner_widths=(4, 4, 4), out_widths=(4, 4, 4))
    model = backend.build(plan(arch)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
        model.fc.weight.copy_(torch.rand_like(model.fc.weight))
    field = cost(arch).receptive_field
    side = 3 * field // 16 * 16 + 15
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    y = x
    for name in model.order[:-2]:
        y = model.get_submodule(name)(y)
    y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
    assert x.grad is not None
    reached = x.grad.abs().sum((0, 1)).nonzero()
    extent = (reached.max(0).values - reached.min(0).values + 1).tolist()
    if stem in ("cifar", "patch", "dense-patch"):
        assert extent == [field, field]
    else:  # a max pool passes the gradient of one value of its window only
        assert field - 4 <= max(extent) <= field


@pytest.mark.parametrize("size", [(224,), (0, 4), (5, -1), ()])
def test_wrong_sizes(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image_size is"):
        cost(SMALL, size)  # type: ignore[arg-type]


def test_an_image_smaller_than_the_first_kernel() -> None:
    with pytest.raises(ValueError, match=r"does not reach conv1: it gets 3x9"):
        cost(replace(SMALL, stem="patch"), (3, 9))


def test_the_smallest_images_pass() -> None:
    for name, side in itertools.product(("resnet18", "resnet50d", "cifar_resnet20", "preact_resnet50"), (1, 2, 3)):
        assert cost(VARIANTS[name], (side, 1)).rows[-1].output == (VARIANTS[name].num_classes, 1, 1)


def test_grouped_convolutions_cost_a_group_less() -> None:
    plain = Architecture(depths=(1,), inner_widths=(8,), out_widths=(8,), strides=(1,), stem="cifar", stem_width=8)
    grouped = replace(plain, groups=4)
    difference = cost(plain, (4, 4)).macs - cost(grouped, (4, 4)).macs
    assert difference == 2 * 16 * 9 * (8 * 8 - 8 * 2)
