"""The layer lists of whole blocks, written out from the papers' figures."""

from dataclasses import replace

import pytest

from residual.layers import Block, Conv, MaxPool, Norm, PadChannels, Stage
from residual.plan import plan
from residual.variants import VARIANTS, architecture
from tests.nets import LOOKALIKES, SMALL


def block(name: str, number: int, **changes: object) -> Block:
    return list(plan(architecture(name, **changes)).blocks())[number]


def names(layers: tuple[object, ...] | None) -> list[str] | None:
    return None if layers is None else [layer.name.split(".", 2)[2] for layer in layers]  # type: ignore[attr-defined]


def test_the_basic_block_of_2015() -> None:
    """He et al. 2015, figure 2."""
    found = block("resnet18", 2)
    assert (found.name, names(found.before), names(found.after)) == ("layer2.0", [], ["relu"])
    assert names(found.branch) == ["conv1", "bn1", "relu1", "conv2", "bn2"]
    assert names(found.shortcut) == ["downsample.0", "downsample.1"]
    assert found.branch[0] == Conv(
        name="layer2.0.conv1", in_channels=64, out_channels=128, kernel=3, stride=2, padding=1, groups=1, bias=False
    )
    assert found.branch[1] == Norm(name="layer2.0.bn1", channels=128, epsilon=1e-5, momentum=0.1, gamma=1.0)
    assert names(block("resnet18", 3).shortcut) == []
    assert names(block("plain18", 2).shortcut) is None


def test_the_bottleneck_and_its_stride() -> None:
    """He et al. 2015, figure 5; torchvision moved the stride to the 3x3."""
    for name, strides in (("resnet50_v1", [2, 1, 1]), ("resnet50", [1, 2, 1])):
        found = block(name, 3)
        convolutions = [layer for layer in found.branch if isinstance(layer, Conv)]
        assert [conv.stride for conv in convolutions] == strides
        assert [conv.kernel for conv in convolutions] == [1, 3, 1]
        assert [conv.padding for conv in convolutions] == [0, 1, 0]
    assert [layer.groups for layer in block("resnext50_32x4d", 3).branch if isinstance(layer, Conv)] == [1, 32, 1]


