"""oneDNN's convolutions with what follows them, which PyTorch's own compiler calls too: PyTorch keeps them private.

Pictures are N C H W in channels last. Nothing is checked here: `fused_works` in `torch_fused.py` tries them once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a kernel is led over pictures: padding and stride, each from top to bottom and from left to right, and the groups of channels."""

    padding: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    groups: int = 1


def laid_out(weight: Tensor, window: Window, shape: torch.Size) -> Tensor:
    """`weight` in the order in which pictures of this shape are convolved fastest; with others it is right too."""
    return torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
        weight.to_mkldnn(), [*window.padding], [*window.stride], [1, 1], window.groups, shape
    )


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, *, relu: bool = False) -> Tensor:
    """[relu](conv(x))."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, [*window.padding], [*window.stride], [1, 1], window.groups, "relu" if relu else "none", [], None
    )
    return found


def convolved_onto(other: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, *, relu: bool) -> Tensor:
    """[relu](conv(x) + other), in the memory of `other`."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
        other, x, weight, bias, [*window.padding], [*window.stride], [1, 1], window.groups, "add", 1.0, "relu" if relu else None, [], None
    )
    return found


__all__ = ["Window", "convolved", "convolved_onto", "laid_out"]
