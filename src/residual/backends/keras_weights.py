"""The tensors of a Keras model under PyTorch's names and in PyTorch's layout.

They are found by the names of the model's layers, not by its plan: a reloaded, cloned or refitted model has them too.
"""

from collections.abc import Iterator
from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt

from residual import weights as core
from residual.layers import Network
from residual.weights import Weights

Variable = Any  # a keras.Variable; Keras has no types


def set_weights(model: keras.Model, weights: Weights) -> None:
    """Copies `weights` into the model. ValueError names every missing, extra or misshaped tensor; then nothing is changed."""
    found = variables(model)
    if isinstance(getattr(model, "plan", None), Network):
        core.check(model.plan, weights)
    faults = [f"missing {name}" for name in found if name not in weights] + [f"extra {name}" for name in weights if name not in found]
    for name in found.keys() & weights.keys():
        shape = to_torch(np.empty(found[name].shape)).shape
        if weights[name].shape != shape:
            faults.append(f"{name} has shape {weights[name].shape} instead of {shape}")
    if faults:
        raise ValueError(f"The weights do not fit the model: {'; '.join(sorted(faults))}.")
    for name, variable in found.items():
        variable.assign(from_torch(weights[name]))


def get_weights(model: keras.Model) -> Weights:
    """A copy of every tensor, float32, in the plan's order (without a plan: in the order of the layers)."""
    found, network = variables(model), getattr(model, "plan", None)
    order = core.manifest(network) if isinstance(network, Network) else found
    return {name: value_of(found[name]) for name in order}


def value_of(variable: Variable) -> npt.NDArray[np.float32]:
    """A copy in PyTorch's layout, float32."""
    values = keras.ops.convert_to_numpy(keras.ops.copy(variable))  # a tensor, because NumPy 2 warns of tf.Variable
    return np.array(to_torch(values), np.float32, order="C")


def variables(model: keras.Model) -> dict[str, Variable]:
    """Every variable that is a weight, by PyTorch's name. ValueError for a layer that has none there."""
    return dict(pair for layer in model.layers for pair in _of(layer))


def replicas(model: keras.Model) -> int:
    """Copies that TensorFlow's distribution strategy keeps of the model; 1 without one, and in JAX."""
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def to_torch(value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """H W I O -> O I H W; in x out -> out x in."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def from_torch(value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The inverse of `to_torch`, as a contiguous copy."""
    return np.array(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T, np.float32, order="C")


def _of(layer: keras.layers.Layer) -> Iterator[tuple[str, Variable]]:
    match layer:
        case keras.layers.Conv2D() | keras.layers.Dense():
            yield f"{layer.name}.weight", layer.kernel
            if layer.use_bias:
                yield f"{layer.name}.bias", layer.bias
        case keras.layers.BatchNormalization():
            yield f"{layer.name}.weight", layer.gamma
            yield f"{layer.name}.bias", layer.beta
            yield f"{layer.name}.running_mean", layer.moving_mean
            yield f"{layer.name}.running_var", layer.moving_variance
        case _ if layer.weights:
            kind = type(layer).__name__
            raise ValueError(
                f"The layer {layer.name!r} is a {kind}, which has no tensors in PyTorch's layout; pass the network without it."
            )


__all__ = ["Variable", "from_torch", "get_weights", "replicas", "set_weights", "to_torch", "value_of", "variables"]
