"""The reference against convolutions and pools computed by hand, and against SciPy."""

import numpy as np
import pytest
from scipy import signal

from residual.plan import plan
from residual.reference import convolve, forward, max_pool
from residual.variants import architecture
from residual.weights import initialise
from tests.nets import SMALL, images, random_weights

ONES = np.ones((1, 1, 3, 3))


def counting(height: int, width: int) -> np.ndarray:
    return np.arange(height * width, dtype=np.float64).reshape(1, 1, height, width)


def test_convolution_by_hand_even_side() -> None:
    """Sums of 3x3 windows of 0..15, zero padded; at stride 2 the windows are centred on 0, 2, 8, 10."""
    assert convolve(counting(4, 4), ONES, stride=2, padding=1, groups=1).tolist() == [[[[10, 24], [51, 90]]]]


def test_convolution_by_hand_odd_side() -> None:
    assert convolve(counting(3, 3), ONES, stride=2, padding=1, groups=1).tolist() == [[[[8, 12], [20, 24]]]]


def test_convolution_without_padding_and_with_an_even_kernel() -> None:
    assert convolve(counting(3, 3), np.ones((1, 1, 2, 2)), stride=1, padding=0, groups=1).tolist() == [[[[8, 12], [20, 24]]]]


def test_convolution_is_correlation() -> None:
    """The kernel is not mirrored."""
    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 1, 2] = 1
    assert convolve(counting(2, 3), kernel, stride=1, padding=1, groups=1).tolist() == [[[[1, 2, 0], [4, 5, 0]]]]


def test_groups_see_their_own_channels() -> None:
    x = np.stack([counting(2, 2)[0, 0] + 10 * c for c in range(4)])[None]
    weight = np.asarray([[1, 0], [0, 1], [2, 0], [0, 3]], np.float64).reshape(4, 2, 1, 1)
    found = convolve(x, weight, stride=1, padding=0, groups=2)[0, :, 0, 0]
    assert found.tolist() == [0, 10, 40, 90]


@pytest.mark.parametrize(("height", "width"), [(6, 7), (5, 4)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_is_scipys(height: int, width: int, stride: int) -> None:
    stream = np.random.default_rng(0)
    x, weight = stream.standard_normal((2, 3, height, width)), stream.standard_normal((4, 3, 3, 3))
    found = convolve(x, weight, stride=stride, padding=1, groups=1)
    for n in range(2):
        for o in range(4):
            same = sum(signal.correlate2d(x[n, c], weight[o, c], mode="same") for c in range(3))
            np.testing.assert_allclose(found[n, o], same[::stride, ::stride], rtol=1e-12, atol=1e-12)


def test_max_pool_pads_with_minus_infinity() -> None:
    assert max_pool(counting(4, 4) - 100, 3, 2, 1).tolist() == [[[[-95, -93], [-87, -85]]]]
    assert max_pool(counting(3, 3) - 100, 3, 2, 1).tolist() == [[[[-96, -95], [-93, -92]]]]


def test_the_average_of_an_uneven_window_counts_what_is_there() -> None:
    arch = architecture("resnet50d", depths=(1,), inner_widths=(2,), out_widths=(2,), strides=(2,), stem="cifar", stem_width=2)
    network = plan(arch)
    found = forward(network, random_weights(network), images(network, 3, 3), ["relu", "layer1.0.downsample.0"])
    x, pooled = found["relu"], found["layer1.0.downsample.0"]
    np.testing.assert_allclose(pooled[:, :, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    np.testing.assert_allclose(pooled[:, :, 1, 1], x[:, :, 2, 2])


def test_a_whole_network_by_hand() -> None:
    """One channel, one pixel, every 3x3 kernel 1 in its middle: the network is a chain of scalars."""
    arch = architecture(
        "cifar_resnet8", depths=(1,), inner_widths=(1,), out_widths=(1,), strides=(1,), stem_width=1, in_channels=1, num_classes=2
    )
    network = plan(arch)
    weights = initialise(network)
    for name, value in weights.items():
        if name.endswith("weight") and value.ndim == 4:
            value[:] = 0
            value[..., 1, 1] = {"conv1.weight": 2, "layer1.0.conv1.weight": -1, "layer1.0.conv2.weight": 3}[name]
    weights["bn1.running_mean"][:], weights["bn1.running_var"][:] = 1, 4 - 1e-5  # (2 * 5 - 1) / 2 = 4.5
    weights["layer1.0.bn1.bias"][:] = 6  # relu(-4.5 + 6) = 1.5
    weights["layer1.0.bn2.weight"][:] = -0.5  # -0.5 * 4.5 = -2.25, and relu(-2.25 + 4.5) = 2.25
    weights["fc.weight"][:], weights["fc.bias"][:] = [[1], [-2]], [0, 1]
    for layer in ("layer1.0.bn1", "layer1.0.bn2"):
        weights[f"{layer}.running_var"][:] = 1 - 1e-5
    found = forward(network, weights, np.full((1, 1, 1, 1), 5.0), ["layer1.0", "relu"])
    assert found["relu"].item() == pytest.approx(4.5, abs=1e-6)
    assert found["layer1.0"].item() == pytest.approx(2.25, abs=1e-6)
    assert found["logits"].tolist()[0] == pytest.approx([2.25, -3.5], abs=1e-6)


def test_a_plain_network_has_no_shortcut() -> None:
    options = {kind: plan(architecture("cifar_plain8", shortcut=kind, num_classes=3)) for kind in ("none", "pad")}
    weights = random_weights(options["none"])
    x = images(options["none"], 5, 6)
    plain, residual = (forward(network, weights, x)["logits"] for network in options.values())
    assert np.abs(plain - residual).max() > 0.1


def test_wrong_tap_and_wrong_weights() -> None:
    network = plan(SMALL)
    weights = initialise(network)
    with pytest.raises(ValueError, match=r"no layer 'layer9'; its layers: conv1, bn1"):
        forward(network, weights, images(network, 4, 4), ["layer9"])
    del weights["fc.bias"]
    with pytest.raises(ValueError, match=r"missing fc\.bias \(5,\)"):
        forward(network, weights, images(network, 4, 4))
