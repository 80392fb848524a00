"""Losses of a PyTorch network at weights that move along a few directions: a point costs one addition and one forward pass.

The surprising thing: batch norm with its running statistics kept is a linear map of the convolution before it. So as long as directions
leave batch norm alone, folded(center + a x + b y) is folded(center) + a folded(x) + b folded(y), exactly, and no batch norm is ever run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends.torch import ResidualNet
from residual.layers import Conv, Layer, Network, Norm
from residual.weights import Weights, check, shapes

Statistics = Literal["inference", "batch"]
BATCH = 250  # pictures that share their statistics under "batch"
_IN_CACHE = 2**16  # pixels of pictures that go through a network together on a CPU, so that what they become stays in its cache


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a tensor of the folded network lies in the flat vector, and the norm it was folded with."""

    name: str
    start: int
    shape: tuple[int, ...]
    norm: Norm | None


class MovingNet:
    """One network, one set of pictures, any weights in the space that `direction` vectors span around `center`.

    `images` is N C H W float32 as the network sees them; they are kept in memory, on `device` (the GPU where there is one). Batch norm
    takes its running statistics ("inference"), or those of each batch of about 250 pictures ("batch"), the same batches at every point.

    Raises:
        ValueError: `center` does not fit the network, or the labels do not fit the pictures or the classes.
    """

    def __init__(
        self, network: Network, center: Weights, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], *,
        statistics: Statistics = "inference", device: str = "",
    ) -> None:  # fmt: skip
        check(network, center)
        _check_pictures(network, images, labels)
        self._network, self._center, self._device = (
            network,
            center,
            torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
        )
        folded, norms = _without_norms(network) if statistics == "inference" else (network, {})
        self._places = _places(folded, norms)
        self._origin = self._flat(center, origin=True)
        self._point = self._origin.clone()
        self._model = self._built(folded, statistics)
        self._images = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        self._labels = torch.from_numpy(labels).to(self._device)
        pixels, most = images.shape[2] * images.shape[3], _IN_CACHE if self._device.type == "cpu" else _IN_CACHE * 16
        size = BATCH if statistics == "batch" else max(8, most // pixels)
        self._parts = -(-len(images) // size)

    def direction(self, weights: Weights) -> Tensor:
        """`weights` as a direction to move along. ValueError where it moves batch norm, which is folded and must stand still."""
        check(self._network, weights)
        still = [name for name in weights if name not in {place.name for place in self._places}]
        for name in still:
            if weights[name].any():
                raise ValueError(f"The direction moves {name}, but batch norm must stand still here: set its tensors to 0.")
        return self._flat(weights, origin=False)

    def losses(self, steps: Sequence[float], directions: Sequence[Tensor]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Cross-entropy of each picture and whether it is classified wrongly, at center + the sum of steps times directions."""
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            self._point.copy_(self._origin)
            for step, direction in zip(steps, directions, strict=True):
                self._point.add_(direction, alpha=step)
            logits = torch.cat([self._model(part) for part in self._images.tensor_split(self._parts)])
            losses = F.cross_entropy(logits, self._labels, reduction="none")
            wrong = logits.argmax(1) != self._labels
        return losses.double().cpu().numpy(), wrong.cpu().numpy()

    def _flat(self, weights: Weights, *, origin: bool) -> Tensor:
        """The folded tensors one after another, kernels in the order of channels-last memory; folded in float64."""
        last = self._places[-1]
        flat = np.empty(last.start + math.prod(last.shape), np.float32)
        for place in self._places:
            value = self._folded(place, weights, origin=origin)
            if value.ndim == 4:
                value = value.transpose(0, 2, 3, 1)
            flat[place.start : place.start + value.size] = value.ravel()
        return torch.from_numpy(flat).to(self._device)

    def _folded(self, place: _Place, weights: Weights, *, origin: bool) -> npt.NDArray[np.float64]:
        """One tensor of the folded network: w * s, and for a bias (bias - mean) * s + beta, where a direction has no mean and beta."""
        norm, center = place.norm, self._center
        value = weights[place.name].astype(np.float64) if place.name in weights else np.zeros(place.shape)
        if norm is None:
            return value
        scale = center[f"{norm.name}.weight"] / np.sqrt(center[f"{norm.name}.running_var"].astype(np.float64) + norm.epsilon)
        if len(place.shape) > 1:
            return value * scale.reshape(-1, *[1] * (value.ndim - 1))
        if not origin:
            return value * scale
        return (value - center[f"{norm.name}.running_mean"]) * scale + center[f"{norm.name}.bias"]

    def _built(self, folded: Network, statistics: Statistics) -> ResidualNet:
        """The folded network on views of `_point`, so that to move the point is to move the network."""
        with torch.device("meta"):
            model = ResidualNet(folded)
        places = {place.name: place for place in self._places}
        for prefix, module in model.named_modules():
            for name in dict(module.named_parameters(recurse=False)):
                value = self._value(places.get(f"{prefix}.{name}"), f"{prefix}.{name}")
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
            if isinstance(module, nn.BatchNorm2d):
                for name in ("running_mean", "running_var"):  # without them PyTorch takes the batch's own, in evaluation mode too
                    module.register_buffer(name, None if statistics == "batch" else self._value(None, f"{prefix}.{name}"))
                module.num_batches_tracked = None
        return model.eval()

    def _value(self, place: _Place | None, name: str) -> Tensor:
        """A tensor of the model: a view of the point, or what belongs to a batch norm, a copy of the center's."""
        if place is None:
            return torch.from_numpy(self._center[name].copy()).to(self._device)
        values = self._point[place.start : place.start + math.prod(place.shape)]
        if len(place.shape) != 4:
            return values.view(place.shape)
        out, inner, height, width = place.shape
        return values.view(out, height, width, inner).permute(0, 3, 1, 2)


def _without_norms(network: Network) -> tuple[Network, dict[str, Norm]]:
    """The network without the norms that follow a convolution, whose bias takes their place, and convolution -> its norm."""
    norms: dict[str, Norm] = {}

    def folded(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        kept: list[Layer] = []
        for layer in layers:
            last = kept[-1] if kept else None
            if isinstance(layer, Norm) and isinstance(last, Conv) and last.name not in norms:
                norms[last.name], kept[-1] = layer, replace(last, bias=True)
            else:
                kept.append(layer)
        return tuple(kept)

    stages = tuple(
        replace(stage, blocks=tuple(
            replace(
                block, before=folded(block.before), branch=folded(block.branch), after=folded(block.after),
                shortcut=None if block.shortcut is None else folded(block.shortcut),
            )
            for block in stage.blocks
        ))
        for stage in network.stages
    )  # fmt: skip
    return replace(network, stem=folded(network.stem), stages=stages, head=folded(network.head)), norms


def _places(folded: Network, norms: dict[str, Norm]) -> list[_Place]:
    """The tensors of all layers but norms, one after another."""
    found, start = list[_Place](), 0
    for layer in folded.layers():
        if not isinstance(layer, Norm):
            for name, shape in shapes(layer).items():
                found.append(_Place(name=name, start=start, shape=shape, norm=norms.get(layer.name)))
                start += math.prod(shape)
    return found


def _check_pictures(network: Network, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    if images.ndim != 4 or images.shape[1] != network.in_channels or not len(images):
        raise ValueError(f"The pictures have shape {images.shape}, but the network takes N x {network.in_channels} x height x width.")
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= network.num_classes:
        raise ValueError(f"{len(images)} pictures need as many labels from 0 to {network.num_classes - 1}.")
