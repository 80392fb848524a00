"""A function of one variable and small networks that learn it, in NumPy: the toy problem on which nesting is shown.

The surprising thing: a residual and a plain net here have the same layers and the same number of steps; only the shortcut differs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_WIDTH, _STEPS, _RATE = 8, 400, 0.01  # units of a layer; Adam's steps for each block and its rate


def target(points: int = 64) -> tuple[Array, Array]:
    """Points x of [-1, 1] and sin(2 pi x) + x sin(7 pi x) / 2 at them."""
    x: Array = np.linspace(-1.0, 1.0, points)
    y: Array = np.sin(2 * np.pi * x) + x * np.sin(7 * np.pi * x) / 2
    return x, y


@dataclass(frozen=True, kw_only=True)
class Net:
    """x -> h = a x + b; in each block h <- v relu(w h + c) + d, plus h where there is a shortcut; h -> r h + s.

    `values` are a, b, r, s and then w, c, v, d of each block.
    """

    values: list[Array]
    residual: bool


def begun(*, residual: bool, stream: np.random.Generator) -> Net:
    """A net without blocks."""
    shapes = ((_WIDTH, 1), (_WIDTH, 1), (1, _WIDTH), (1, 1))
    return Net(values=[stream.standard_normal(shape) / max(shape[1], 1) ** 0.5 for shape in shapes], residual=residual)


def deeper(net: Net, stream: np.random.Generator) -> Net:
    """The net with one block more: in a residual net one that puts out zero, so that nothing changes."""
    w, c = stream.standard_normal((_WIDTH, _WIDTH)) * (2 / _WIDTH) ** 0.5, 0.1 * stream.standard_normal((_WIDTH, 1))
    v = np.zeros((_WIDTH, _WIDTH)) if net.residual else stream.standard_normal((_WIDTH, _WIDTH)) * (2 / _WIDTH) ** 0.5
    return Net(values=[value.copy() for value in net.values] + [w, c, v, np.zeros((_WIDTH, 1))], residual=net.residual)


def loss_and_gradient(net: Net, x: Array, y: Array) -> tuple[float, list[Array]]:
    """Mean squared error and its gradient for each of `values`."""
    a, b, r, s, *rest = net.values
    h, kept = a @ x[None] + b, []
    for w, c, v, d in zip(*(rest[n::4] for n in range(4)), strict=True):
        z = np.maximum(w @ h + c, 0.0)
        kept.append((h, z, w, v))
        h = v @ z + d + (h if net.residual else 0.0)
    error = (r @ h + s)[0] - y
    up = 2 * error[None] / len(y)
    found = [up @ h.T, up.sum(1, keepdims=True)]
    up = r.T @ up
    blocks: list[Array] = []
    for h, z, w, v in reversed(kept):
        inner = (v.T @ up) * (z > 0)
        blocks = [inner @ h.T, inner.sum(1, keepdims=True), up @ z.T, up.sum(1, keepdims=True), *blocks]
        up = w.T @ inner + (up if net.residual else 0.0)
    return float((error**2).mean()), [up @ x[:, None], up.sum(1, keepdims=True), *found, *blocks]


def trained(net: Net, x: Array, y: Array, steps: int) -> tuple[Net, float]:
    """The net at the lowest loss that `steps` steps of Adam passed, the start included, and that loss."""
    values = [value.copy() for value in net.values]
    first, second = ([np.zeros_like(value) for value in values] for _ in range(2))
    best, lowest = net, float("inf")
    for step in range(steps + 1):
        loss, gradient = loss_and_gradient(Net(values=values, residual=net.residual), x, y)
        if loss < lowest:
            best, lowest = Net(values=[value.copy() for value in values], residual=net.residual), loss
        for value, m, q, g in zip(values, first, second, gradient, strict=True):
            m += 0.1 * (g - m)
            q += 0.001 * (g * g - q)
            value -= _RATE * (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(q / (1 - 0.999 ** (step + 1))) + 1e-8)
    return best, lowest


def deepening(x: Array, y: Array, depths: int, *, residual: bool, seed: int) -> list[float]:
    """The lowest loss of nets of 1, ..., `depths` blocks, each after the same number of steps for its depth.

    Residual nets grow: each starts as the trained net before it. Plain nets cannot, and are trained from their first values.
    """
    stream, found = np.random.Generator(np.random.Philox(key=[seed, 1])), []
    net = begun(residual=residual, stream=stream)
    for depth in range(1, depths + 1):
        if residual:
            net, lowest = trained(deeper(net, stream), x, y, _STEPS)
        else:
            fresh = begun(residual=residual, stream=stream)
            for _ in range(depth):
                fresh = deeper(fresh, stream)
            lowest = trained(fresh, x, y, depth * _STEPS)[1]
        found.append(lowest)
    return found


__all__ = ["Net", "begun", "deepening", "deeper", "loss_and_gradient", "target", "trained"]
