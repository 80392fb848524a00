"""Directions in weight space: random ones normalised filter by filter, and the plane a training moved in.

The surprising thing: a filter's scale means nothing behind a batch norm, so a step of one length is large for one network and small for
another. Each filter of a random direction therefore gets the norm of the network's own filter; batch norm and biases stay put.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from residual.weights import Weights

Array = npt.NDArray[np.float64]
_STRAIGHT = 1e-10  # share of the variance below which a principal component is rounding, not a direction


@dataclass(frozen=True, kw_only=True)
class Path:
    """The plane that a training moved in most, and its way through it.

    Attributes:
        directions: the leading principal components, each of length 1, orthogonal to each other.
        coordinates: T x len(directions): where each of the weights lies, counted from the last ones, which are at 0.
        explained: share of the path's variance along each direction.
        within: share of the squared distances from the last weights that lies in the plane.
    """

    directions: tuple[Weights, ...]
    coordinates: Array
    explained: tuple[float, ...]
    within: float


def filter_normalised(weights: Weights, seed: int, axis: str) -> Weights:
    """A Gaussian direction whose filters have the norms of those of `weights`; batch norm, its statistics and biases are 0.

    A filter is what makes one output: a slice of a convolution or a row of a linear layer. The draws are a function of seed, axis ("x",
    "y") and the tensor's name alone, so that a plain network moves as its twin with shortcuts does. A filter of zeros stays.

    Source: Li et al. 2018, arXiv:1712.09913, section 4; the authors' code ("xignore=biasbn, xnorm=filter").
    """
    found: Weights = {}
    for name, value in weights.items():
        found[name] = np.zeros(value.shape, np.float32)
        if value.ndim > 1:
            drawn = _stream(seed, axis, name).standard_normal(value.shape)
            scale = _filter_norms(value) / _filter_norms(drawn)
            found[name] = (drawn * scale.reshape(-1, *[1] * (value.ndim - 1))).astype(np.float32)
    return found


def principal(path: Sequence[Weights], count: int = 2) -> Path:
    """The plane of a training: principal components of its weights minus the last ones, over the tensors that random directions move.

    As in the authors' code the components are those of the centred differences. Each points to where the path has its largest
    coordinate.

    Source: Li et al. 2018, arXiv:1712.09913, section 7.2.

    Raises:
        ValueError: there are too few weights, or the path is too straight for `count` directions.
    """
    if len(path) <= count:
        raise ValueError(f"A path of {len(path)} weights has no {count} principal directions; keep at least {count + 1} on the way.")
    names = [name for name, value in path[-1].items() if value.ndim > 1]
    if any(list(weights) != list(path[-1]) for weights in path):
        raise ValueError("The weights of a path are of one network, but these have different tensors.")
    gram = sum((_gram(_differences(path, name)) for name in names), np.zeros((len(path), len(path))))
    centring = np.eye(len(path)) - 1 / len(path)
    variances, vectors = np.linalg.eigh(centring @ gram @ centring)
    variances, vectors = np.maximum(variances[::-1], 0), centring @ vectors[:, ::-1]
    spanned = int((variances > _STRAIGHT * max(variances[0], 1e-300)).sum())
    if spanned < count:
        raise ValueError(f"The path spans {spanned} of the {count} directions wanted: it is too straight; take random directions.")
    mixes = vectors[:, :count] / np.sqrt(variances[:count])
    coordinates = gram @ mixes
    signs = np.sign(coordinates[np.abs(coordinates).argmax(0), np.arange(count)])
    mixes, coordinates = mixes * signs, coordinates * signs
    directions = tuple({name: np.zeros(value.shape, np.float32) for name, value in path[-1].items()} for _ in range(count))
    for name in names:
        moved = mixes.T @ _differences(path, name)
        for direction, values in zip(directions, moved, strict=True):
            direction[name] = values.reshape(direction[name].shape).astype(np.float32)
    return Path(
        directions=directions,
        coordinates=coordinates,
        explained=tuple(float(v) for v in variances[:count] / variances.sum()),
        within=float((coordinates**2).sum() / np.trace(gram)),
    )


def length(weights: Weights) -> float:
    """The Euclidean norm over all tensors."""
    return float(np.sqrt(sum(float((value.astype(np.float64) ** 2).sum()) for value in weights.values())))


def _differences(path: Sequence[Weights], name: str) -> Array:
    """T x size of the tensor: each of the weights minus the last."""
    return np.stack([(weights[name].astype(np.float64) - path[-1][name]).ravel() for weights in path])


def _gram(rows: Array) -> Array:
    products: Array = rows @ rows.T
    return products


def _filter_norms(value: npt.NDArray[np.floating]) -> Array:
    norms: Array = np.sqrt((value.reshape(len(value), -1).astype(np.float64) ** 2).sum(1))
    return norms


def _stream(seed: int, axis: str, name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.sha256(f"direction/{seed}/{axis}/{name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))
