"""The PyTorch backend: a plan becomes an `nn.Module` with torchvision's attributes and tensor names.

No block type is known here: a block runs the layer lists of its plan. torchvision's strict loading works both ways.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual import weights as core
from residual.backends.torch_convolution import Conv2d
from residual.backends.torch_optimizer import optimizer as optimizer
from residual.backends.torch_optimizer import set_learning_rate as set_learning_rate
from residual.layers import (
    AvgPool,
    Block,
    Conv,
    Dropout,
    GlobalAvgPool,
    Layer,
    Linear,
    MaxPool,
    Network,
    Norm,
    PadChannels,
    Relu,
    SqueezeExcite,
)
from residual.recipe import Batches, EpochEnd, Recipe, learning_rate
from residual.weights import Weights


class PaddedShortcut(nn.Module):
    """Option A: every `stride`-th pixel, zeros for the channels that are new. He et al. 2015, section 3.3."""

    def __init__(self, layer: PadChannels) -> None:
        super().__init__()
        self.stride, self.before, self.after = layer.stride, layer.before, layer.after

    def forward(self, x: Tensor) -> Tensor:  # N C H W -> N before+C+after H/s W/s
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class SqueezeExcitation(nn.Module):
    """x * sigmoid(fc2(relu(fc1(mean(x))))). Hu et al. 2018, equations 2 to 4."""

    def __init__(self, layer: SqueezeExcite) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(layer.channels, layer.reduced, 1)
        self.fc2 = nn.Conv2d(layer.reduced, layer.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class ResidualBlock(nn.Module):
    """Any block of any plan; its children are named as torchvision names them."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.before = _children(self, block.before, block.name)
        self.branch = _children(self, block.branch, block.name)
        self.shortcut = None if block.shortcut is None else _children(self, block.shortcut, block.name)
        self.after = _children(self, block.after, block.name, fresh=True)
        self.drop_path = block.drop_path

    def forward(self, x: Tensor) -> Tensor:  # N C H W -> N D H/s W/s
        """after(branch(before(x)) + shortcut(before(x))); a plain network has no shortcut. He et al. 2015, equations 1 and 2."""
        x = self.run(self.before, x)
        y = self.run(self.branch, x)
        if self.shortcut is not None:
            if self.drop_path and self.training:
                kept = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop_path
                y = y * kept.to(y.dtype) / (1 - self.drop_path)
            y = y + self.run(self.shortcut, x)
        return self.run(self.after, y)

    def run(self, names: tuple[str, ...], x: Tensor) -> Tensor:
        for name in names:
            x = self._modules[name](x)  # type: ignore[misc]
        return x


class ResidualNet(nn.Module):
    """A residual network; `plan` is what it was built from. Images N C H W in, logits N x classes out.

    `_frozen` names the layers that stay in evaluation mode in training too.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.plan = network
        self._frozen: tuple[str, ...] = ()
        stem = _children(self, network.stem, "")
        for stage in network.stages:
            self.add_module(stage.name, nn.Sequential(*(ResidualBlock(block) for block in stage.blocks)))
        head = _children(self, network.head, "")
        self.order = (*stem, *(stage.name for stage in network.stages), *head)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = self._modules[name](x.flatten(1) if name == "fc" else x)  # type: ignore[misc]
        return x

    def train(self, mode: bool = True) -> "ResidualNet":
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).eval()
        return self


Model = ResidualNet


def build(network: Network, seed: int = 0, *, weights: Weights | None = None) -> ResidualNet:
    """A native model with `weights`, or the core's first values for `seed`, on the CPU, in evaluation mode as a loaded model is."""
    values = core.initialise(network, seed) if weights is None else weights
    core.check(network, values)
    with torch.device("meta"):
        model = ResidualNet(network)
    counters = {
        name: torch.zeros(value.shape, dtype=value.dtype, device="cpu") for name, value in model.state_dict().items() if name not in values
    }
    copies = {name: torch.from_numpy(np.array(value, np.float32, order="C")) for name, value in values.items()}
    model.load_state_dict(counters | copies, assign=True)
    return model.eval()


def freeze_stem(model: ResidualNet) -> None:
    """From now on training leaves the first convolution and the batch norm right behind it as they are, its statistics too."""
    first = next(index for index, layer in enumerate(model.plan.stem) if isinstance(layer, Conv))
    conv, *norm = model.plan.stem[first : first + 2]
    model._frozen = (conv.name, *(layer.name for layer in norm if isinstance(layer, Norm)))
    for name in model._frozen:
        model.get_submodule(name).requires_grad_(False)
    model.train(model.training)


def set_weights(model: ResidualNet, weights: Weights) -> None:
    """Copies `weights` into the model, whatever device it is on. ValueError names every missing, extra or misshaped tensor."""
    core.check(model.plan, weights)
    state = model.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))


