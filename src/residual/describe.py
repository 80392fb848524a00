"""A network in words and columns: the shape table of `residual show`, the table of `residual list`, and both as plain values.

ReLUs are left out of the text, as they change no number; the values for `--json` hold every layer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from residual.architecture import Architecture
from residual.cost import Cost, Row, cost

CIFAR_SIZE, IMAGENET_SIZE = (32, 32), (224, 224)


def native_size(arch: Architecture) -> tuple[int, int]:
    """Height and width of the pictures that nets with this stem were made for."""
    return CIFAR_SIZE if arch.stem in ("cifar", "patch", "dense-patch") else IMAGENET_SIZE


def shape_table(name: str, arch: Architecture, image_size: tuple[int, int]) -> str:
    """The network's layers in the order of the forward pass, one line each, between a line on the whole and its totals.

    Parameters are the trainable numbers; multiply-adds are counted for one picture, in convolutions and linear layers.
    """
    found = cost(arch, image_size)
    head = ("layer", "output", "kernel", "parameters", "multiply-adds", "field")
    rows = [_cells(row) for row in found.rows if row.kind != "Relu"]
    input_row = ("input", _shape((arch.in_channels, *image_size)), "", "", "", "1")
    total = ("total", "", "", f"{found.parameters:,}", f"{found.macs:,}", f"{found.receptive_field:,}")
    lines = _columns([head, input_row, *rows, total], right=(3, 4, 5))
    rule = "-" * max(map(len, lines))
    return "\n".join([_title(name, arch), "", lines[0], rule, *lines[1:-1], rule, lines[-1], "", _legend(found)])


def variant_table(variants: Mapping[str, Architecture]) -> str:
    """One line for each variant, at the picture size it was made for."""
    rows = [("name", "layers", "block", "blocks", "shortcut", "order", "at", "parameters", "multiply-adds")]
    for row in describe_variants(variants):
        depths = "-".join(map(str, row["depths"]))
        numbers = (_short(row["parameters"]), _short(row["multiply_adds"]))
        rows.append(
            (
                row["name"],
                str(row["depth"]),
                row["block"],
                depths,
                row["shortcut"],
                row["order"],
                _side(row["image_size"]),
                *numbers,
            )
        )
    return "\n".join(_columns(rows, right=(1, 6, 7, 8)))


def describe_variants(variants: Mapping[str, Architecture]) -> list[dict[str, Any]]:
    """The rows of `variant_table` as plain values, numbers in full."""
    found = []
    for name, arch in variants.items():
        size = native_size(arch)
        total = cost(arch, size)
        row = {key: getattr(arch, key) for key in ("block", "depths", "shortcut", "order", "stem", "groups")}
        numbers = {"parameters": total.parameters, "multiply_adds": total.macs, "receptive_field": total.receptive_field}
        found.append({"name": name, "depth": depth(arch), **row, "image_size": size, **numbers})
    return found


def describe_network(name: str, arch: Architecture, image_size: tuple[int, int]) -> dict[str, Any]:
    """The architecture, the totals and every layer of `shape_table` as plain values."""
    found = cost(arch, image_size)
    layers = [dataclasses.asdict(row) for row in found.rows]
    for layer in layers:
        layer["multiply_adds"] = layer.pop("macs")
    return {
        "name": name, "depth": depth(arch), "architecture": dataclasses.asdict(arch), "image_size": image_size,
        "parameters": found.parameters, "multiply_adds": found.macs, "activations": found.activations,
        "receptive_field": found.receptive_field, "layers": layers,
    }  # fmt: skip


def depth(arch: Architecture) -> int:
    """Layers with weights on the main path, as the papers count them: ResNet-50 has 50, shortcuts not counted."""
    per_block = 2 if arch.block == "basic" else 3
    return (3 if arch.stem == "deep" else 1) + per_block * sum(arch.depths) + 1


def _cells(row: Row) -> tuple[str, ...]:
    kernel = ""
    if row.kind in ("Conv", "MaxPool", "AvgPool"):
        kernel = f"{row.kernel}x{row.kernel}" + (f" / {row.stride}" if row.stride > 1 else "")
        kernel += f", {row.groups} groups" if row.groups > 1 else ""
    elif row.kind == "PadChannels":
        kernel = f"pad / {row.stride}"
    field = f"{row.receptive_field:,}" if row.receptive_field else "all"
    return (row.name, _shape(row.output), kernel, _count(row.parameters), _count(row.macs), field)


def _title(name: str, arch: Architecture) -> str:
    inner = " ".join(map(str, arch.inner_widths))
    outer = " ".join(map(str, arch.out_widths))
    widths = f"widths {outer}" if inner == outer else f"widths {inner} inside, {outer} out"
    blocks = f"{arch.block} blocks {'-'.join(map(str, arch.depths))}"
    return f"{name}: {depth(arch)} layers, {blocks}, {widths}, shortcut {arch.shortcut}, order {arch.order}, stem {arch.stem}"


def _legend(found: Cost) -> str:
    numbers = (found.parameters, "parameters"), (found.macs, "multiply-adds"), (found.activations, "activations")
    counts = ", ".join(f"{_short(number)} {what}" for number, what in numbers)
    return f"{counts} for one picture; kernel is side / stride; field is the side in pixels that one value sees."


def _columns(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> list[str]:
    """The rows as aligned lines; the columns numbered in `right` are aligned right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join(cells).rstrip())
    return lines


def _shape(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))


def _side(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _short(number: int) -> str:
    """Three significant digits and K, M or G."""
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= power * 0.9995:
            value = number / power
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {letter}"
    return str(number)


__all__ = ["depth", "describe_network", "describe_variants", "native_size", "shape_table", "variant_table"]