@pytest.mark.parametrize(
    ("order", "before", "branch", "after"),
    [
        ("original", [], ["conv1", "bn1", "relu1", "conv2", "bn2"], ["relu"]),
        ("bn-after-addition", [], ["conv1", "bn1", "relu1", "conv2"], ["bn2", "relu"]),
        ("relu-before-addition", [], ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2"], []),
        ("relu-only-preact", [], ["relu1", "conv1", "bn1", "relu2", "conv2", "bn2"], []),
        ("preact", [], ["bn1", "relu1", "conv1", "bn2", "relu2", "conv2"], []),
    ],
)
def test_the_five_orders(order: str, before: list[str], branch: list[str], after: list[str]) -> None:
    """He et al. 2016, figure 4; an identity shortcut passes everything by."""
    found = block("resnet18", 1, order=order)
    assert (names(found.before), names(found.branch), names(found.after)) == (before, branch, after)


def test_preactivation_is_shared_where_the_shape_changes() -> None:
    """He et al. 2016, section 5: the first activation stands before the branch and the projection; the last block's is added."""
    found = block("preact_resnet18", 2)
    assert (names(found.before), names(found.shortcut)) == (["bn1", "relu1"], ["downsample.0"])
    assert names(found.branch) == ["conv1", "bn2", "relu2", "conv2"]
    first = block("preact_resnet18", 0)
    assert (names(first.before), names(first.branch)) == ([], ["conv1", "bn2", "relu2", "conv2"])
    assert [layer.name for layer in plan(VARIANTS["preact_resnet18"]).head] == ["norm", "norm_relu", "avgpool", "fc"]


def test_the_odd_channel_of_option_a_comes_last() -> None:
    (pad,) = next(block for block in plan(replace(SMALL, shortcut="pad")).blocks() if block.name == "layer2.0").shortcut or ()
    assert pad == PadChannels(name="layer2.0.downsample.0", stride=2, before=1, after=2)


def test_the_bag_of_tricks_shortcut() -> None:
    """He et al. 2019, figure 2c: the pool carries the stride; in the first stage there is none to carry."""
    assert names(block("resnet50d", 3).shortcut) == ["downsample.0", "downsample.1", "downsample.2"]
    assert names(block("resnet50d", 0).shortcut) == ["downsample.1", "downsample.2"]
    assert [layer.stride for layer in (block("resnet50d", 3).shortcut or ())[:2]] == [2, 1]  # type: ignore[union-attr]


def test_the_chapter_s_block_has_biases_and_no_norm_on_its_shortcut() -> None:
    found = block("resnet18_d2l", 2)
    assert names(found.shortcut) == ["downsample.0"]
    assert all(layer.bias for layer in (*found.branch, *(found.shortcut or ())) if isinstance(layer, Conv))


def test_dropout_stands_between_the_3x3_convolutions() -> None:
    """Zagoruyko & Komodakis 2016, figure 1d."""
    assert names(block("wrn_28_10", 1, dropout=0.3).branch) == ["bn1", "relu1", "conv1", "bn2", "relu2", "dropout", "conv2"]


def test_drop_path_rises_linearly_to_the_last_block() -> None:
    """Huang et al. 2016, equation 4."""
    rates = [found.drop_path for found in plan(architecture("cifar_resnet20", drop_path=0.9)).blocks()]
    assert rates == pytest.approx([0.1 * k for k in range(1, 10)])


def test_stems() -> None:
    stems = {stem: plan(architecture("resnet18", stem=stem)).stem for stem in ("imagenet", "deep", "cifar", "patch", "dense-patch")}
    assert [layer.name for layer in stems["imagenet"]] == ["conv1", "bn1", "relu", "maxpool"]
    assert stems["imagenet"][3] == MaxPool(name="maxpool", kernel=3, stride=2, padding=1, zero_padding=False)
    shapes = {
        stem: [(c.in_channels, c.out_channels, c.kernel, c.stride, c.padding) for c in layers if isinstance(c, Conv)]
        for stem, layers in stems.items()
    }
    assert shapes == {
        "imagenet": [(3, 64, 7, 2, 3)],
        "deep": [(3, 32, 3, 2, 1), (32, 32, 3, 1, 1), (32, 64, 3, 1, 1)],
        "cifar": [(3, 64, 3, 1, 1)],
        "patch": [(3, 64, 4, 2, 0)],
        "dense-patch": [(3, 64, 4, 1, 0)],
    }


def test_names_are_unique_and_hold_blocks_and_stages() -> None:
    for arch in VARIANTS.values():
        network = plan(arch)
        found = network.names()
        assert len(found) == len(set(found))
        assert {"conv1" if arch.stem != "deep" else "conv1.0", "layer1.0", "layer1", "fc"} <= set(found)


def test_a_network_knows_what_it_was_planned_from() -> None:
    network = plan(SMALL)
    assert network.architecture == SMALL
    assert (network.in_channels, network.num_classes, network.initialisation) == (3, 5, "he")
    assert [type(stage) for stage in network.stages] == [Stage, Stage]


def test_the_starts_of_preactivation_nets() -> None:
    """In the stem (He et al. 2016, appendix), in the first block (timm, Keras Applications), in both (Gluon's v2)."""
    for start, stem, leads in (("stem", True, False), ("block", False, True), ("both", True, True)):
        network = plan(architecture("preact_resnet18", preact_start=start))
        first = next(network.blocks())
        assert [layer.name for layer in network.stem] == (["conv1", "bn1", "relu", "maxpool"] if stem else ["conv1", "maxpool"])
        assert names(first.branch) == [*(["bn1", "relu1"] if leads else []), "conv1", "bn2", "relu2", "conv2"]
    with pytest.raises(ValueError, match="preact_start='block' is for pre-activation nets"):
        plan(architecture("resnet18", preact_start="block"))


def test_the_stride_in_the_last_block_of_a_stage() -> None:
    """Keras Applications' V2: the strided block skips by taking every second pixel of what comes in, before its activation."""
    network = plan(LOOKALIKES["keras_resnet50v2"])
    blocks = {found.name: found for found in network.blocks()}
    first, last = blocks["layer1.0"], blocks["layer1.2"]
    assert (names(first.before), names(first.shortcut)) == (["bn1", "relu1"], ["downsample.0"])
    assert [conv.stride for conv in (*first.branch, *last.branch) if isinstance(conv, Conv)] == [1, 1, 1, 1, 2, 1]
    assert last.before == ()
    assert last.shortcut == (PadChannels(name="layer1.2.downsample.0", stride=2, before=0, after=0),)
    assert [conv.stride for conv in blocks["layer4.2"].branch if isinstance(conv, Conv)] == [1, 1, 1]


def test_norm_of_the_pictures_and_zeros_around_the_pool() -> None:
    assert plan(LOOKALIKES["gluon_resnet50_v2"]).stem[0] == Norm(name="norm0", channels=3, epsilon=1e-5, momentum=0.1, gamma=1.0)
    pools = [layer for layer in plan(LOOKALIKES["keras_resnet50v2"]).stem if isinstance(layer, MaxPool)]
    assert pools == [MaxPool(name="maxpool", kernel=3, stride=2, padding=1, zero_padding=True)]
