"""Training by Keras' own `compile` and `fit`, with PyTorch's SGD.

Keras' SGD keeps the learning rate inside the velocity and decays weights apart from it: another training once the rate changes.
A second model on the same layers is compiled, so that the user's own stays as it is and can be saved without these classes.
"""

from collections.abc import Iterator
from typing import Any, final

import keras  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from keras import ops

from residual.backends.keras_weights import from_torch, replicas, value_of, variables
from residual.backends.limits import check_recipe
from residual.recipe import Batches, Epoch, EpochEnd, Recipe, learning_rate
from residual.weights import Weights


@final
class TorchSGD(keras.optimizers.SGD):  # type: ignore[misc]
    """g += decay w; v = momentum v + g; w -= rate (g + momentum v) with Nesterov's momentum, else w -= rate v.

    Vectors (batch norm, biases) are decayed only where the recipe says so.
    """

    def __init__(self, rates: keras.optimizers.schedules.LearningRateSchedule, recipe: Recipe) -> None:
        super().__init__(rates, momentum=float(recipe.momentum), nesterov=recipe.nesterov)
        self.decay, self.decay_vectors = recipe.weight_decay, recipe.decay_norm_and_bias

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = ops.cast(learning_rate, variable.dtype)
        if self.decay and (len(variable.shape) > 1 or self.decay_vectors):
            gradient = gradient + self.decay * variable
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            moved = self.momentum * velocity + gradient
            self.assign(velocity, moved)
            gradient = gradient + self.momentum * moved if self.nesterov else moved
        self.assign_sub(variable, rate * gradient)


@final
class RateOfStep(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The recipe's rate at each of `total` steps, as a table."""

    def __init__(self, total: int, recipe: Recipe) -> None:
        self.table = np.asarray([learning_rate(step / total, recipe) for step in range(total)], np.float32)

    def __call__(self, step: Any) -> Any:
        return ops.take(self.table, ops.cast(step, "int32"))

    def get_config(self) -> dict[str, Any]:
        return {"table": self.table.tolist()}


@final
class StepLosses(keras.metrics.Metric):  # type: ignore[misc]
    """The loss of each step of an epoch, which Keras' own running mean does not tell."""

    def __init__(self, steps: int, label_smoothing: float) -> None:
        super().__init__(name="step_losses")
        self.steps, self.label_smoothing = steps, label_smoothing
        self.sums = self.add_variable((steps,), keras.initializers.Zeros(), name="sums")
        self.counts = self.add_variable((steps,), keras.initializers.Zeros(), name="counts")
        self.step = self.add_variable((), keras.initializers.Zeros(), dtype="int32", name="step")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        losses = keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True, label_smoothing=self.label_smoothing)
        here = ops.one_hot(self.step, self.steps, dtype="float32")
        self.sums.assign(self.sums + here * ops.sum(losses))
        self.counts.assign(self.counts + here * ops.sum(ops.ones_like(losses)))
        self.step.assign(self.step + 1)

    def result(self) -> Any:
        return ops.sum(self.sums) / ops.maximum(ops.sum(self.counts), 1)

    def values(self) -> list[float]:
        """Means over the pictures of each step."""
        sums, counts = (value_of(variable) for variable in (self.sums, self.counts))
        return [float(value / count) for value, count in zip(sums, counts, strict=True) if count]


def check(recipe: Recipe) -> None:
    """Nothing, when this backend can train by `recipe`; ValueError names the field that it cannot follow."""
    check_recipe(recipe, keras.config.backend())


def fit(model: keras.Model, batches: Batches, recipe: Recipe, *, velocity: Weights | None = None, first: int = 0) -> Iterator[EpochEnd]:
    """One EpochEnd for each epoch in `batches` from the one numbered `first` on; layers that are not trainable stay as they are.

    `velocity` is where SGD's momentum stands, by tensor name in PyTorch's layout; it is brought up to date before each EpochEnd.
    ValueError, before any step, for a recipe that this backend cannot follow and for a model with several replicas.
    """
    check(recipe)
    if replicas(model) > 1:
        raise ValueError("A model with several replicas cannot be trained by a recipe: use its own compile and fit, or build one without.")
    if not model.trainable_variables:
        raise ValueError("No layer of the model is trainable: set trainable=True on those that are to learn.")
    return _epochs(model, batches, recipe, velocity=velocity, first=first)


def _epochs(model: keras.Model, batches: Batches, recipe: Recipe, *, velocity: Weights | None, first: int) -> Iterator[EpochEnd]:
    trainer, step = keras.Model(model.inputs, model.outputs), sum(map(len, batches[:first]))
    optimizer = TorchSGD(RateOfStep(sum(map(len, batches)), recipe), recipe)
    optimizer.build(trainer.trainable_variables)
    optimizer.iterations.assign(step)
    moving = _momentums(model, trainer, optimizer) if velocity is not None and recipe.momentum else {}
    if velocity:
        _put(moving, velocity)
    losses = StepLosses(max(map(len, batches), default=0), recipe.label_smoothing)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    trainer.compile(optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy"), losses])
    for number, epoch in enumerate(batches[first:], first + 1):
        _reseed(model, recipe.seed, number)
        told = _one_epoch(trainer, epoch)
        steps = tuple(losses.values())
        step += len(steps)
        if velocity is not None:
            velocity.update({name: value_of(variable) for name, variable in moving.items()})
        yield EpochEnd(epoch=number, steps=step, train_loss=sum(steps) / len(steps), train_accuracy=told["accuracy"][0], losses=steps)


def _one_epoch(trainer: keras.Model, epoch: Epoch) -> dict[str, list[float]]:
    """Keras' history of one pass; an error of the batches themselves is raised as it was, not as Keras wraps it."""
    failures: list[Exception] = []
    try:
        fed = _fed(epoch, trainer.output_shape[-1], failures)
        history: dict[str, list[float]] = trainer.fit(fed, steps_per_epoch=len(epoch), shuffle=False, verbose=0).history
    except Exception as error:
        raise failures[0] if failures else error  # noqa: B904
    return history


def _fed(epoch: Epoch, classes: int, failures: list[Exception]) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Batches as Keras takes them, each made when it is asked for: N H W C, and labels as rows of one 1."""
    rows = np.eye(classes, dtype=np.float32)
    try:
        for images, labels in epoch:
            yield np.ascontiguousarray(np.asarray(images, np.float32).transpose(0, 2, 3, 1)), rows[np.asarray(labels)]
    except Exception as error:
        failures.append(error)
        raise


def _momentums(model: keras.Model, trainer: keras.Model, optimizer: TorchSGD) -> dict[str, keras.Variable]:
    """The optimizer's velocities by tensor name."""
    names = {id(variable): name for name, variable in variables(model).items()}
    return {names[id(v)]: momentum for v, momentum in zip(trainer.trainable_variables, optimizer.momentums, strict=True)}


def _put(moving: dict[str, keras.Variable], velocity: Weights) -> None:
    if missing := moving.keys() - velocity.keys():
        raise ValueError(f"The velocity does not fit the model: it has no {', '.join(sorted(missing))}.")
    for name, variable in moving.items():
        variable.assign(from_torch(velocity[name]))


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Makes what is dropped in an epoch a function of seed and epoch, so that a resumed training drops the same."""
    for index, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Dropout) and layer.rate:
            state = np.random.SeedSequence((seed, epoch, index)).generate_state(2) >> 1
            layer.seed_generator.state.assign(state)


__all__ = ["check", "fit"]
