"""Shattered gradients: how alike the gradients at neighbouring inputs are, by depth. Balduzzi et al. 2017, arXiv:1702.08591, sections 2, 3.

The surprising thing: batch norm's statistics are those of the whole grid and are held fixed in the gradient, so that each input has a
gradient of its own. The correlation is not centred: over random first values a gradient's mean is zero, and a linear net, whose gradient
is the same everywhere, has the correlation 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residual.layers import Network
from residual.study.claims import Spread, spread
from residual.study.probes import input_gradients, settled
from residual.weights import Weights

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Correlation of gradients by distance on a grid.

    Attributes:
        label: what net.
        kind: "plain" or "residual".
        depth: layers with weights.
        spacing: what a lag of 1 is, in words.
        lags: from 0 on.
        correlation: for each lag, over the repetitions (seeds, or lines between pictures).
    """

    label: str
    kind: str
    depth: int
    spacing: str
    lags: tuple[int, ...]
    correlation: tuple[Spread, ...]


def correlation(gradients: npt.ArrayLike, lags: int) -> Array:
    """For each lag h from 0 to `lags`: mean of g(i) . g(i + h) over mean of |g|^2 at the same places; 1 at lag 0.

    `gradients` are those at the points of a grid in order: points x dimensions. ValueError where they are fewer than `lags` + 2.
    """
    g = np.asarray(gradients, np.float64)
    if len(g) < lags + 2:
        raise ValueError(f"{len(g)} points are too few for a lag of {lags}: at least {lags + 2} are needed.")
    found = np.ones(lags + 1)
    squares = (g * g).sum(1)
    for lag in range(1, lags + 1):
        scale = np.sqrt(squares[:-lag].mean() * squares[lag:].mean())
        found[lag] = (g[:-lag] * g[lag:]).sum(1).mean() / scale if scale else np.nan
    return found


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A rectifier net with random first values (He), linear in its last layer.

    `plain`: h <- W relu(BN(h)); residual: h <- h + beta * W relu(BN(h)). Its first layer has standard normal weights and biases.

    Attributes:
        depth: matrices between hidden layers.
        norm: whether hidden layers are normalised over the inputs given.
    """

    residual: bool
    depth: int
    width: int = 200
    beta: float = 1.0
    norm: bool = True

    def gradients(self, inputs: Array, seed: int) -> Array:
        """points x dimensions: the gradient of the one output at each of `inputs` (points x dimensions)."""
        stream = np.random.Generator(np.random.Philox(key=seed))
        first = stream.standard_normal((inputs.shape[1], self.width))
        h = inputs @ first + (stream.standard_normal(self.width) if self.norm else 0.0)
        matrices = [stream.standard_normal((self.width, self.width)) * (2 / self.width) ** 0.5 for _ in range(self.depth)]
        gates: list[Array] = []
        for matrix in matrices:
            mean, std = (h.mean(0), np.sqrt(h.var(0) + 1e-5)) if self.norm else (0.0, 1.0)
            normal = (h - mean) / std
            gates.append((normal > 0) / std)
            y = np.maximum(normal, 0) @ matrix
            h = h + self.beta * y if self.residual else y
        g = np.broadcast_to(stream.standard_normal(self.width), h.shape)
        for matrix, gate in zip(reversed(matrices), reversed(gates), strict=True):
            back = (g @ matrix.T) * gate
            g = g + self.beta * back if self.residual else back
        return np.asarray(g @ first.T)


def mlp_curve(net: Mlp, *, seeds: Sequence[int], points: int = 256, lags: int = 15) -> Curve:
    """The correlation along `points` evenly spaced numbers in [-2, 2], one net for each seed. Balduzzi et al. 2017, figures 1 and 2."""
    grid = np.linspace(-2, 2, points)[:, None]
    rows = np.stack([correlation(net.gradients(grid, seed), lags) for seed in seeds])
    kind = "residual" if net.residual else "plain"
    scaled = f", beta {net.beta:g}" if net.residual and net.beta != 1 else ""
    return Curve(
        label=f"{kind} MLP of width {net.width}{scaled}", kind=kind, depth=net.depth + 2, spacing=f"{4 / (points - 1):.4f} of [-2, 2]",
        lags=tuple(range(lags + 1)), correlation=tuple(spread(rows[:, lag]) for lag in range(lags + 1)),
    )  # fmt: skip


def line_gradients(
    network: Network, weights: Weights, ends: npt.NDArray[np.float32], *, output: npt.NDArray[np.float32], points: int
) -> Array:
    """points x C H W: the gradients of `output` times the logits, along the line between two pictures (2 C H W)."""
    shares = np.linspace(0, 1, points, dtype=np.float32)[:, None, None, None]
    return input_gradients(network, weights, ends[0] + shares * (ends[1] - ends[0]), output)


def first_value_lines(
    network: Network, draws: Sequence[Weights], images: npt.NDArray[np.float32], *, points: int = 64, lags: int = 15
) -> tuple[Spread, ...]:
    """The correlation by lag between the i-th pair of `images` for the i-th of `draws` of first values.

    Running statistics are set to those of `images` first: at first values they would be 0 and 1 and nothing would be normalised.
    """
    rows = []
    for number, weights in enumerate(draws):
        output = np.random.Generator(np.random.Philox(key=number)).standard_normal(network.num_classes, np.float32)
        start = 2 * number % (len(images) - 1)
        g = line_gradients(network, settled(network, weights, images), images[start : start + 2], output=output, points=points)
        rows.append(correlation(g, lags))
    table = np.stack(rows)
    return tuple(spread(table[:, lag]) for lag in range(lags + 1))


__all__ = ["Curve", "Mlp", "correlation", "first_value_lines", "line_gradients", "mlp_curve"]
