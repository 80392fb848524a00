"""What studies ask a PyTorch model for beyond its outputs: gradients, and batch norm's statistics of given pictures.

The surprising thing: torch is not imported here. A model's own parameters make the tensors, so that reading a result needs no framework.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from residual.backends import open_backend
from residual.layers import Network
from residual.weights import Weights

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def weight_gradients(network: Network, weights: Weights, images: Images, labels: Labels) -> Weights:
    """The gradient of the mean cross-entropy for every trained tensor, batch norm in training mode (batch statistics).

    Dropout and stochastic depth are off.
    """
    model = built(network, weights)
    for module in model.modules():
        if type(module).__name__ == "BatchNorm2d":
            module.train()
    chances = model(_tensor(model, images)).log_softmax(1)
    chances.gather(1, _tensor(model, labels).long()[:, None]).mean().neg().backward()
    return {name: parameter.grad.cpu().numpy().copy() for name, parameter in model.named_parameters()}


def input_gradients(network: Network, weights: Weights, images: Images, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """N x C H W: for each picture the gradient of `output` (one number per class) times its logits, batch norm in inference mode."""
    model = built(network, weights)
    x = _tensor(model, images).requires_grad_()
    (model(x) @ _tensor(model, output)).sum().backward()
    found: npt.NDArray[np.float64] = x.grad.cpu().numpy().reshape(len(images), -1).astype(np.float64)
    return found


def settled(network: Network, weights: Weights, images: Images) -> Weights:
    """The weights with batch norm's running statistics replaced by those of `images`, as training mode computes them in one pass."""
    model = built(network, weights)
    for module in model.modules():
        if type(module).__name__ == "BatchNorm2d":
            module.train()
            module.momentum = 1.0
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model(_tensor(model, images))
    found: Weights = open_backend("torch").get_weights(model)
    return found


def built(network: Network, weights: Weights) -> Any:
    """The PyTorch model, in evaluation mode, on the GPU where there is one."""
    from residual.training import machine

    backend = open_backend("torch")
    model = backend.build(network, weights=weights)
    return model.to(machine.machine().device)


def _tensor(model: Any, values: npt.NDArray[Any]) -> Any:
    return next(model.parameters()).new_tensor(values)


__all__ = ["built", "input_gradients", "settled", "weight_gradients"]
