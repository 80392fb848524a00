"""The fast form of a trained PyTorch model: one function that only infers, the plan with batch norm folded into the convolutions.

It is a snapshot beside the model, which does not change. On a CPU a large batch goes through in small parts, so that what one layer puts
out is still in the cache when the next one reads it: all at once is slower, not faster.
"""

from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as hooks

from residual.backends.allocator import blocks_apart
from residual.backends.torch import ResidualNet
from residual.backends.torch_fused import Convolution, fused_works
from residual.backends.torch_parts import LAST, Form, Parts, Step, parts, through
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


def inference_form(model: ResidualNet, *, half: bool = False) -> Step:
    """Logits (N x classes, float32) of pictures N C H W on the model's device, those of `model` in evaluation mode to float32 rounding.

    Later changes of the model do not reach it. A model that is no longer what its plan says (exchanged modules, hooks, another type of
    number) is run as it is, and so is one with weights that are not finite: oneDNN's ReLU makes 0 of NaN, which would hide them.
    `half` computes in bfloat16.
    """
    if not as_planned(model) or not _finite(model):
        return partial(_as_it_is, model, half)
    return form_of(model.plan, model.state_dict(), half=half)


def form_of(network: Network, tensors: dict[str, Tensor], *, half: bool = False) -> Step:
    """The fast form of a network from its tensors by name, finite and on one device.

    They are taken out of `tensors`, those of convolutions as soon as the form has its own: where nobody else holds them, both never take
    memory at once.
    """
    dtype = torch.bfloat16 if half else torch.float32
    maker = _maker(tensors, dtype)
    cpu = _device(tensors).type == "cpu"
    with torch.inference_mode(), blocks_apart():
        steps: tuple[Step, ...] = (
            partial(through, maker.chain(network.stem)),
            *map(maker.block, network.blocks()),
            *maker.chain(network.head),
        )
    tensors.clear()

    @cache
    def sizes(height: int, width: int, threads: int) -> Parts:
        return parts(network, (height, width), dtype.itemsize, threads)

    return Form(steps=steps, dtype=dtype, sizes=sizes if cpu else None, made=maker.made if maker.fused else [])


def folded_layers(model: ResidualNet, layers: tuple[Layer, ...], *, half: bool) -> Step:
    """What `layers` of the model do in evaluation mode, as they are now, on the CPU: a function of N C H W."""
    dtype = torch.bfloat16 if half else torch.float32
    with torch.inference_mode():
        steps = _maker(model.state_dict(), dtype).chain(layers)
    return lambda x: through(steps, x.to(dtype).contiguous(memory_format=LAST))


def _maker(tensors: dict[str, Tensor], dtype: torch.dtype) -> "_Maker":
    cpu = _device(tensors).type == "cpu"
    return _Maker(tensors=tensors, dtype=dtype, fused=cpu and bool(torch.backends.mkldnn.enabled) and fused_works(dtype))


def _device(tensors: dict[str, Tensor]) -> torch.device:
    return next(iter(tensors.values())).device


