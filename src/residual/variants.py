"""Every network the papers name, each a row with its source: a variant is one changed field, a family is one line each.

`resnet50` is torchvision's net (stride on the 3x3, "v1.5"); the 2015 paper's is `resnet50_v1`: same parameters, another function.
"""

import fnmatch
from dataclasses import replace
from typing import Any, get_origin, get_type_hints

from residual.architecture import Architecture, changed
from residual.spelling import nearest


def _cifar(n: int, **changes: Any) -> Architecture:
    """The CIFAR net of 6n + 2 layers. He et al. 2015, section 4.2."""
    widths = (16, 32, 64)
    base = Architecture(
        depths=(n, n, n), inner_widths=widths, out_widths=widths, strides=(1, 2, 2),
        stem="cifar", stem_width=16, shortcut="pad", num_classes=10,
    )  # fmt: skip
    return replace(base, **changes)


def _wide(depth: int, factor: int) -> Architecture:
    """WRN-depth-factor. Zagoruyko & Komodakis 2016, table 1: n = (depth - 4) / 6 blocks in each group."""
    widths = (16 * factor, 32 * factor, 64 * factor)
    return _cifar((depth - 4) // 6, inner_widths=widths, out_widths=widths, shortcut="projection", order="preact")


_RESNET18 = Architecture(depths=(2, 2, 2, 2), inner_widths=(64, 128, 256, 512), out_widths=(64, 128, 256, 512), strides=(1, 2, 2, 2))
_RESNET34 = replace(_RESNET18, depths=(3, 4, 6, 3))
_RESNET50 = replace(_RESNET34, block="bottleneck", out_widths=(256, 512, 1024, 2048))
_RESNET101 = replace(_RESNET50, depths=(3, 4, 23, 3))
_RESNET152 = replace(_RESNET50, depths=(3, 8, 36, 3))
_WIDE = (128, 256, 512, 1024)
_DEEP_CIFAR = {
    "block": "bottleneck", "out_widths": (64, 128, 256), "shortcut": "projection", "order": "preact", "stride_on": "conv1",
}  # fmt: skip

VARIANTS: dict[str, Architecture] = {
    # He et al. 2015, table 1, with the stride on the 3x3 as torchvision, timm and fb.resnet.torch have it
    "resnet18": _RESNET18,
    "resnet34": _RESNET34,
    "resnet50": _RESNET50,
    "resnet101": _RESNET101,
    "resnet152": _RESNET152,
    # He et al. 2015, table 1 and the authors' release: stride on the first 1x1
    "resnet50_v1": replace(_RESNET50, stride_on="conv1"),
    "resnet101_v1": replace(_RESNET101, stride_on="conv1"),
    "resnet152_v1": replace(_RESNET152, stride_on="conv1"),
    # He et al. 2015, figure 3 and table 2
    "plain18": replace(_RESNET18, shortcut="none"),
    "plain34": replace(_RESNET34, shortcut="none"),
    # Zhang et al., Dive into Deep Learning, chapter "Residual Networks": biases, 1x1 shortcuts without batch norm
    "resnet18_d2l": replace(_RESNET18, conv_bias=True, shortcut_norm=False, initialisation="xavier", in_channels=1, num_classes=10),
    # He et al. 2015, section 4.2 and table 6
    "cifar_resnet20": _cifar(3),
    "cifar_resnet32": _cifar(5),
    "cifar_resnet44": _cifar(7),
    "cifar_resnet56": _cifar(9),
    "cifar_resnet110": _cifar(18),
    "cifar_resnet1202": _cifar(200),
    # He et al. 2015, figure 6 left
    "cifar_plain20": _cifar(3, shortcut="none"),
    "cifar_plain32": _cifar(5, shortcut="none"),
    "cifar_plain44": _cifar(7, shortcut="none"),
    "cifar_plain56": _cifar(9, shortcut="none"),
    "cifar_plain110": _cifar(18, shortcut="none"),
    # He et al. 2016, tables 2 to 4; 164 and 1001 as in the authors' resnet-1k-layers
    "cifar_preact_resnet110": _cifar(18, order="preact"),
    "cifar_preact_resnet164": _cifar(18, **_DEEP_CIFAR),
    "cifar_preact_resnet1001": _cifar(111, **_DEEP_CIFAR),
    # He et al. 2016, section 5 and table 5
    "preact_resnet18": replace(_RESNET18, order="preact"),
    "preact_resnet34": replace(_RESNET34, order="preact"),
    "preact_resnet50": replace(_RESNET50, order="preact"),
    "preact_resnet101": replace(_RESNET101, order="preact"),
    "preact_resnet152": replace(_RESNET152, order="preact"),
    "preact_resnet200": replace(_RESNET50, depths=(3, 24, 36, 3), order="preact"),
    # Zagoruyko & Komodakis 2016, tables 2 and 8
    "wide_resnet50_2": replace(_RESNET50, inner_widths=_WIDE),
    "wide_resnet101_2": replace(_RESNET101, inner_widths=_WIDE),
    "wrn_40_4": _wide(40, 4),
    "wrn_16_8": _wide(16, 8),
    "wrn_28_10": _wide(28, 10),
    # Xie et al. 2017, table 1
    "resnext50_32x4d": replace(_RESNET50, inner_widths=_WIDE, groups=32),
    "resnext101_32x8d": replace(_RESNET101, inner_widths=(256, 512, 1024, 2048), groups=32),
    # He et al. 2019, "Bag of Tricks", figure 2
    "resnet50c": replace(_RESNET50, stem="deep"),
    "resnet50d": replace(_RESNET50, stem="deep", shortcut_pool=True),
    # Hu et al. 2018, table 1
    "se_resnet50": replace(_RESNET50, se_reduction=16),
}


def architecture(name: str, **changes: Any) -> Architecture:
    """The variant `name` with fields replaced, e.g. `architecture("resnet50", num_classes=10, in_channels=1)`.

    Names of the CIFAR families work for any depth 6n + 2: `cifar_resnet68`, `cifar_plain26`. A name may carry changes itself, for the
    command line: `resnet18:shortcut=pad,depths=2-2-2-2`.

    Raises:
        ValueError: for a name or field that is not known, with the nearest right one, or a value out of range.
    """
    plain, _, told = name.partition(":")
    base = VARIANTS.get(plain) or _any_cifar(plain)
    if base is None:
        raise ValueError(f"No variant is named {plain!r}.{nearest(plain, VARIANTS)} `residual list` shows all {len(VARIANTS)}.")
    return changed(base, _read(told, name) | changes)


def is_variant(name: str) -> bool:
    """Whether `name` begins as a variant's does, with changes or without."""
    return name.partition(":")[0] in VARIANTS or name.startswith(("cifar_resnet", "cifar_plain"))


def spelled(name: str, changes: dict[str, Any]) -> str:
    """The variant `name` and its changes as one name that `architecture` reads."""
    words = (
        "-".join(map(str, v)) if isinstance(v, list | tuple) else str(v).lower() if isinstance(v, bool) else v for v in changes.values()
    )
    told = ",".join(f"{field}={word}" for field, word in zip(changes, words, strict=True))
    return f"{name}:{told}" if told else name


def _read(told: str, name: str) -> dict[str, Any]:
    """FIELD=VALUE,... as values; those that do not fit their field stay words, which `changed` refuses by name."""
    found = {}
    for part in told.split(",") if told else ():
        field, equals, word = part.partition("=")
        if not equals:
            raise ValueError(f"{name!r}: {part!r} is no change; write NAME:FIELD=VALUE,FIELD=VALUE, e.g. resnet18:shortcut=pad.")
        hint = get_type_hints(Architecture).get(field)
        found[field] = _value(word, hint)
    return found


def _value(word: str, hint: Any) -> Any:
    if hint is bool:
        return {"true": True, "false": False}.get(word, word)
    try:
        if hint in (int, float):
            return hint(word)
        return tuple(map(int, word.split("-"))) if get_origin(hint) is tuple else word
    except ValueError:
        return word


def matching(pattern: str) -> dict[str, Architecture]:
    """The variants whose name holds `pattern`, or fits it when it has `*`, `?` or `[`."""
    wild = any(c in pattern for c in "*?[")
    return {k: v for k, v in VARIANTS.items() if (fnmatch.fnmatch(k, pattern) if wild else pattern in k)}


def _any_cifar(name: str) -> Architecture | None:
    for prefix, shortcut in (("cifar_resnet", "pad"), ("cifar_plain", "none")):
        depth = name.removeprefix(prefix)
        if depth != name and depth.isascii() and depth.isdigit() and len(depth) < 6:
            n, rest = divmod(int(depth) - 2, 6)
            if rest or n < 1:
                raise ValueError(f"{name!r}: a CIFAR net has 6n + 2 layers (20, 32, 44, ...). Did you mean '{prefix}{6 * max(n, 1) + 2}'?")
            return _cifar(n, shortcut=shortcut)
    return None