def get_weights(model: ResidualNet) -> Weights:
    """A copy of every tensor, float32, in the plan's order."""
    state = model.state_dict()
    return {name: state[name].detach().to("cpu", torch.float32, copy=True).contiguous().numpy() for name in core.manifest(model.plan)}


def forward(model: ResidualNet, images: npt.NDArray[np.float32], taps: Collection[str] = ()) -> dict[str, npt.NDArray[np.float32]]:
    """ "logits" and every layer, block or stage named in `taps`, in evaluation mode; `images` is N C H W float32.

    ValueError for a tap that does not exist.
    """
    parts, found, hooks = dict(model.named_modules()), dict[str, Tensor](), []
    for tap in taps:
        if tap not in parts:
            raise ValueError(f"The network has no layer {tap!r}; its layers: {', '.join(model.plan.names())}.")
    training, device = model.training, next(model.parameters()).device
    try:
        for tap in taps:
            hooks.append(parts[tap].register_forward_hook(_keeper(found, tap)))
        model.eval()
        with torch.inference_mode():
            found["logits"] = model(torch.as_tensor(images, dtype=torch.float32, device=device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {name: value.float().cpu().numpy().copy() for name, value in found.items()}


def fit(model: ResidualNet, batches: Batches, recipe: Recipe, *, velocity: Weights | None = None, first: int = 0) -> Iterator[EpochEnd]:
    """One EpochEnd for each epoch in `batches` from the one numbered `first` on.

    Float32 steps of the recipe's optimizer, schedule and label smoothing; `training.loop` adds all the rest.
    `velocity` is where SGD's momentum stands, by tensor name; it is brought up to date before each EpochEnd.
    """
    device, chosen = next(model.parameters()).device, optimizer(model, recipe)
    names = {parameter: name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for parameter, name in names.items():
        if velocity:
            chosen.state[parameter]["momentum_buffer"] = torch.from_numpy(velocity[name]).to(device, copy=True)
    total, step = sum(map(len, batches)), sum(map(len, batches[:first]))
    for number, epoch in enumerate(batches[first:], first + 1):
        model.train()
        losses, right, count = list[Tensor](), 0, 0
        for images, labels in epoch:
            set_learning_rate(chosen, learning_rate(step / total, recipe))
            x, y = torch.as_tensor(images, device=device), torch.as_tensor(labels, device=device)
            chosen.zero_grad()
            logits = model(x)
            loss = F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            chosen.step()
            losses.append(loss.detach())
            right, count, step = right + int((logits.argmax(1) == y).sum()), count + len(y), step + 1
        model.eval()
        if velocity is not None and recipe.momentum:
            velocity.update({name: chosen.state[p]["momentum_buffer"].cpu().numpy().copy() for p, name in names.items()})
        steps = tuple(float(loss) for loss in losses)
        yield EpochEnd(epoch=number, steps=step, train_loss=sum(steps) / len(steps), train_accuracy=right / count, losses=steps)


def _keeper(found: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        found[name] = output.clone()

    return keep


def _children(parent: nn.Module, layers: tuple[Layer, ...], prefix: str, *, fresh: bool = False) -> tuple[str, ...]:
    """Adds `layers` to `parent` under their own names without `prefix`; dotted names (`downsample.0`) share one Sequential."""
    grouped: dict[str, OrderedDict[str, nn.Module]] = {}
    for index, layer in enumerate(layers):
        name = layer.name.removeprefix(f"{prefix}.") if prefix else layer.name
        first, _, rest = name.partition(".")
        grouped.setdefault(first, OrderedDict())[rest] = _module(layer, fresh=fresh or index > 0)
    for first, modules in grouped.items():
        parent.add_module(first, modules[""] if "" in modules else nn.Sequential(modules))
    return tuple(grouped)


def _module(layer: Layer, fresh: bool) -> nn.Module:
    """The module of one layer; `fresh` says that nobody else needs its input, so that a ReLU may work in place."""
    match layer:
        case Conv():
            return Conv2d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel,
                layer.stride,
                layer.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case Norm():
            return nn.BatchNorm2d(layer.channels, layer.epsilon, layer.momentum)
        case Relu():
            return nn.ReLU(inplace=fresh)
        case MaxPool():
            if not layer.zero_padding:
                return nn.MaxPool2d(layer.kernel, layer.stride, layer.padding)
            return nn.Sequential(nn.ZeroPad2d(layer.padding), nn.MaxPool2d(layer.kernel, layer.stride))
        case AvgPool():
            return nn.AvgPool2d(layer.kernel, layer.stride, ceil_mode=True, count_include_pad=False)
        case GlobalAvgPool():
            return nn.AdaptiveAvgPool2d(1)
        case Linear():
            return nn.Linear(layer.in_features, layer.out_features, layer.bias)
        case PadChannels():
            return PaddedShortcut(layer)
        case SqueezeExcite():
            return SqueezeExcitation(layer)
        case Dropout():
            return nn.Dropout(layer.rate)
