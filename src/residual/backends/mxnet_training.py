"""SGD and the loss for Gluon, in PyTorch's convention. MXNet's own SGD keeps the learning rate inside the velocity.

The two differ as soon as the rate changes.
"""

from typing import Any

import mxnet as mx
from mxnet import gluon, nd

from residual.recipe import Recipe


class SGD(mx.optimizer.Optimizer):
    """g = gradient + decay * w; v = momentum * v + g; w -= rate * v, or with Nesterov's momentum rate * (g + momentum * v).

    Vectors (batch norm and biases) are not decayed unless the recipe says so. `velocity` holds v by the parameter's own name and
    is changed in place. Sutskever et al. 2013, section 2.
    """

    def __init__(self, recipe: Recipe, velocity: dict[str, Any]) -> None:
        super().__init__(learning_rate=recipe.learning_rate)
        self.recipe, self.velocity = recipe, velocity

    def create_state(self, index: int, _weight: Any) -> Any:
        return self.velocity[self.param_dict[index].name]

    def update(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        self._update_count(index)
        recipe, step = self.recipe, grad
        if recipe.weight_decay and (weight.ndim > 1 or recipe.decay_norm_and_bias):
            step = step + recipe.weight_decay * weight
        if recipe.momentum:
            state *= recipe.momentum
            state += step
            step = step + recipe.momentum * state if recipe.nesterov else state
        weight -= self.learning_rate * step


def cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """The mean over the batch, one number; `labels` are N class numbers. Szegedy et al. 2016, section 7."""
    classes = logits.shape[1]
    targets = nd.one_hot(labels, classes, on_value=1 - smoothing + smoothing / classes, off_value=smoothing / classes)
    return gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)(logits, targets).mean()
