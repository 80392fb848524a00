"""`residual list` and `residual show` say what the core computes, as text and as JSON."""

import json

import pytest

from residual.cli import main
from residual.cost import cost
from residual.describe import native_size
from residual.variants import VARIANTS, architecture


def output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_list_is_a_line_for_each_variant(capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = output(["list"], capsys).splitlines()
    assert head.split()[:3] == ["name", "layers", "block"]
    assert [line.split()[0] for line in lines] == list(VARIANTS)
    assert {len(line) for line in lines} == {len(head)}, "the columns are aligned"
    (resnet50,) = (line for line in lines if line.startswith("resnet50 "))
    assert resnet50.split() == ["resnet50", "50", "bottleneck", "3-4-6-3", "projection", "original", "224", "25.6", "M", "4.09", "G"]


def test_list_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(output(["list", "--json"], capsys))
    assert [row["name"] for row in rows] == list(VARIANTS)
    for row in rows:
        total = cost(VARIANTS[row["name"]], native_size(VARIANTS[row["name"]]))
        assert (row["parameters"], row["multiply_adds"]) == (total.parameters, total.macs)
    assert {row["name"]: row["depth"] for row in rows}["resnet152"] == 152


def test_list_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["name"] for row in json.loads(output(["list", "*plain*0", "--json"], capsys))] == ["cifar_plain20", "cifar_plain110"]
    assert len(output(["list", "wrn"], capsys).splitlines()) == 4


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(["show", "resnet18", "--image-size", "96x64", "--in-channels", "1", "--num-classes", "10"], capsys).splitlines()
    assert lines[0].startswith("resnet18: 18 layers, basic blocks 2-2-2-2, widths 64 128 256 512, shortcut projection")
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["input"].split()[1:] == ["1", "x", "96", "x", "64", "1"]
    assert rows["conv1"].split() == ["conv1", "64", "x", "48", "x", "32", "7x7", "/", "2", "3,136", f"{48 * 32 * 3136:,}", "7"]
    assert rows["layer4.1.bn2"].split()[1:6] == ["512", "x", "3", "x", "2"]
    assert rows["avgpool"].split()[-1] == "all"
    assert "layer1.0.relu1" not in rows
    total = cost(architecture("resnet18", in_channels=1, num_classes=10), (96, 64))
    assert rows["total"].split() == ["total", f"{total.parameters:,}", f"{total.macs:,}", f"{total.receptive_field:,}"]


def test_show_says_groups_and_padding(capsys: pytest.CaptureFixture[str]) -> None:
    assert "3x3 / 2, 32 groups" in output(["show", "resnext50_32x4d"], capsys)
    assert "pad / 2" in output(["show", "cifar_resnet8"], capsys)


def test_show_json_holds_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(["show", "cifar_resnet20", "--json"], capsys))
    arch = VARIANTS["cifar_resnet20"]
    total = cost(arch, (32, 32))
    assert found["image_size"] == [32, 32]
    assert found["parameters"] == total.parameters == sum(layer["parameters"] for layer in found["layers"])
    assert found["multiply_adds"] == sum(layer["multiply_adds"] for layer in found["layers"])
    assert [layer["name"] for layer in found["layers"]] == [row.name for row in total.rows]
    assert found["architecture"]["shortcut"] == "pad"


def test_show_takes_the_architecture_s_fields(capsys: pytest.CaptureFixture[str]) -> None:
    changes = {
        "depths": (1, 2), "inner_widths": (8, 16), "out_widths": (16, 32), "strides": (1, 2), "block": "bottleneck",
        "shortcut": "pad", "order": "preact", "stem": "cifar", "stem_width": 12, "groups": 4, "stride_on": "conv1",
        "shortcut_pool": True, "shortcut_norm": False, "conv_bias": True, "se_reduction": 4, "in_channels": 2, "num_classes": 7,
    }  # fmt: skip
    flags = []
    for name, value in changes.items():
        values = value if isinstance(value, tuple) else (value,)
        flags += [f"--{name.replace('_', '-')}", *map(str, values)]
    found = json.loads(output(["show", "resnet50", "--json", *flags], capsys))["architecture"]
    for name, value in changes.items():
        assert found[name] == (list(value) if isinstance(value, tuple) else value)
