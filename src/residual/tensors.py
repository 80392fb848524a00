"""The names and shapes of a network's tensors. They lie apart from the values, so that counting a network needs no NumPy."""

from residual.layers import Conv, Layer, Linear, Network, Norm, SqueezeExcite


def shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors of one layer, laid out as in PyTorch."""
    name = layer.name
    match layer:
        case Conv():
            found: dict[str, tuple[int, ...]] = {
                f"{name}.weight": (layer.out_channels, layer.in_channels // layer.groups, layer.kernel, layer.kernel)
            }
            return found | ({f"{name}.bias": (layer.out_channels,)} if layer.bias else {})
        case Norm():
            return {f"{name}.{part}": (layer.channels,) for part in ("weight", "bias", "running_mean", "running_var")}
        case Linear():
            found = {f"{name}.weight": (layer.out_features, layer.in_features)}
            return found | ({f"{name}.bias": (layer.out_features,)} if layer.bias else {})
        case SqueezeExcite():
            return {
                f"{name}.fc1.weight": (layer.reduced, layer.channels, 1, 1), f"{name}.fc1.bias": (layer.reduced,),
                f"{name}.fc2.weight": (layer.channels, layer.reduced, 1, 1), f"{name}.fc2.bias": (layer.channels,),
            }  # fmt: skip
    return {}


def manifest(network: Network) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of `network`, in the order of the forward pass."""
    return {name: shape for layer in network.layers() for name, shape in shapes(layer).items()}
