"""What a Keras user does to a model: look at it, save, clone, fine-tune and distribute it, or compile it with JAX."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residual.architecture import Architecture, changed
from residual.plan import plan
from residual.recipe import Recipe
from residual.weights import initialise
from tests.backends.on_keras import NAME, TOLERANCE, equal, fresh_python, model_of, opened
from tests.nets import SMALL, images, random_weights

# Keras' own, while it saves
COPIES = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
# every layer that is more than one of Keras': groups, squeezing, option A, minus infinity and zeros around a pool, uneven means
KINDS = {
    "groups": changed(SMALL, {"inner_widths": (4, 8), "out_widths": (4, 8), "groups": 4, "se_reduction": 2, "drop_path": 0.5}),
    "pad": changed(SMALL, {"shortcut": "pad", "stem": "imagenet", "dropout": 0.5}),
    "pool": changed(SMALL, {"shortcut_pool": True, "strides": (1, 3), "order": "preact", "stem": "deep", "pool_padding": "zero"}),
}
RELOAD = """
import sys, keras, numpy as np
folder = sys.argv[1]
for name in sys.argv[2:]:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    np.save(f"{folder}/{name}.found.npy", model.predict_on_batch(np.load(f"{folder}/{name}.npy")))
assert "residual" not in sys.modules
"""
MIRRORED = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from residual.recipe import Recipe
from tests.backends.on_keras import model_of, opened
from tests.nets import images

def trained():
    model = model_of()
    for layer in model.layers:  # batch statistics are each replica's own, so only without them are the two alike
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = images(model.plan, 9, 12, count=16)
    model.fit(x.transpose(0, 2, 3, 1), np.arange(16) % 5, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model, opened().get_weights(model), opened().forward(model, x)["logits"], x

alone, wanted, logits, x = trained()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    twice, found, others, _ = trained()
assert twice.distribute_strategy.num_replicas_in_sync == 2
before = opened().get_weights(model_of())
assert any((wanted[name] != value).any() for name, value in before.items())
for name, value in wanted.items():
    assert np.abs(found[name] - value).max() <= 1e-5 * max(np.abs(value).max(), 1), name
assert others.shape == logits.shape
assert np.abs(others - logits).max() <= 1e-4 * np.abs(logits).max()
opened().set_weights(twice, before)
assert all((opened().get_weights(twice)[name] == value).all() for name, value in before.items())
try:
    opened().fit(twice, [[(x, np.arange(16) % 5)]], Recipe())
except ValueError as error:
    print(error)
"""


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max())