def _as_it_is(model: nn.Module, half: bool, x: Tensor) -> Tensor:
    """The model's own logits; each of its modules is left in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            found: Tensor = model(x)
            return found.float()
    finally:
        for module, training in modes:
            module.training = training


def as_planned(model: ResidualNet) -> bool:
    """Whether a net built anew from the plan has the same modules, attributes and tensors, and nothing listens in."""
    if hooks._has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    with torch.device("meta"):
        fresh = ResidualNet(model.plan)
    mine, theirs = dict(fresh.named_modules()), dict(model.named_modules())
    shapes = {name: (value.shape, value.dtype) for name, value in fresh.state_dict().items()}
    return (
        mine.keys() == theirs.keys()
        and all(_alike(module, theirs[name]) for name, module in mine.items())
        and shapes == {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
    )


def _finite(model: nn.Module) -> bool:
    sums = [value.sum(dtype=torch.float64) for value in model.state_dict().values() if value.is_floating_point()]
    return bool(torch.stack(sums).isfinite().all())


def _alike(planned: nn.Module, found: nn.Module) -> bool:
    values = vars(found)
    public = {name: value for name, value in vars(planned).items() if name[0] != "_" and name != "training"}
    listened = found._forward_hooks or found._forward_pre_hooks or found._compiled_call_impl or "forward" in values
    return type(found) is type(planned) and not listened and all(values.get(name) == value for name, value in public.items())


class _Affine:
    """[relu](batch norm): one that follows no convolution it could be folded into."""

    def __init__(self, layer: Norm, tensors: dict[str, Tensor]) -> None:
        names = ("running_mean", "running_var", "weight", "bias")
        self.mean, self.var, self.weight, self.bias = (tensors[f"{layer.name}.{name}"].clone() for name in names)
        self.epsilon, self.relu = layer.epsilon, False

    def __call__(self, x: Tensor) -> Tensor:
        y = F.batch_norm(x, self.mean, self.var, self.weight, self.bias, eps=self.epsilon)
        return y.relu_() if self.relu else y


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """A block with a shortcut: after(branch(before(x)) + shortcut(before(x))), the addition and `relu` inside the branch's last step."""

    before: tuple[Step, ...]
    branch: tuple[Step, ...]
    shortcut: tuple[Step, ...]
    relu: bool
    after: tuple[Step, ...]

    def __call__(self, x: Tensor) -> Tensor:
        x = through(self.before, x)
        other = through(self.shortcut, x).contiguous(memory_format=LAST)
        y, last = through(self.branch[:-1], x), self.branch[-1]
        if isinstance(last, Convolution) and not last.relu:
            y = last.added(y, other, relu=self.relu)  # nobody reads x any more, so that it may be overwritten
        else:
            y = last(y).add_(other)
            y = y.relu_() if self.relu else y
        return through(self.after, y)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the steps of layers; `tensors` are the network's, by name: large ones are taken out."""

    tensors: dict[str, Tensor]
    dtype: torch.dtype
    fused: bool
    made: list[Convolution] = field(default_factory=list)

    def chain(self, layers: tuple[Layer, ...]) -> tuple[Step, ...]:
        """What `layers` do, one after the other: a batch norm goes into the convolution before it, a ReLU into either."""
        steps: list[Step] = []
        for layer in layers:
            last = steps[-1] if steps else None
            open_end = isinstance(last, Convolution | _Affine) and not last.relu
            if isinstance(layer, Norm) and isinstance(last, Convolution) and open_end:
                last.fold(*self.scale_and_shift(layer))
            elif isinstance(layer, Relu) and isinstance(last, Convolution | _Affine) and open_end:
                last.relu = True
            else:
                steps.append(self.step(layer))
        for step in steps:
            if isinstance(step, Convolution):
                step.ready(self.dtype, fused=self.fused)
        return tuple(steps)

    def block(self, block: Block) -> Step:
        if block.shortcut is None:
            return partial(through, self.chain((*block.before, *block.branch, *block.after)))
        relu = bool(block.after) and isinstance(block.after[0], Relu)
        return _Sum(
            before=self.chain(block.before), branch=self.chain(block.branch), shortcut=self.chain(block.shortcut),
            relu=relu, after=self.chain(block.after[relu:]),
        )  # fmt: skip

    def scale_and_shift(self, layer: Norm) -> tuple[Tensor, Tensor]:
        mean, var, gamma, beta = (
            self.tensors[f"{layer.name}.{name}"].double() for name in ("running_mean", "running_var", "weight", "bias")
        )
        scale = gamma / torch.sqrt(var + layer.epsilon)
        return scale, beta - mean * scale

    def step(self, layer: Layer) -> Step:
        match layer:
            case Conv(name=name):
                self.made.append(Convolution(layer, self.tensors.pop(f"{name}.weight"), self.tensors.get(f"{name}.bias")))
                return self.made[-1]
            case Norm():
                return _Affine(layer, self.tensors)
            case Relu():
                return F.relu
            case MaxPool():
                return partial(_max_pool, layer)
            case AvgPool():
                return partial(F.avg_pool2d, kernel_size=layer.kernel, stride=layer.stride, ceil_mode=True, count_include_pad=False)
            case GlobalAvgPool():
                return _mean
            case Linear(name=name):
                bias = self.tensors.get(f"{name}.bias")
                return partial(_linear, self.tensors.pop(f"{name}.weight").clone(), None if bias is None else bias.clone())
            case PadChannels():
                return partial(_pad_channels, layer)
            case SqueezeExcite(name=name):
                first, second = (self.tensors[f"{name}.{fc}.weight"].flatten(1).clone() for fc in ("fc1", "fc2"))
                biases = (self.tensors[f"{name}.{fc}.bias"].clone() for fc in ("fc1", "fc2"))
                return partial(_squeeze_excite, (first, second), tuple(biases))
            case Dropout():
                return _same


def _same(x: Tensor) -> Tensor:
    return x


def _max_pool(layer: MaxPool, x: Tensor) -> Tensor:
    if not layer.zero_padding:
        return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
    return F.max_pool2d(F.pad(x, (layer.padding,) * 4), layer.kernel, layer.stride)


def _mean(x: Tensor) -> Tensor:  # N C H W -> N C float32
    return x.mean((2, 3), dtype=torch.float32)


def _linear(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    return F.linear(x, weight, bias)


def _pad_channels(layer: PadChannels, x: Tensor) -> Tensor:
    return F.pad(x[:, :, :: layer.stride, :: layer.stride], (0, 0, 0, 0, layer.before, layer.after))


def _squeeze_excite(weights: tuple[Tensor, ...], biases: tuple[Tensor, ...], x: Tensor) -> Tensor:
    gate = torch.sigmoid(F.linear(F.relu(F.linear(_mean(x), weights[0], biases[0])), weights[1], biases[1]))
    return x * gate[:, :, None, None].to(x.dtype)
