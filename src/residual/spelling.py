"""The nearest right name for a wrong one; every message about a name ends in it."""

import difflib
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str]) -> str:
    """`" Did you mean 'resnet50'?"`, or `""` where nothing is near. Case and the kind of separator do not count."""
    plain = {_plain(choice): choice for choice in choices}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return f" Did you mean {plain[found[0]]!r}?" if found else ""


def _plain(name: str) -> str:
    return str(name).lower().replace("-", "_").replace(" ", "_")
