"""What the layer list of a .keras file says that its weights do not: strides, epsilon, picture size.

It is compared with the network that the names stand for, and never made into objects: a layer list can name any code.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from residual.architecture import Architecture
from residual.conversion import keras_names
from residual.layers import Conv
from residual.plan import plan

LAYERS = {
    "InputLayer", "ZeroPadding2D", "Conv2D", "BatchNormalization", "Activation", "ReLU", "MaxPooling2D", "Add",
    "GlobalAveragePooling2D", "Dropout", "Dense",
}  # fmt: skip
Size = tuple[int, int]


def checked(arch: Architecture, config: dict[str, Any], *, version: int, head: str) -> tuple[Architecture, Size]:
    """`arch` with the file's epsilon, and its picture size (224 where it is open).

    ValueError where a layer differs from the Application's.
    """
    try:
        layers = list(_layers(config))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("its config.json is not the layer list of a functional model") from error
    if strange := [f"{name} ({kind})" for kind, name, _ in layers if kind not in LAYERS]:
        raise ValueError(f"it has layers that no ResNet of Keras Applications has: {', '.join(strange[:5])}")
    strides = {layer.name: layer.stride for layer in plan(arch).layers() if isinstance(layer, Conv)}
    epsilons, size = set(), (224, 224)
    for kind, name, told in layers:
        if kind == "Conv2D":
            wanted = strides.get(keras_names.ours(name, version=version, head=head))
            found = (told.get("strides"), told.get("dilation_rate", [1, 1]))
            if wanted is not None and found != ([wanted, wanted], [1, 1]):
                raise ValueError(f"{name} has strides and dilation {found} in it, and {wanted} and 1 in Keras Applications")
        elif kind == "BatchNormalization":
            epsilons.add(told.get("epsilon"))
        elif kind == "Activation" and told.get("activation") != "relu":
            raise ValueError(f"{name} in it is {told.get('activation')!r:.80}, and relu in Keras Applications")
        elif kind == "InputLayer":
            size = _size(told.get("batch_shape"))
    if len(epsilons) != 1 or not isinstance(epsilon := epsilons.pop(), float):
        raise ValueError("its batch norms have different epsilons")
    return replace(arch, bn_epsilon=epsilon), size


def _layers(config: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Class, name and options of each layer."""
    for layer in config["config"]["layers"]:
        kind, name, told = layer["class_name"], layer["config"]["name"], layer["config"]
        if not isinstance(kind, str) or not isinstance(name, str):
            raise TypeError
        yield kind, name, told


def _size(shape: Any) -> Size:
    if isinstance(shape, list) and len(shape) == 4 and all(isinstance(side, int) and 1 <= side <= 1 << 16 for side in shape[1:3]):
        return shape[1], shape[2]
    return 224, 224