def rows(x: np.ndarray) -> np.ndarray:
    """N H W C, as Keras takes pictures."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def test_summary_and_number_of_parameters() -> None:
    model, lines = model_of(), list[str]()
    model.summary(print_fn=lines.append)
    assert all(name in "\n".join(lines) for name in ("layer2.0.conv1", "layer2.0.add", "fc"))
    weights = random_weights(plan(SMALL))
    assert model.count_params() == sum(value.size for value in weights.values())
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trained == sum(value.size for name, value in weights.items() if "running" not in name)


@pytest.mark.filterwarnings(COPIES)
def test_a_saved_model_loads_where_this_package_is_not(tmp_path: Path) -> None:
    """Also one that was trained by a recipe."""
    models = {name: model_of(arch) for name, arch in KINDS.items()}
    x = images(plan(SMALL), 15, 18, 4)
    list(opened().fit(models["pad"], [[(x, np.arange(4))]], Recipe(warmup=0.0)))
    for name, model in models.items():
        np.save(tmp_path / f"{name}.npy", rows(x))
        model.save(tmp_path / f"{name}.keras")
    fresh_python(RELOAD, str(tmp_path), *KINDS, package=False)
    for name, model in models.items():
        assert close(np.load(tmp_path / f"{name}.found.npy"), opened().forward(model, x)["logits"])


@pytest.mark.filterwarnings(COPIES)
def test_a_reloaded_model_is_known_by_its_layers(tmp_path: Path) -> None:
    import keras

    model, backend, x = model_of(), opened(), images(plan(SMALL), 9, 12)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    weights = backend.get_weights(again)
    assert all((weights[name] == value).all() for name, value in backend.get_weights(model).items())
    assert close(backend.forward(again, x, ["layer1.0.relu"])["layer1.0.relu"], backend.forward(model, x, ["layer1"])["layer1"])
    with pytest.raises(ValueError, match="no layer 'layer1'; its layers: images, conv1, "):
        backend.forward(again, x, ["layer1"])
    weights["fc.bias"], weights["more"] = np.zeros(6, np.float32), weights.pop("bn1.bias")
    with pytest.raises(ValueError, match=r"extra more; fc.bias has shape \(6,\) instead of \(5,\); missing bn1.bias"):
        backend.set_weights(again, weights)


@pytest.mark.parametrize("scheme", ["he", "xavier"])
def test_a_clone_draws_from_the_same_distributions(scheme: str) -> None:
    import keras

    arch = changed(SMALL, {
        "depths": (2,), "inner_widths": (24,), "out_widths": (24,), "strides": (1,), "stem_width": 24, "num_classes": 100,
        "initialisation": scheme, "conv_bias": True, "se_reduction": 2, "zero_last_gamma": True,
    })  # fmt: skip
    keras.utils.set_random_seed(0)  # twelve numbers of a bias are all in the lower half of their range once in 4,000 draws
    model, backend = opened().build(plan(arch)), opened()
    twin = keras.models.clone_model(model)
    wanted, found = initialise(plan(arch)), backend.get_weights(twin)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if np.ptp(value) == 0:
            assert (found[key] == value).all(), key
        else:
            assert (found[key] != value).any(), key
        if value.size > 2000:  # a uniform draw of that many comes close to its bound, a normal one's largest differs
            bounded = scheme == "xavier" or key == "fc.weight"
            assert found[key].std() == pytest.approx(value.std(), rel=0.05), key
            assert np.abs(found[key]).max() == pytest.approx(np.abs(value).max(), rel=0.01 if bounded else 0.3), key
        elif key.endswith("bias") and np.ptp(value):
            assert np.abs(found[key]).max() == pytest.approx(np.abs(value).max(), rel=0.4), key
    backend.set_weights(twin, backend.get_weights(model))
    assert equal(backend.get_weights(twin), backend.get_weights(model))


def test_fine_tuning_a_new_head_on_frozen_batch_norm() -> None:
    import keras

    model, backend = model_of(), opened()
    model.trainable = False
    before = backend.get_weights(model)
    head = keras.layers.Dense(3, name="head")(model.get_layer("fc.flatten").output)
    tuned = keras.Model(model.input, head)
    tuned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = rows(images(model.plan, 9, 12, 6))
    tuned.fit(x, np.arange(6) % 3, epochs=2, verbose=0)
    after = backend.get_weights(tuned)
    assert after.keys() - before.keys() == {"head.weight", "head.bias"}
    assert after["head.bias"].any()
    assert all((after[name] == value).all() for name, value in before.items() if name in after)


def test_a_layer_without_pytorch_s_layout_is_named() -> None:
    import keras

    model = model_of()
    inner = keras.Sequential([model, keras.layers.LayerNormalization(name="last")])
    with pytest.raises(ValueError, match=r"The layer 'residual_net' is a Functional, which has no tensors"):
        opened().get_weights(inner)


@pytest.mark.skipif(NAME != "tensorflow", reason="distribution strategies are TensorFlow's")
def test_two_replicas_train_as_one() -> None:
    pytest.importorskip("tensorflow")
    assert fresh_python(MIRRORED) == (
        "A model with several replicas cannot be trained by a recipe: use its own compile and fit, or build one without.\n"
    )


@pytest.mark.skipif(NAME != "jax", reason="jax.jit is JAX's")
@pytest.mark.parametrize("kind", KINDS)
def test_jit_of_a_stateless_call(kind: str) -> None:
    jax = pytest.importorskip("jax")
    arch: Architecture = KINDS[kind]
    model, x = model_of(arch), images(plan(arch), 15, 18)

    @jax.jit
    def logits(trained: Any, others: Any, pictures: Any) -> Any:
        return model.stateless_call(trained, others, pictures, training=False)[0]

    trained, others = ([variable.value for variable in group] for group in (model.trainable_variables, model.non_trainable_variables))
    found = np.asarray(logits(trained, others, rows(x)))
    assert close(found, opened().forward(model, x, ["layer1"])["logits"])
    assert equal(opened().get_weights(model), random_weights(plan(arch)))
