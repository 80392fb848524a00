"""`residual doctor`: what is wrong with a folder of pictures, before a training finds out. It changes nothing on disk."""

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What is wrong with a folder of pictures: unreadable files, duplicates, leaks between train and test, contradicting labels.

    Nothing on disk is changed.
    """

    folder: Positional[Annotated[str, arg(metavar="FOLDER")]]
    """One folder for each class (also under train/ and test/), parquet files, or the name of a data set."""
    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print JSON."""

    def run(self) -> int:
        from residual.data import describe_health, examine

        health = examine(self.folder)
        print(json.dumps(health.as_dict(), indent=1) if self.json else describe_health(health))
        return 0
