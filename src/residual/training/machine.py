"""What this machine can do, measured in a moment; what a run records of it.

How fast a net trains is measured on the net itself: narrow nets are bound by memory and calls, not by arithmetic.
"""

import os
import platform
import statistics
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F

from residual.architecture import Architecture
from residual.backends import torch as backend
from residual.backends.torch_convolution import in_layout
from residual.backends.torch_training import training_form
from residual.plan import plan
from residual.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`rate` is multiply-adds per second of a float32 (or, where `half`, bfloat16) matrix product of 1024 x 1024 (on a GPU of 4096 x 4096).

    `half`: bfloat16 may be faster; on a CPU it depends on the net (`training_way` tries it).
    """

    device: str
    name: str
    rate: float
    half: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device, "name": self.name, "threads": torch.get_num_threads(), "gmac_per_second": round(self.rate / 1e9, 1),
            "bfloat16": self.half, "system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count(),
        }  # fmt: skip


@cache
def machine() -> Machine:
    """The best device here. On a CPU its instructions tell whether bfloat16 is worth trying, not the clock: two processes on a busy machine
    would find two answers, and train the same command to different bits."""
    cuda = torch.cuda.is_available()
    half = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _multiplies_bfloat16()
    device, side = ("cuda", 4096) if cuda else ("cpu", 1024)
    seconds = _product_seconds(device, torch.bfloat16 if half else torch.float32, side)
    return Machine(device=device, name=torch.cuda.get_device_name() if cuda else _cpu_name(), rate=side**3 / seconds, half=half)


def device_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU, what PyTorch keeps for its next tensors among them; None on a CPU, which has no memory of its own."""
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _multiplies_bfloat16() -> bool:
    """Whether the processor has AMX or AVX-512 for it; elsewhere PyTorch takes it apart, which is slower than float32."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every PyTorch that we run on
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def _product_seconds(device: str, dtype: torch.dtype, side: int) -> float:
    """Seconds of one side x side matrix product: the best of ten after one that is not counted, or of as many as fit into 0.1 s.

    Ten, because a processor that shares its matrix unit with others is slow three times out of four.
    """
    a = torch.ones(side, side, device=device, dtype=dtype)
    best, end = float("inf"), time.perf_counter() + 0.1
    for turn in range(11):
        began = time.perf_counter()
        value = (a @ a)[0, 0].item()
        assert value > 0
        best = min(best, time.perf_counter() - began) if turn else best
        if turn and time.perf_counter() > end:
            break
    return best


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The steps by which a net is tried: so many pictures each, for about so many seconds; with `frozen` the first layer is not trained."""

    batch: int
    seconds: float = 0.3
    frozen: bool = False


def settle_threads(arch: Architecture, size: tuple[int, int], trial: Trial) -> bool:
    """Whether training was set to one thread, because one is over 1.5 times as fast as all of them.

    That is so where another program keeps a core busy: threads that wait for each other at every layer then wait for the scheduler.
    A user's OMP_NUM_THREADS is left alone.
    """
    threads = torch.get_num_threads()
    if machine().device != "cpu" or threads == 1 or "OMP_NUM_THREADS" in os.environ:
        return False
    together = training_rate(arch, size, trial, half=False)
    torch.set_num_threads(1)
    alone = training_rate(arch, size, trial, half=False)
    if alone <= 1.5 * together:
        torch.set_num_threads(threads)
    return alone > 1.5 * together


def training_rate(
    arch: Architecture, size: tuple[int, int], trial: Trial, *, half: bool, channels_last: bool = True, compiled: bool = False
) -> float:
    """Pictures a second of training steps on random pictures: the median of as many steps as fit into the trial's seconds (two to seven, or
    one that takes 3 s), after one that is not counted."""
    device, layout = torch.device(machine().device), torch.channels_last if channels_last else torch.contiguous_format
    model = backend.build(plan(arch)).to(device).to(memory_format=layout).train()  # type: ignore[call-overload]
    if trial.frozen:
        backend.freeze_stem(model)
    chosen, call = backend.optimizer(model, Recipe()), training_form(model, half=half, compiled=compiled)
    x = in_layout(torch.rand(trial.batch, arch.in_channels, *size, device=device), channels_last=channels_last)
    labels, seconds = torch.zeros(trial.batch, dtype=torch.int64, device=device), list[float]()
    for turn in range(8):
        began = time.perf_counter()
        loss = F.cross_entropy(call(x).float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        chosen.step()
        chosen.zero_grad()
        loss.item()
        if turn:
            seconds.append(time.perf_counter() - began)
        if sum(seconds) > (trial.seconds if turn > 1 else 3.0):
            break
    return trial.batch / statistics.median(seconds)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a net trains fastest, and its pictures a second then."""

    rate: float
    channels_last: bool
    half: bool


def training_way(
    arch: Architecture, size: tuple[int, int], trial: Trial, *, halves: tuple[bool, ...], layouts: tuple[bool, ...] = (True,)
) -> Way:
    """The fastest way in bfloat16 or not, of those in `halves`, and channels last or not, of those in `layouts`.

    N C H W must be 3 % faster than channels last, bfloat16 (tried in the first layout only) 10 % faster than the better of them.
    """
    ways = [
        Way(rate=training_rate(arch, size, trial, half=half, channels_last=last), channels_last=last, half=half)
        for half in halves
        for last in (layouts[:1] if half else layouts)
    ]
    single = max((way for way in ways if not way.half), key=lambda way: way.rate * (1.03 if way.channels_last else 1), default=ways[0])
    return max(ways, key=lambda way: way.rate if way.half else way.rate * 1.1 * (way is single))


def pays(seconds: float, *, rate: float, compiled: float, cost: float) -> bool:
    """Whether compiling, which takes `cost` seconds, ends a training of `seconds` sooner: by a tenth of it at least."""
    return cost + seconds * rate / compiled <= 0.9 * seconds
