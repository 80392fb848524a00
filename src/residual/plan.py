"""The layer list of a network, every number written out; all else (cost, weights, reference, backends, drawing) reads only this.

Names are torchvision's; what torchvision lacks extends the pattern.
"""

from dataclasses import dataclass

from residual.architecture import PREACT, Architecture
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
    Stage,
)


def plan(arch: Architecture) -> Network:
    """The network of `arch`, layer by layer."""
    stages: list[Stage] = []
    channels, count, total = arch.stem_width, 0, sum(arch.depths)
    for index, depth in enumerate(arch.depths):
        blocks: list[Block] = []
        for number in range(depth):
            count += 1
            maker = _Maker(arch=arch, name=f"layer{index + 1}.{number}", drop_path=arch.drop_path * count / total)
            strided = number == (0 if arch.stride_block == "first" else depth - 1)
            stride = arch.strides[index] if strided else 1
            inner, outer = arch.inner_widths[index], arch.out_widths[index]
            blocks.append(maker.block(channels, inner, outer, stride=stride, first=count == 1))
            channels = outer
        stages.append(Stage(name=f"layer{index + 1}", blocks=tuple(blocks)))
    return Network(
        architecture=arch, stem=_stem(arch), stages=tuple(stages), head=_head(arch, channels),
        in_channels=arch.in_channels, num_classes=arch.num_classes, initialisation=arch.initialisation,
    )  # fmt: skip


def _norm(arch: Architecture, name: str, channels: int, gamma: float = 1.0) -> Norm:
    return Norm(name=name, channels=channels, epsilon=arch.bn_epsilon, momentum=arch.bn_momentum, gamma=gamma)


def _conv(arch: Architecture, name: str, channels: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1) -> Conv:
    return Conv(
        name=name, in_channels=channels[0], out_channels=channels[1], kernel=kernel, stride=stride,
        padding=(kernel - 1) // 2 if kernel % 2 else 0, groups=groups, bias=arch.conv_bias,
    )  # fmt: skip


_SINGLE = {"cifar": (3, 1), "patch": (4, 2), "dense-patch": (4, 1)}  # stems of one convolution: its kernel and stride


def _stem(arch: Architecture) -> tuple[Layer, ...]:
    """conv1, bn1, relu and, at ImageNet size, the max pool; pre-activation nets start so too (2016, appendix)."""
    ends = (arch.in_channels, arch.stem_width)
    first = (_norm(arch, "norm0", arch.in_channels),) if arch.input_norm else ()
    active = (_norm(arch, "bn1", arch.stem_width), Relu(name="relu")) if arch.preact_start != "block" else ()
    pool = MaxPool(name="maxpool", kernel=3, stride=2, padding=1, zero_padding=arch.pool_padding == "zero")
    if arch.stem in _SINGLE:
        return (*first, _conv(arch, "conv1", ends, *_SINGLE[arch.stem]), *active)
    if arch.stem == "imagenet":
        return (*first, _conv(arch, "conv1", ends, 7, 2), *active, pool)
    half = arch.stem_width // 2
    return (
        *first, _conv(arch, "conv1.0", (arch.in_channels, half), 3, 2), _norm(arch, "conv1.1", half), Relu(name="conv1.2"),
        _conv(arch, "conv1.3", (half, half), 3), _norm(arch, "conv1.4", half), Relu(name="conv1.5"),
        _conv(arch, "conv1.6", (half, arch.stem_width), 3), *active, pool,
    )  # fmt: skip


