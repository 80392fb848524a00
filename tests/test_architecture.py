"""Wrong descriptions are refused in one sentence that says what was received."""

import dataclasses
from typing import Any

import pytest

from residual.architecture import MAX_BLOCKS, MAX_CHANNELS, Architecture, changed
from residual.variants import VARIANTS, architecture

BASE = VARIANTS["resnet18"]
NARROW = {"depths": (1,), "inner_widths": (8,), "out_widths": (8,), "strides": (1,)}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"depths": ()}, "at least one stage"),
    ({"depths": (2, 2, 2)}, "inner_widths is .* must be 3 numbers"),
    ({"depths": (2, 0, 2, 2)}, "depths is .* positive"),
    ({"depths": (2.0, 2, 2, 2)}, "depths is .* tuple of whole numbers"),
    ({"depths": 4}, "depths is 4"),
    ({"depths": "2222"}, "depths is '2222'"),
    ({"depths": (True, 2, 2, 2)}, "depths is .* whole"),
    ({"depths": (MAX_BLOCKS, 1, 1, 1)}, f"at most {MAX_BLOCKS} blocks"),
    ({"strides": (1, 2, 2)}, "strides is .* must be 4 numbers"),
    ({"strides": (1, 2, 2, 0)}, "strides is .* positive"),
    ({"out_widths": (64, 128, 256, 500)}, "inner_widths=.* must equal out_widths"),
    ({"inner_widths": (64, 128, 256, -1)}, "inner_widths is .* positive"),
    ({"inner_widths": (MAX_CHANNELS + 1,) * 4}, f"at most {MAX_CHANNELS} channels"),
    ({"block": "Bottleneck"}, "block is 'Bottleneck'.*Did you mean 'bottleneck'"),
    ({"shortcut": "identity"}, "shortcut is 'identity', but must be one of"),
    ({"order": "pre-act"}, "Did you mean 'preact'"),
    ({"stem": 7}, "stem is 7"),
    ({"stem_width": 0}, "stem_width is 0"),
    ({"stem": "deep", "stem_width": 33}, "stem='deep' halves it"),
    ({"groups": 3}, "groups=3 does not divide the inner width 64"),
    ({"groups": 0}, "groups is 0"),
    ({"stride_on": "conv3"}, "stride_on is 'conv3'"),
    ({"shortcut_pool": 1}, "shortcut_pool is 1, but must be true or false"),
    ({"conv_bias": "yes"}, "conv_bias is 'yes'"),
    ({"se_reduction": -1}, "se_reduction is -1"),
    ({"dropout": 1.0}, "dropout is 1.0"),
    ({"dropout": float("nan")}, "dropout is nan"),
    ({"drop_path": -0.1}, "drop_path is -0.1"),
    ({"drop_path": "0.1"}, "drop_path is '0.1', but must be a number"),
    ({"drop_path": 0.1, "shortcut": "none"}, "drop_path needs shortcuts"),
    ({"zero_last_gamma": True, "shortcut": "none"}, "zero_last_gamma needs shortcuts"),
    ({"zero_last_gamma": True, "order": "bn-after-addition"}, "zero_last_gamma needs shortcuts"),
    ({"initialisation": "kaiming"}, "initialisation is 'kaiming'"),
    ({"bn_epsilon": 0}, "bn_epsilon is 0"),
    ({"bn_epsilon": float("inf")}, "bn_epsilon is inf"),
    ({"bn_momentum": 0.0}, "bn_momentum is 0.0"),
    ({"bn_momentum": 1.5}, "bn_momentum is 1.5"),
    ({"in_channels": 0}, "in_channels is 0"),
    ({"in_channels": 3.0}, "in_channels is 3.0, but must be a whole number"),
    ({"num_classes": -5}, "num_classes is -5"),
    ({"num_classes": True}, "num_classes is True"),
    ({"num_clases": 10}, "no field 'num_clases'. Did you mean 'num_classes'"),
    ({"shortcut": "pad", "stem_width": 128}, "'pad' only adds channels.* 128 to 64"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[str(changes)[:60] for changes, _ in WRONG])
def test_wrong_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        changed(BASE, changes)
    assert "\n" not in str(caught.value)


def test_changes_keep_the_rest_and_the_original() -> None:
    found = architecture("resnet18", num_classes=10, in_channels=1, depths=[1, 1, 1, 1])
    assert (found.num_classes, found.in_channels, found.depths) == (10, 1, (1, 1, 1, 1))
    assert dataclasses.replace(found, num_classes=1000, in_channels=3, depths=(2, 2, 2, 2)) == BASE
    assert BASE.num_classes == 1000


def test_it_is_frozen_keyword_only_and_hashable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.groups = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        Architecture((1,), (8,), (8,), (1,))  # type: ignore[misc]
    assert len({BASE, architecture("resnet18")}) == 1


@pytest.mark.parametrize(
    "changes", [{"bn_momentum": 1}, {"dropout": 0}, {"num_classes": 1}, {"in_channels": 17}, {"strides": (3,)}, {"groups": 8}]
)
def test_limits_are_allowed(changes: dict[str, Any]) -> None:
    assert changed(Architecture(**NARROW), changes)
