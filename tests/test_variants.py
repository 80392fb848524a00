"""The named networks have the published numbers of parameters and multiply-adds."""

from dataclasses import replace
from typing import Any

import pytest

from residual.architecture import Order, Shortcut
from residual.cost import cost
from residual.plan import plan
from residual.variants import VARIANTS, architecture, is_variant, matching, spelled

# torchvision 0.28.0, `torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta`: num_params and _ops, in 1e9
TORCHVISION = {
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
    "wide_resnet50_2": (68_883_240, 11.398),
    "wide_resnet101_2": (126_886_696, 22.753),
    "resnext50_32x4d": (25_028_904, 4.23),
    "resnext101_32x8d": (88_791_336, 16.414),
}
# He et al. 2015, table 1: multiply-adds in 1e9, to one decimal (18 and 34 count what torchvision's count)
PAPER_OPERATIONS = {"resnet50_v1": 3.8, "resnet101_v1": 7.6, "resnet152_v1": 11.3, "resnet18": 1.8, "resnet34": 3.6}
# He et al. 2015, table 6; Zagoruyko & Komodakis 2016, tables 2 and 5; He et al. 2016, table 4: millions of parameters
PAPER_PARAMETERS = {
    "cifar_resnet20": 0.27, "cifar_resnet32": 0.46, "cifar_resnet44": 0.66, "cifar_resnet56": 0.85, "cifar_resnet110": 1.7,
    "cifar_resnet1202": 19.4, "wrn_40_4": 8.9, "wrn_16_8": 11.0, "wrn_28_10": 36.5, "cifar_preact_resnet164": 1.7,
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_counts(name: str) -> None:
    found = cost(VARIANTS[name])
    parameters, operations = TORCHVISION[name]
    assert found.parameters == parameters
    assert round(found.macs / 1e9, 3) == operations


@pytest.mark.parametrize("name", PAPER_OPERATIONS)
def test_paper_operations(name: str) -> None:
    """The papers cut the digits that follow, or round them."""
    assert PAPER_OPERATIONS[name] - 0.05 <= cost(VARIANTS[name]).macs / 1e9 < PAPER_OPERATIONS[name] + 0.1


@pytest.mark.parametrize("name", PAPER_PARAMETERS)
def test_paper_parameters(name: str) -> None:
    printed = PAPER_PARAMETERS[name]
    unit = 0.01 if printed < 1 else 0.1
    assert printed - unit / 2 <= cost(VARIANTS[name], (32, 32)).parameters / 1e6 < printed + unit


def test_the_stride_moves_no_parameters() -> None:
    for depth in (50, 101, 152):
        old, new = cost(VARIANTS[f"resnet{depth}_v1"]), cost(VARIANTS[f"resnet{depth}"])
        assert old.parameters == new.parameters
        assert old.macs < new.macs


@pytest.mark.parametrize("n", [1, 2, 3, 7, 18])
@pytest.mark.parametrize("family", ["cifar_resnet", "cifar_plain"])
def test_cifar_nets_of_any_depth(family: str, n: int) -> None:
    """Counted by hand: 6n 3x3 convolutions without biases, each with a batch norm, a first one, and the last layer."""
    widths = (16, 32, 64)
    inside = sum((2 * n - 1) * (9 * w * w + 2 * w) for w in widths)
    entries = sum(9 * before * w + 2 * w for before, w in zip((16, 16, 32), widths, strict=True))
    stem, head = 27 * 16 + 32, 64 * 10 + 10
    assert cost(architecture(f"{family}{6 * n + 2}"), (32, 32)).parameters == inside + entries + stem + head


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar_resnet21", "6n \\+ 2 layers.*'cifar_resnet20'"),
        ("cifar_resnet2", "6n \\+ 2 layers.*'cifar_resnet8'"),
        ("cifar_plain-20", "Did you mean 'cifar_plain20'"),
        ("cifar_resnet9999999", "No variant"),
        ("cifar_resnet²0", "No variant"),
        ("resnet_50", "Did you mean 'resnet50'"),
        ("", "No variant is named ''"),
    ],
)
def test_wrong_names(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        architecture(name)


def test_a_plain_twin_costs_what_option_a_costs() -> None:
    """He et al. 2015, section 3.3: no extra parameter, no extra multiply-add."""
    for depth in (20, 56, 110):
        plain, residual = (cost(VARIANTS[f"cifar_{kind}{depth}"], (32, 32)) for kind in ("plain", "resnet"))
        assert (plain.parameters, plain.macs) == (residual.parameters, residual.macs)
    for depth in (18, 34):
        option_a = cost(architecture(f"resnet{depth}", shortcut="pad"))
        plain = cost(VARIANTS[f"plain{depth}"])
        assert (plain.parameters, plain.macs) == (option_a.parameters, option_a.macs)


def test_shortcut_options_cost_more_in_their_order() -> None:
    for name in ("resnet34", "resnet50", "cifar_resnet20"):
        counts = [cost(architecture(name, shortcut=kind)).parameters for kind in ("none", "pad", "projection", "projection-all")]
        assert counts[0] == counts[1] < counts[2] < counts[3]


@pytest.mark.parametrize("shortcut", ["pad", "projection", "projection-all", "none"])
@pytest.mark.parametrize("order", ["original", "preact", "relu-only-preact", "relu-before-addition", "bn-after-addition"])
def test_every_family_takes_every_shortcut_and_order(shortcut: Shortcut, order: Order) -> None:
    for name in ("resnet18", "resnet50_v1", "cifar_resnet20", "wrn_16_8", "resnext50_32x4d", "resnet50d", "se_resnet50"):
        network = plan(replace(VARIANTS[name], shortcut=shortcut, order=order))
        names = [layer.name for layer in network.layers()]
        assert len(names) == len(set(names))
        assert all((block.shortcut is None) == (shortcut == "none") for block in network.blocks())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shortcut": "pad"},
        {"order": "bn-after-addition", "se_reduction": 4, "dropout": 0.25, "conv_bias": True, "depths": (1, 2, 1, 1)},
    ],
)
def test_a_name_carries_changes(changes: dict[str, Any]) -> None:
    assert architecture(spelled("resnet18", changes)) == architecture("resnet18", **changes)
    assert architecture(spelled("resnet18", changes), num_classes=7, se_reduction=2) == architecture(
        "resnet18", **changes | {"num_classes": 7, "se_reduction": 2}
    )
    assert is_variant(spelled("resnet18", changes))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18:", None),
        ("resnet18:pad", "'pad' is no change; write NAME:FIELD=VALUE"),
        ("resnet18:shortcut=pat", "shortcut is 'pat', but must be one of .* Did you mean 'pad'"),
        ("resnet18:shortcuts=pad", "no field 'shortcuts'. Did you mean 'shortcut'"),
        ("resnet18:conv_bias=yes", "conv_bias is 'yes', but must be true or false"),
        ("resnet18:groups=two", "groups is 'two', but must be a whole number"),
        ("resnet18:depths=1-x-1-1", "depths is '1-x-1-1', but must be a tuple"),
        ("resnet81:shortcut=pad", "No variant is named 'resnet81'"),
    ],
)
def test_changes_that_are_none(name: str, said: str | None) -> None:
    if said is None:
        assert architecture(name) == VARIANTS["resnet18"]
        return
    with pytest.raises(ValueError, match=said) as error:
        architecture(name)
    assert "\n" not in str(error.value)


def test_matching() -> None:
    assert list(matching("110")) == ["cifar_resnet110", "cifar_plain110", "cifar_preact_resnet110"]
    assert list(matching("resnet?8")) == ["resnet18"]
    assert list(matching("")) == list(VARIANTS)
    assert matching("vgg") == {}


# osmr/imgclsmob, pytorch/README.md, tables of CIFAR-10 models; option A as counted by akamaster/pytorch_resnet_cifar10's layout
EXACT = {
    "cifar_resnet44": 658_586, "cifar_resnet56": 853_018, "cifar_resnet110": 1_727_962, "cifar_resnet1202": 19_421_274,
    "cifar_preact_resnet164": 1_703_258, "cifar_preact_resnet1001": 10_327_706, "wrn_28_10": 36_479_194,
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_counts_of_other_libraries(name: str) -> None:
    assert cost(VARIANTS[name], (32, 32)).parameters == EXACT[name]
