"""Networks small enough to compute by the reference, and weights that leave no tensor at its default value."""

from dataclasses import replace

import numpy as np

from residual.architecture import Architecture
from residual.layers import Network
from residual.variants import VARIANTS
from residual.weights import Weights, initialise

SMALL = Architecture(depths=(1, 2), inner_widths=(4, 7), out_widths=(4, 7), strides=(1, 2), stem="cifar", stem_width=4, num_classes=5)

# Nets of other libraries that differ from every variant: Keras Applications, MXNet Gluon, timm.
LOOKALIKES = {
    "keras_resnet50v2": replace(
        VARIANTS["preact_resnet50"], preact_start="block", stride_block="last", strides=(2, 2, 2, 1), pool_padding="zero", conv_bias=True,
        bn_epsilon=1.001e-5,
    ),
    "keras_resnet50": replace(VARIANTS["resnet50_v1"], conv_bias=True, bn_epsilon=1.001e-5),
    "gluon_resnet50_v2": replace(VARIANTS["preact_resnet50"], input_norm=True, preact_start="both"),
    "timm_resnetv2_50": replace(VARIANTS["preact_resnet50"], preact_start="block"),
}  # fmt: skip


def scaled_down(arch: Architecture) -> Architecture:
    """`arch` with at most two blocks a stage, an eighth of its channels and seven classes; all else stays."""
    return replace(
        arch,
        depths=tuple(min(depth, 2) for depth in arch.depths),
        inner_widths=tuple(max(width // 8, 2) for width in arch.inner_widths),
        out_widths=tuple(max(width // 8, 2) for width in arch.out_widths),
        stem_width=max(arch.stem_width // 8, 2),
        groups=max(arch.groups // 8, 1),
        se_reduction=min(arch.se_reduction, 4),
        num_classes=7,
    )


def _distinct() -> dict[str, Architecture]:
    found: dict[Architecture, str] = {}
    for name, arch in (VARIANTS | LOOKALIKES).items():
        found.setdefault(scaled_down(arch), name)
    return {name: arch for arch, name in found.items()}


# Every variant and lookalike scaled down, by name. Those that differ in depth or width alone become the same small net, which stands
# here once, under the first one's name.
DISTINCT = _distinct()


def random_weights(network: Network, seed: int = 0) -> Weights:
    """Every tensor random: gammas and running variances around 1, the rest around 0."""
    stream = np.random.default_rng(seed)
    found = initialise(network, seed)
    for name, value in found.items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            found[name] = stream.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif value.ndim == 1:
            found[name] = (0.2 * stream.standard_normal(value.shape)).astype(np.float32)
    return found


def images(network: Network, height: int, width: int, count: int = 2) -> np.ndarray:
    """Standard normal pictures, N C H W float32."""
    stream = np.random.default_rng(99)
    return stream.standard_normal((count, network.in_channels, height, width), np.float32)
