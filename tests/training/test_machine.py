"""What the machine is found to be, beside what the system tells of it."""

from pathlib import Path

import pytest
import torch

from residual.training import machine as measured

CPUINFO = Path("/proc/cpuinfo")


def found_again() -> measured.Machine:
    return measured.machine.__wrapped__()


@pytest.mark.skipif(torch.cuda.is_available() or not CPUINFO.exists(), reason="reads what Linux tells of a processor that computes alone")
def test_bfloat16_is_tried_where_the_processor_multiplies_it() -> None:
    flags = next((line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")), "").split()
    assert found_again().half == bool({"amx_bf16", "avx512_bf16"} & set(flags))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU tells what it has")
@pytest.mark.parametrize("slow", [torch.float32, torch.bfloat16])
def test_a_busy_moment_does_not_change_the_arithmetic(monkeypatch: pytest.MonkeyPatch, slow: torch.dtype) -> None:
    quiet = found_again().half
    monkeypatch.setattr(measured, "_product_seconds", lambda _device, dtype, _side: 1.0 if dtype == slow else 0.001)
    assert found_again().half == quiet


@pytest.mark.parametrize(("capability", "half"), [("amx_bf16", True), ("avx512_bf16", True), ("avx2", False), ("bf16", False)])
def test_what_counts_as_multiplying_bfloat16(monkeypatch: pytest.MonkeyPatch, capability: str, half: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "amx_fp16": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert found_again().half == half
