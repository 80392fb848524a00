"""Names: the nearest right one for a wrong one, with which every message about a name ends, and names of files."""

import difflib
import re
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str]) -> str:
    """`" Did you mean 'resnet50'?"`, or `""` where nothing is near. Case and the kind of separator do not count."""
    plain = {_plain(choice): choice for choice in choices}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return f" Did you mean {plain[found[0]]!r}?" if found else ""


def as_file_name(name: str) -> str:
    """`name` with a dash for what a file's name cannot hold everywhere."""
    return re.sub(r'[/\\:=,*?"<>|]', "-", name)


def _plain(name: str) -> str:
    return str(name).lower().replace("-", "_").replace(" ", "_")
