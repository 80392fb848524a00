"""The field's building blocks side by side: what they cost, how far they see, how fast they run, and what their parts are for.

The surprising thing: nothing is counted here. Costs come from the counting that every network's table comes from, block by block.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from residual.cost import Cost, Shape, network_cost
from residual.layers import Network
from residual.plan import plan
from residual.study.claims import Claim
from residual.study.inception import INCEPTION_3A, Inception, alone, chain, conv, paths
from residual.study.outcome import outcome
from residual.study.plain import from_plain
from residual.study.probes import built
from residual.study.store import Finding, open_parts
from residual.variants import VARIANTS
from residual.weights import initialise

Family = Literal["basic", "bottleneck", "pre-activation", "inception", "convolutions"]
_LEFT = (
    ((), "The whole block."),
    (("1x1-5x5",), "Three scales become two."),
    (("pool-1x1",), "Nothing is pooled: the 1x1 path alone carries the input on."),
    (("1x1-5x5", "pool-1x1"), "A 3x3 path beside a 1x1 path: added instead of put side by side, a residual block with a 1x1 shortcut."),
    (("1x1", "1x1-5x5", "pool-1x1"), "One path: a plain chain, and nothing passes it by."),
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds for a batch: the median of `count` rounds, the fastest and the slowest."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Design:
    """A block, or a few convolutions, on one picture.

    Attributes:
        case: the place in a network that it stands at, or what was changed.
        told: what is to be seen, in words.
        input, output: channels, height, width.
        parameters: biases and batch norm included; `conv_weights` are the convolutions' alone.
        receptive_field: side in values of the block's input that one output value sees.
        activations: values put out by the convolutions, as `residual show` counts them.
        memory: bytes of float32 that training keeps: what every layer puts out, ReLU working in place.
        forward, both: in inference; forward and backward in training. None where it was not run.
    """

    label: str
    family: Family
    case: str
    told: str
    input: Shape
    output: Shape
    parameters: int
    conv_weights: int
    macs: int
    receptive_field: int
    activations: int
    memory: int
    forward: Timing | None = None
    both: Timing | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """Attributes:
    batch: pictures in a timed batch; 0 where nothing was timed.
    blocks: side by side; left: Inception with paths removed; kernels: two 3x3 against one 5x5; savings: what 1x1 convolutions save.
    """

    batch: int
    blocks: tuple[Design, ...]
    left: tuple[Design, ...]
    kernels: tuple[Design, ...]
    savings: tuple[Design, ...]
    claims: tuple[Claim, ...]


def study(*, batch: int = 16, rounds: int = 9, side: int = 56, out: str | Path | None = None) -> Finding:
    """All comparisons; blocks of the first stage get maps of `side` x `side`. With `batch` or `rounds` 0 nothing is timed."""
    if side < 4 or batch < 0 or rounds < 0:
        raise ValueError(f"side is {side}, batch {batch} and rounds {rounds}, but must be at least 4, 0 and 0.")
    settings = {"batch": batch, "rounds": rounds, "side": side}
    parts = open_parts(out, "blocks", settings)
    found = candidates(side)
    designs = [design for design, _ in found]
    if batch and rounds:
        values = parts.get("speed", lambda: timings([networks for _, networks in found], [d.input for d in designs], batch, rounds))
        times = from_plain(tuple[tuple[Timing, Timing], ...], values, "speed")
        designs = [replace(design, forward=forward, both=both) for design, (forward, both) in zip(designs, times, strict=True)]
    kernels, savings = two_for_one(side), one_by_one(side)
    result = Result(
        batch=batch if rounds else 0, blocks=tuple(designs), left=removed_paths(INCEPTION_3A, side // 2), kernels=kernels, savings=savings,
        claims=claims(kernels, savings),
    )  # fmt: skip
    return outcome("blocks", result, parts, settings=settings, data={}, scaled_down=(), out=out)


def candidates(side: int) -> list[tuple[Design, tuple[Network, ...]]]:
    """The blocks side by side, each with the network (of Inception: one for each path) that is timed."""
    half, found = side // 2, list[tuple[Design, tuple[Network, ...]]]()
    for label, family, variant, name, channels, place in (
        ("basic 64", "basic", "resnet34", "layer1.1", 64, "same width"),
        ("basic 64 to 128", "basic", "resnet34", "layer2.0", 64, "new stage"),
        ("bottleneck 256", "bottleneck", "resnet50", "layer1.1", 256, "same width"),
        ("bottleneck 256 to 512", "bottleneck", "resnet50", "layer2.0", 256, "new stage"),
        ("bottleneck 64 to 256", "bottleneck", "resnet50", "layer1.0", 64, "first stage"),
        ("pre-activation 64", "pre-activation", "preact_resnet34", "layer1.1", 64, "same width"),
    ):
        block = next(block for block in plan(VARIANTS[variant]).blocks() if block.name == name)
        network = alone(block, channels)
        found.append(
            (design([network], (channels, side, side), label=label, family=family, case=place, told=f"{variant}, {name}."), (network,))
        )
    networks = tuple(chain(layers, INCEPTION_3A.in_channels) for layers in paths(INCEPTION_3A).values())
    shape = (INCEPTION_3A.in_channels, half, half)
    told = "GoogLeNet, inception (3a); timed path after path, without putting their channels together."
    found.append((design(networks, shape, label="inception 3a", family="inception", case="192 to 256 channels", told=told), networks))
    return found


def design(networks: Sequence[Network], shape: Shape, *, label: str, family: Any, case: str, told: str) -> Design:
    """The cost of `networks`, paths side by side, on maps of `shape` (channels, height, width)."""
    costs: list[Cost] = [network_cost(network, shape[1:]) for network in networks]
    rows = [row for cost in costs for row in cost.rows]
    main = [_main(network, cost) for network, cost in zip(networks, costs, strict=True)]
    weights = sum(row.macs // (row.output[1] * row.output[2]) for row in rows if row.kind == "Conv")
    return Design(
        label=label, family=family, case=case, told=told, input=shape,
        output=(sum(output[0] for output, _ in main), *main[0][0][1:]),
        parameters=sum(cost.parameters for cost in costs), conv_weights=weights, macs=sum(cost.macs for cost in costs),
        receptive_field=max(field for _, field in main), activations=sum(cost.activations for cost in costs),
        memory=4 * sum(int(np.prod(row.output)) for row in rows if row.kind != "Relu"),
    )  # fmt: skip


def _main(network: Network, cost: Cost) -> tuple[Shape, int]:
    """What a network puts out and how far it sees: its last row, or the end of the branch where a pre-activation block has none after."""
    blocks = list(network.blocks())
    last = blocks[-1].branch[-1].name if blocks else network.stem[-1].name
    row = next(row for row in reversed(cost.rows) if row.name == last)
    return row.output, row.receptive_field


def removed_paths(block: Inception, side: int) -> tuple[Design, ...]:
    """Inception with paths taken away: the chapter's first exercise."""
    found = []
    for gone, told in _LEFT:
        kept = {name: layers for name, layers in paths(block).items() if name not in gone}
        networks = [chain(layers, block.in_channels) for layers in kept.values()]
        case = f"without {', '.join(gone)}" if gone else "all four paths"
        shape = (block.in_channels, side, side)
        found.append(design(networks, shape, label=" + ".join(kept), family="inception", case=case, told=told))
    return tuple(found)


