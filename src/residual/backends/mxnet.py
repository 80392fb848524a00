"""The MXNet 1.9.1 backend: a plan becomes a Gluon `HybridBlock` with torchvision's attribute names.

MXNet moves the running statistics of batch norm in the backward pass, by the biased batch variance (PyTorch's is the unbiased one); it
takes every epsilon as it is. A scale and shift are Gluon's `gamma` and `beta` in the block, `weight` and `bias` in `Weights`.
"""

from collections.abc import Collection, Iterator
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from residual import weights as core
from residual.backends.limits import check_recipe
from residual.backends.mxnet_layers import gluon_layer
from residual.backends.mxnet_training import SGD, cross_entropy
from residual.layers import Block, Layer, Network
from residual.recipe import Batches, EpochEnd, Recipe, learning_rate
from residual.weights import Weights

_GLUON_ENDINGS = {"gamma": "weight", "beta": "bias"}


class ResidualBlock(nn.HybridBlock):
    """Any block of any plan; its children are named as torchvision names them."""

    def __init__(self, block: Block, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.before = _children(self, block.before, block.name)
            self.branch = _children(self, block.branch, block.name)
            self.shortcut = None if block.shortcut is None else _children(self, block.shortcut, block.name)
            self.after = _children(self, block.after, block.name)
            self.drop_path = nn.Dropout(block.drop_path, axes=(1, 2, 3)) if block.drop_path else None

    def hybrid_forward(self, ops: Any, x: Any) -> Any:  # N C H W -> N D H/s W/s
        """after(branch(before(x)) + shortcut(before(x))); a plain network has no shortcut. He et al. 2015, equations 1 and 2."""
        x = _run(self, self.before, x)
        y = _run(self, self.branch, x)
        if self.shortcut is not None:
            if self.drop_path is not None:
                y = self.drop_path(y)
            y = y + _run(self, self.shortcut, x)
        return _run(self, self.after, y)


class ResidualNet(nn.HybridBlock):
    """A residual network; `plan` is what it was built from. Images N C H W in, logits N x classes out."""

    def __init__(self, network: Network, prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.plan = network
        with self.name_scope():
            stem = _children(self, network.stem, "")
            for stage in network.stages:
                blocks = nn.HybridSequential(prefix=f"{stage.name}_")
                with blocks.name_scope():
                    blocks.add(*(ResidualBlock(block, f"{number}_") for number, block in enumerate(stage.blocks)))
                setattr(self, stage.name, blocks)
            head = _children(self, network.head, "")
        self.order = (*stem, *(stage.name for stage in network.stages), *head)

    def hybrid_forward(self, ops: Any, x: Any) -> Any:
        return _run(self, self.order, x)


Model = ResidualNet


def build(network: Network, seed: int = 0, *, weights: Weights | None = None) -> ResidualNet:
    """A native model with `weights`, or the core's first values for `seed`, on the CPU, not hybridized; no shape is left to be inferred."""
    model = ResidualNet(network)
    model.initialize(mx.init.Zero(), ctx=mx.cpu())
    set_weights(model, core.initialise(network, seed) if weights is None else weights)
    return model


def set_weights(model: ResidualNet, weights: Weights) -> None:
    """Copies `weights` into the model, whatever device it is on. ValueError names every missing, extra or misshaped tensor."""
    core.check(model.plan, weights)
    parameters = _parameters(model)
    for name, value in weights.items():
        parameters[name].set_data(nd.array(value))


def get_weights(model: ResidualNet) -> Weights:
    """A copy of every tensor, float32, in the plan's order."""
    parameters = _parameters(model)
    return {name: _first_copy(parameters[name]).astype(np.float32) for name in core.manifest(model.plan)}


def forward(model: ResidualNet, images: npt.NDArray[np.float32], taps: Collection[str] = ()) -> dict[str, npt.NDArray[np.float32]]:
    """ "logits" and every layer, block or stage named in `taps`, in inference mode; `images` is N C H W float32.

    ValueError for a tap that does not exist.
    """
    for tap in taps:
        if tap not in model.plan.names():
            raise ValueError(f"The network has no layer {tap!r}; its layers: {', '.join(model.plan.names())}.")
    x = nd.array(images, ctx=_context(model))
    with autograd.pause(train_mode=False):
        found = dict(zip((*taps, "logits"), _tapped(model, taps)(x), strict=True)) if taps else {"logits": model(x)}
    return {name: value.asnumpy().astype(np.float32) for name, value in found.items()}


def fit(model: ResidualNet, batches: Batches, recipe: Recipe, *, velocity: Weights | None = None, first: int = 0) -> Iterator[EpochEnd]:
    """One EpochEnd for each epoch in `batches` from the one numbered `first` on; hybridizes the model.

    Float32 steps of a `gluon.Trainer` by the recipe's SGD, schedule and label smoothing; dropout is a function of the recipe's seed and the
    epoch. A parameter whose `grad_req` is "null" stays as it is. `velocity` is where SGD's momentum stands, by tensor name; it is
    brought up to date before each EpochEnd. ValueError for a recipe that this backend cannot follow.
    """
    check_recipe(recipe, "mxnet")
    context = _context(model)
    trained = {name: parameter for name, parameter in _parameters(model).items() if parameter.grad_req != "null"}
    speeds = {p.name: nd.array(velocity[name], ctx=context) if velocity else nd.zeros(p.shape, context) for name, p in trained.items()}
    trainer = gluon.Trainer(list(trained.values()), SGD(recipe, speeds), kvstore=None)
    model.hybridize()
    total, step = sum(map(len, batches)), sum(map(len, batches[:first]))
    for number, epoch in enumerate(batches[first:], first + 1):
        mx.random.seed((recipe.seed * 1_000_003 + number) % 2**31)
        losses, right, count = list[Any](), list[Any](), 0
        for images, labels in epoch:
            trainer.set_learning_rate(learning_rate(step / total, recipe))
            x, y = nd.array(images, ctx=context), nd.array(labels, ctx=context)
            with autograd.record():
                logits = model(x)
                loss = cross_entropy(logits, y, recipe.label_smoothing)
            loss.backward()
            trainer.step(1)  # the loss is a mean already
            if losses:
                losses[-1].wait_to_read()  # or batches would pile up faster than they are computed
            losses.append(loss.detach())
            right.append((logits.argmax(axis=1) == y).sum())
            count, step = count + len(labels), step + 1
        if velocity is not None and recipe.momentum:
            velocity.update({name: speeds[p.name].asnumpy() for name, p in trained.items()})
        steps, correct = (nd.concat(*values, dim=0).asnumpy().tolist() for values in (losses, right))
        yield EpochEnd(
            epoch=number, steps=step, train_loss=sum(steps) / len(steps), train_accuracy=sum(correct) / count, losses=tuple(steps)
        )


def _parameters(model: ResidualNet) -> dict[str, Any]:
    """Gluon's parameters by the plan's tensor names."""
    found = {}
    for name, parameter in model._collect_params_with_prefix().items():
        block, _, ending = name.rpartition(".")
        found[f"{block}.{_GLUON_ENDINGS.get(ending, ending)}"] = parameter
    return found


def _context(model: ResidualNet) -> Any:
    """The first device that the model is on."""
    return next(iter(model.collect_params().values())).list_ctx()[0]


def _first_copy(parameter: Any) -> npt.NDArray[Any]:
    copied: npt.NDArray[Any] = parameter.data(parameter.list_ctx()[0]).asnumpy()
    return copied


def _tapped(model: ResidualNet, taps: Collection[str]) -> gluon.SymbolBlock:
    """A network with the model's own parameters that puts out `taps` in their order, then the logits; hybridized or not is all one."""
    found, hooks, data = dict[str, Any](), [], mx.sym.var("data", dtype="float32")
    try:
        for tap in taps:
            part: Any = model
            for name in tap.split("."):
                part = part._children[name]
            hooks.append(part.register_forward_hook(_keeper(found, tap)))
        logits = model(data)  # of a symbol, so that only the graph is made
    finally:
        for hook in hooks:
            hook.detach()
    return gluon.SymbolBlock([*(found[tap] for tap in taps), logits], data, params=model.collect_params())


def _keeper(found: dict[str, Any], name: str) -> Any:
    def keep(_block: Any, _inputs: Any, output: Any) -> None:
        found[name] = output

    return keep


def _run(parent: Any, names: tuple[str, ...], x: Any) -> Any:
    for name in names:
        x = getattr(parent, name)(x)
    return x


def _children(parent: Any, layers: tuple[Layer, ...], prefix: str) -> tuple[str, ...]:
    """Gives `parent` its `layers` under their own names without `prefix`; dotted names (`downsample.0`) share one HybridSequential."""
    names = dict[str, None]()
    for layer in layers:
        name = layer.name.removeprefix(f"{prefix}.") if prefix else layer.name
        first, _, rest = name.partition(".")
        if not rest:
            setattr(parent, first, gluon_layer(layer, f"{first}_"))
        else:
            if first not in names:
                setattr(parent, first, nn.HybridSequential(prefix=f"{first}_"))
            group = getattr(parent, first)
            with group.name_scope():
                group.register_child(gluon_layer(layer, f"{rest}_"), rest)
        names[first] = None
    return tuple(names)
