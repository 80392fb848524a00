"""The targets: their nets exist and are those of the papers, their numbers have nets, and wrong names are one sentence."""

from dataclasses import asdict

import pytest

from residual.cost import cost
from residual.plan import plan
from residual.recipe import Recipe
from residual.study.subjects import depth_of, without_shortcuts
from residual.study.targets import TARGETS, Target, label, target
from residual.training.recipes import recipe
from residual.variants import architecture

ALL = list(TARGETS.values())


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_every_number_is_of_a_net_of_the_protocol(each: Target) -> None:
    labels = {net.label for net in each.full.nets}
    for number in each.published:
        subject = number.what.partition(", ")[0] if each.kind != "count" else number.what.rpartition(", ")[0]
        assert subject in labels | {"ResNet-1202", "conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x"}
        assert number.source
        assert round(number.value, number.digits) == number.value
    assert len({number.what for number in each.published}) == len(each.published)
    assert TARGETS[each.name] is each


@pytest.mark.parametrize("each", [each for each in ALL if each.kind != "count"], ids=lambda each: each.name)
def test_protocols_are_recipes(each: Target) -> None:
    """The small one trains less, on the same data; what it changes is a field of the recipe."""
    for protocol in (each.full, each.small):
        found = recipe(protocol.recipe, **dict(protocol.changes))
        assert protocol.data == each.full.data
        assert protocol.seeds >= 1
        assert asdict(found).keys() == asdict(Recipe()).keys()
    if each.kind != "degradation":
        small, full = (recipe(p.recipe, **dict(p.changes)) for p in (each.small, each.full))
        assert small.epochs < full.epochs
        assert 0 < small.image_size < (full.image_size or 32)


def test_table_6_is_the_papers() -> None:
    """Layers and parameters in millions: He et al. 2015, table 6."""
    told = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
    for net, (depth, millions) in zip(target("table6").full.nets, told.items(), strict=True):
        assert net.label == f"ResNet-{depth}"
        assert depth_of(plan(net.architecture())) == depth
        digits = 1 if depth == 110 else 2
        assert round(cost(net.architecture(), (32, 32)).parameters / 1e6, digits) == millions


def test_table_2_of_2016_has_every_order_at_both_depths() -> None:
    nets = {net.label: net for net in target("table2-2016").full.nets}
    assert len(nets) == 10
    for order in ("original", "bn-after-addition", "relu-before-addition", "relu-only-preact", "preact"):
        for depth in (110, 164):
            arch = nets[f"{order} {depth}"].architecture()
            assert (arch.order, depth_of(plan(arch))) == (order, depth)
    assert nets["original 110"].trained_as() == "cifar_resnet110"
    assert nets["preact 110"].trained_as() == "cifar_preact_resnet110"
    assert nets["preact 164"].trained_as() == "cifar_preact_resnet164"
    assert nets["bn-after-addition 110"].trained_as() == "cifar_resnet110:order=bn-after-addition"
    assert all(architecture(net.trained_as()) == net.architecture() for net in nets.values())


def test_twins_stand_side_by_side() -> None:
    for name in ("fig7", "landscape"):
        small = target(name).small.nets
        for residual, plain in zip(small[::2], small[1::2], strict=True):
            assert without_shortcuts(residual.architecture()) == plain.architecture()


@pytest.mark.parametrize(
    ("variant", "told"),
    [("cifar_resnet20", "ResNet-20"), ("cifar_plain110", "plain-110"), ("cifar_resnetx", "cifar_resnetx"), ("resnet18", "resnet18")],
)
def test_labels_are_the_papers(variant: str, told: str) -> None:
    assert label(variant) == told


@pytest.mark.parametrize(("wrong", "near"), [("tabel6", "'table6'"), ("fig_6", "'fig6'"), ("table2_2016", "'table2-2016'")])
def test_a_wrong_name_has_a_nearest_right_one(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"Did you mean {near}"):
        target(wrong)