def two_for_one(side: int, width: int = 64) -> tuple[Design, Design]:
    """Two 3x3 convolutions and one 5x5, without norm and bias."""
    two = chain([conv("a", width, width, 3), conv("b", width, width, 3)], width)
    one = chain([conv("a", width, width, 5)], width)
    shape = (width, side, side)
    return (
        design([two], shape, label="two 3x3", family="convolutions", case=f"{width} channels", told="With a nonlinearity between them."),
        design([one], shape, label="one 5x5", family="convolutions", case=f"{width} channels", told="The same values are seen at once."),
    )


def one_by_one(side: int) -> tuple[Design, Design, Design]:
    """The bottleneck 256-64-64-256, two 3x3 at its outer width, and two 3x3 at its inner one; convolutions alone."""
    layers = [conv("reduce", 256, 64, 1), conv("middle", 64, 64, 3), conv("restore", 64, 256, 1)]
    wide, narrow = ([conv("a", width, width, 3), conv("b", width, width, 3)] for width in (256, 64))
    rows = (("1x1, 3x3, 1x1", layers, 256, "256-64-64-256"), ("two 3x3", wide, 256, "256-256-256"), ("two 3x3", narrow, 64, "64-64-64"))
    found = [
        design([chain(of, width)], (width, side, side), label=label, family="convolutions", case=case, told="")
        for label, of, width, case in rows
    ]
    return found[0], found[1], found[2]