def _head(arch: Architecture, channels: int) -> tuple[Layer, ...]:
    """Pre-activation nets end in the activation that their last block lacks (2016, appendix)."""
    last: tuple[Layer, ...] = ()
    if arch.order == "preact":
        last = (_norm(arch, "norm", channels), Relu(name="norm_relu"))
    elif arch.order == "relu-only-preact":
        last = (Relu(name="norm_relu"),)
    classify = Linear(name="fc", in_features=channels, out_features=arch.num_classes, bias=True)
    return (*last, GlobalAvgPool(name="avgpool"), classify)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the block called `name` of `arch`."""

    arch: Architecture
    name: str
    drop_path: float

    def block(self, channels: int, inner: int, outer: int, *, stride: int, first: bool) -> Block:
        arch, leading = self.arch, not first or self.arch.preact_start != "stem"
        convs = self._convs(channels, inner, outer, stride)
        branch = self._branch(convs, leading=leading)
        shortcut = self._shortcut(channels, outer, stride)
        before: tuple[Layer, ...] = ()
        subsampled = arch.stride_block == "last" and channels == outer
        if arch.order in PREACT and shortcut and leading and not subsampled:
            # branch and shortcut both start from the activated input, as in the authors' code
            cut = branch.index(convs[0])
            before, branch = branch[:cut], branch[cut:]
        if arch.se_reduction:
            reduced = max(1, outer // arch.se_reduction)
            branch = (*branch, SqueezeExcite(name=f"{self.name}.se", channels=outer, reduced=reduced))
        after: tuple[Layer, ...] = ()
        if arch.order == "bn-after-addition":
            after = (self._norm(len(convs), outer), Relu(name=f"{self.name}.relu"))
        elif arch.order == "original":
            after = (Relu(name=f"{self.name}.relu"),)
        return Block(name=self.name, before=before, branch=branch, shortcut=shortcut, after=after, drop_path=self.drop_path)

    def _convs(self, channels: int, inner: int, outer: int, stride: int) -> list[Conv]:
        arch, name = self.arch, self.name
        if arch.block == "basic":
            return [
                _conv(arch, f"{name}.conv1", (channels, inner), 3, stride, arch.groups),
                _conv(arch, f"{name}.conv2", (inner, outer), 3, 1, arch.groups),
            ]
        early = arch.stride_on == "conv1"
        return [
            _conv(arch, f"{name}.conv1", (channels, inner), 1, stride if early else 1),
            _conv(arch, f"{name}.conv2", (inner, inner), 3, 1 if early else stride, arch.groups),
            _conv(arch, f"{name}.conv3", (inner, outer), 1),
        ]

    def _branch(self, convs: list[Conv], *, leading: bool) -> tuple[Layer, ...]:
        """He et al. 2016, figure 4. `leading`: with the activation before the first convolution, where the order has one."""
        order, layers = self.arch.order, list[Layer]()
        for number, conv in enumerate(convs, 1):
            last = number == len(convs)
            relu = Relu(name=f"{self.name}.relu{number}")
            dropout = [Dropout(name=f"{self.name}.dropout", rate=self.arch.dropout)] if last and self.arch.dropout else []
            activate = leading or number > 1
            if order == "preact":
                layers += [self._norm(number, conv.in_channels), relu] if activate else []
                layers += [*dropout, conv]
            elif order == "relu-only-preact":
                layers += [relu] if activate else []
                layers += [*dropout, conv, self._norm(number, conv.out_channels)]
            else:
                layers += [*dropout, conv]
                layers += [] if last and order == "bn-after-addition" else [self._norm(number, conv.out_channels)]
                layers += [] if last and order != "relu-before-addition" else [relu]
        return tuple(layers)

    def _norm(self, number: int, channels: int) -> Norm:
        last = number == (2 if self.arch.block == "basic" else 3)
        gamma = 0.0 if last and self.arch.zero_last_gamma else 1.0
        return _norm(self.arch, f"{self.name}.bn{number}", channels, gamma)

    def _shortcut(self, channels: int, outer: int, stride: int) -> tuple[Layer, ...] | None:
        """Options A, B, C and none. He et al. 2015, section 4.1."""
        arch, name = self.arch, f"{self.name}.downsample"
        if arch.shortcut == "none":
            return None
        if channels == outer and stride == 1 and arch.shortcut != "projection-all":
            return ()
        if arch.shortcut == "pad" or (arch.stride_block == "last" and channels == outer and arch.shortcut == "projection"):
            added = outer - channels
            return (PadChannels(name=f"{name}.0", stride=stride, before=added // 2, after=added - added // 2),)
        pooled = arch.shortcut_pool
        pool = [AvgPool(name=f"{name}.0", kernel=stride, stride=stride)] if pooled and stride > 1 else []
        conv = _conv(arch, f"{name}.{int(pooled)}", (channels, outer), 1, 1 if pool else stride)
        normed = arch.shortcut_norm and arch.order not in PREACT
        return (*pool, conv, *([_norm(arch, f"{name}.{int(pooled) + 1}", outer)] if normed else []))
