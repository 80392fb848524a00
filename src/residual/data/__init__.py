"""Where pictures come from, how they are split, checked and brought to one shape: NumPy out, no framework in.

The surprising thing: opening data decodes nothing and, for digits and arrays, imports neither `datasets` nor `pyarrow`.
"""

from residual.data.catalog import CATALOG, Entry
from residual.data.decode import Decoded, Lazy, check_losses, decode, decode_into
from residual.data.digest import digest
from residual.data.health import Health, Twins, describe_health
from residual.data.look import Look, look
from residual.data.memory import MemoryPlan, free_memory, memory_plan
from residual.data.picture import Frame, fit
from residual.data.records import Problem, Records, Source
from residual.data.screen import screen
from residual.data.source import open_source
from residual.data.split import TEST_SEED, TEST_SHARE, cut
from residual.data.survey import examine

__all__ = [
    "CATALOG",
    "TEST_SEED",
    "TEST_SHARE",
    "Decoded",
    "Entry",
    "Frame",
    "Health",
    "Lazy",
    "Look",
    "MemoryPlan",
    "Problem",
    "Records",
    "Source",
    "Twins",
    "check_losses",
    "cut",
    "decode",
    "decode_into",
    "describe_health",
    "digest",
    "examine",
    "fit",
    "free_memory",
    "look",
    "memory_plan",
    "open_source",
    "screen",
]