def timings(candidates: Sequence[Sequence[Network]], shapes: Sequence[Shape], batch: int, rounds: int) -> list[tuple[Timing, Timing]]:
    """Forward in inference, and forward and backward in training, of each candidate; rounds go through all of them in turn."""
    models = [[built(network, initialise(network)) for network in networks] for networks in candidates]
    stream = np.random.default_rng(0)
    inputs = [
        next(of[0].parameters()).new_tensor(stream.standard_normal((batch, *s), np.float32)) for of, s in zip(models, shapes, strict=True)
    ]
    seconds: list[tuple[list[float], list[float]]] = [([], []) for _ in models]
    for turn in range(rounds + 1):
        for of, x, (forward, both) in zip(models, inputs, seconds, strict=True):
            found = _seconds(of, x, train=False), _seconds(of, x, train=True)
            if turn:  # the first round is not counted
                forward.append(found[0])
                both.append(found[1])
    return [(_timing(forward), _timing(both)) for forward, both in seconds]


def _seconds(models: Sequence[Any], x: Any, *, train: bool) -> float:
    for model in models:
        model.train(train).requires_grad_(train).zero_grad()
    x.requires_grad_(train)
    x.grad = None
    began = time.perf_counter()
    for model in models:
        value = model(x).sum()
        if train:
            value.backward()
        value.item()  # waits for the device
    return time.perf_counter() - began


def _timing(values: Sequence[float]) -> Timing:
    return Timing(median=median(values), low=min(values), high=max(values), count=len(values))


def claims(kernels: tuple[Design, Design], savings: tuple[Design, Design, Design]) -> tuple[Claim, ...]:
    """What the papers say of these designs, held against the counts."""
    two, one = kernels
    bottleneck, wide, narrow = savings
    share, alike = two.conv_weights / one.conv_weights, bottleneck.macs / narrow.macs
    return (
        Claim(
            claim="Two 3x3 convolutions see what one 5x5 sees, with fewer weights", source="Simonyan & Zisserman 2015, section 2.3",
            verdict="agrees" if two.receptive_field == one.receptive_field and share < 1 else "differs",
            reason=f"Both see {two.receptive_field} x {two.receptive_field}; {two.conv_weights:,} weights against {one.conv_weights:,} "
            f"({share:.0%}), {two.macs:,} multiply-adds against {one.macs:,}.",
        ),
        Claim(
            claim="A bottleneck at 256 channels costs about as much as a basic block at 64", source="He et al. 2015, section 4.1, figure 5",
            verdict="agrees" if 0.9 <= alike <= 1.1 else "differs",
            reason=f"{bottleneck.macs:,} multiply-adds against {narrow.macs:,} ({alike:.0%}).",
        ),
        Claim(
            claim="Its 1x1 convolutions save most of what two 3x3 at 256 channels would cost", source="He et al. 2015, section 4.1",
            verdict="agrees" if 2 * bottleneck.conv_weights < wide.conv_weights else "differs",
            reason=f"{bottleneck.conv_weights:,} weights against {wide.conv_weights:,}: "
            f"{wide.conv_weights / bottleneck.conv_weights:.1f} times fewer.",
        ),
    )  # fmt: skip


__all__ = ["Design", "Family", "Result", "Timing", "candidates", "claims", "design", "one_by_one", "removed_paths", "study", "two_for_one"]
