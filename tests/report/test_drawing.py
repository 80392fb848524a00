"""The drawing holds what the plan holds: every block, every layer with a window or weights, every shortcut, for every variant."""

import re
from html import unescape

import pytest

from residual.cost import cost
from residual.describe import native_size
from residual.layers import AvgPool, Conv, GlobalAvgPool, Linear, MaxPool, SqueezeExcite
from residual.plan import plan
from residual.report.drawing import columns, legend, recipe_of_a_block, sizes
from residual.variants import VARIANTS, architecture
from tests.nets import LOOKALIKES

ALL = {**VARIANTS, **LOOKALIKES}
BOXES = (Conv, MaxPool, AvgPool, GlobalAvgPool, Linear, SqueezeExcite)


def drawn(arch, size=None):
    found = columns(plan(arch), size or native_size(arch))
    return found, "".join(block for column in found for group in column.groups for block in group.blocks)


@pytest.mark.parametrize("arch", ALL.values(), ids=ALL.keys())
def test_every_block_layer_and_shortcut_is_drawn(arch) -> None:
    network = plan(arch)
    found, svg = drawn(arch)
    assert [column.blocks for column in found] == [0, *arch.depths, 0]
    assert [sum(len(group.blocks) for group in column.groups) for column in found[1:-1]] == list(arch.depths)
    chains = [*network.stem, *(layer for block in network.blocks() for layer in block.branch), *network.head]
    assert svg.count('class="block ') == svg.count('class="layer"') == sum(isinstance(layer, BOXES) for layer in chains)
    shortcuts = [block.shortcut for block in network.blocks() if block.shortcut is not None]
    assert svg.count('class="shortcut"') == svg.count('class="arc ') == len(shortcuts)
    assert svg.count('class="arc identity"') == sum(not shortcut for shortcut in shortcuts)
    assert len(legend(network)) == len(set(re.findall(r'class="arc (\w+)"', svg)))


@pytest.mark.parametrize("arch", ALL.values(), ids=ALL.keys())
def test_costs_of_the_twinadd_up(arch) -> None:
    size = native_size(arch)
    found, total = columns(plan(arch), size), cost(arch, size)
    assert sum(column.parameters for column in found) == total.parameters
    assert sum(column.macs for column in found) == total.macs
    assert sum(column.share for column in found) == pytest.approx(1)


def test_resnet34_is_figure_3() -> None:
    """He et al. 2015, figure 3: 16 shortcuts, of which three are dotted; 3 + 4 + 6 + 3 blocks."""
    found, svg = drawn(architecture("resnet34"))
    assert svg.count('class="arc identity"') == 13
    assert svg.count('class="arc projection"') == 3
    assert [[len(group.blocks) for group in column.groups] for column in found] == [[1], [3], [1, 3], [1, 5], [1, 2], [1]]
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert words[:4] == ["7×7 conv, 64, /2", "max pool, /2", "3×3 conv, 64", "3×3 conv, 64"]
    assert words.count("3×3 conv, 128, /2") == 1
    assert words[-2:] == ["avg pool", "fc, 1,000"]
    assert [row[1].replace("\N{NO-BREAK SPACE}", " ") for row in sizes(found)][1:3] == ["64 × 56 × 56", "128 × 28 × 28"]
    twin, plain = drawn(architecture("plain34"))
    assert [[len(group.blocks) for group in column.groups] for column in twin] == [[1], [3], [1, 3], [1, 5], [1, 2], [1]]
    assert plain.count('class="block ') == svg.count('class="block ')
    assert "arc" not in plain


def test_a_box_tells_its_shapes_and_costs() -> None:
    _, svg = drawn(architecture("resnet34"))
    tips = [unescape(tip).replace("\N{NO-BREAK SPACE}", " ").splitlines() for tip in re.findall(r'data-tip="([^"]*)"', svg)]
    box = next(tip for tip in tips if tip[0].startswith("layer2.0.conv1:"))
    assert box == [
        "layer2.0.conv1: 3×3 convolution, stride 2", "64 × 56 × 56 → 128 × 28 × 28", "73,728 parameters, 57,802,752 multiply-adds (1.6%)",
        "one value sees 67 × 67 pixels", "then batch norm",
    ]  # fmt: skip
    arc = next(tip for tip in tips if tip[0].startswith("layer2.0: "))
    assert arc[:2] == ["layer2.0: shortcut with a 1×1 convolution: the shape changes", "64 × 56 × 56 → 128 × 28 × 28"]
    assert arc[2].startswith("8,448 parameters, 6,422,528 multiply-adds")


def test_option_a_is_dashed_and_costs_nothing() -> None:
    found, svg = drawn(architecture("cifar_resnet20"))
    assert svg.count('class="arc padded"') == 2
    assert "no parameters" in svg
    assert [kind for kind, _ in legend(plan(architecture("cifar_resnet20")))] == ["identity", "padded"]
    assert [[len(group.blocks) for group in column.groups] for column in found[1:-1]] == [[3], [1, 2], [1, 2]]


def test_stochastic_depth_does_not_unfold() -> None:
    """Blocks that differ in nothing but how often they are dropped are of one kind."""
    found, _ = drawn(architecture("resnet50", drop_path=0.2))
    assert [[len(group.blocks) for group in column.groups] for column in found[1:-1]] == [[1, 2], [1, 3], [1, 5], [1, 2]]


def test_the_order_inside_a_block_is_told() -> None:
    """Also where the only block that keeps its shape is the first, whose activation is the stem's."""
    told = "In each block: batch norm, ReLU, 3×3 convolution, batch norm, ReLU, 3×3 convolution. Then the shortcut is added."
    for arch in (architecture("preact_resnet18"), architecture("cifar_resnet8", order="preact", shortcut="projection")):
        assert recipe_of_a_block(plan(arch)) == told
    assert recipe_of_a_block(plan(architecture("plain18"))).endswith("batch norm, ReLU. Nothing is added: it is a plain network.")


def test_odd_sizes_have_the_costs_shapes() -> None:
    arch = architecture("resnet18")
    found, _ = drawn(arch, (61, 75))
    rows = {row.name: row for row in cost(arch, (61, 75)).rows}
    assert found[2].shape.replace("\N{NO-BREAK SPACE}", " ") == " × ".join(map(str, rows["layer2.1.relu"].output))
