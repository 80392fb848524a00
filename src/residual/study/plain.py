"""Frozen dataclasses to the plain values of a JSON file and back, led by their type hints.

The surprising thing: JSON has no NaN and no infinity, so both are written as null, and null is read as NaN where a number belongs.
A field with a default may be missing: results that were kept before there was such a field are read.
"""

import dataclasses
import math
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np


def to_plain(value: Any) -> Any:
    """`value` as what JSON knows: dataclasses become objects, tuples and arrays lists, numbers that are not finite null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Path):
        return str(value)
    raise ValueError(f"A result holds plain values, but here is {value!r}.")


def from_plain(hint: Any, value: Any, where: str = "it") -> Any:
    """A value of type `hint` from what `to_plain` made of it. ValueError names the field (from `where` on) that does not fit."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else from_plain(next(kind for kind in inner if kind is not types.NoneType), value, where)
    if origin is Literal:
        return _checked(value in inner, value, where, f"one of {inner}")
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint, value, where)
    if origin is np.ndarray:
        return np.array(value, np.float64)
    if origin is tuple:
        items = _checked(isinstance(value, list), value, where, "a list")
        kinds = [inner[0]] * len(items) if inner[-1] is Ellipsis else list(inner)
        _checked(len(kinds) == len(items), value, where, f"a list of {len(kinds)}")
        return tuple(from_plain(kind, item, f"{where}[{place}]") for place, (kind, item) in enumerate(zip(kinds, items, strict=True)))
    if origin is dict:
        _checked(isinstance(value, dict), value, where, "an object")
        return {name: from_plain(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return math.nan if value is None else float(_checked(number, value, where, "a number"))
    return _checked(type(value) is hint, value, where, f"of type {hint.__name__}")


def _dataclass(kind: type, value: Any, where: str) -> Any:
    _checked(isinstance(value, dict), value, where, "an object")
    hints = get_type_hints(kind)
    later = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    wrong = sorted((hints.keys() ^ value.keys()) - (later - value.keys()))
    if wrong:
        raise ValueError(f"{where} has a missing or unknown field {wrong[0]!r}")
    return kind(**{name: from_plain(hint, value[name], f"{where}.{name}") for name, hint in hints.items() if name in value})


def _checked(good: bool, value: Any, where: str, wanted: str) -> Any:
    if not good:
        told = repr(value)
        raise ValueError(f"{where} is {told if len(told) < 60 else told[:60] + '...'}, but must be {wanted}")
    return value


__all__ = ["from_plain", "to_plain"]
