"""The written-out form trains as the model itself does under autograd: loss, gradients, running statistics, on every net."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.architecture import Architecture, changed
from residual.backends import torch as backend
from residual.backends import torch_normed, torch_steps
from residual.backends.torch_convolution import in_layout
from residual.backends.torch_normed import NormedPooled, Pooled
from residual.backends.torch_steps import Pass
from residual.backends.torch_training import training_form
from residual.backends.torch_ways import way_of
from residual.layers import MaxPool
from residual.plan import plan
from residual.variants import VARIANTS
from tests.backends.test_torch import CHANGES
from tests.nets import DISTINCT, SMALL, images, random_weights, scaled_down

ROUNDING = 2e-4  # of a tensor's norm, in float32; a ReLU that flips at zero would show as more
PATCHES = replace(SMALL, depths=(1, 1, 2), inner_widths=(8, 16, 32), out_widths=(8, 16, 32), strides=(1, 2, 2), stem="patch", stem_width=16)


def made(arch: Architecture, *, last: bool = True) -> backend.ResidualNet:
    network = plan(arch)
    model = backend.build(network, weights=random_weights(network)).train()
    return model.to(memory_format=torch.channels_last) if last else model  # type: ignore[call-overload, no-any-return]


def pictures(arch: Architecture, count: int = 6, height: int = 12, width: int = 9) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images(plan(arch), height, width, count)), torch.arange(count) % arch.num_classes


def trained(model: backend.ResidualNet, call: Any, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Loss, gradients and running statistics after one forward and backward pass, by name, in double precision."""
    torch.manual_seed(3)
    loss = F.cross_entropy(call(x).float(), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None} | dict(model.named_buffers())
    return {name: value.double() for name, value in (found | {"loss": loss.detach()}).items()}


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    whole = max(float(value.norm()) for name, value in wanted.items() if name.endswith("weight"))
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        noise = 1e-3 * whole  # a bias before a batch norm has no gradient but rounding
        assert (found[name] - value).norm() <= ROUNDING * (value.norm() + noise), name


def assert_as_near(found: dict[str, Tensor], other: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
    """In bfloat16 it is about as far from float32 as the model itself under autocast is."""
    assert found.keys() == other.keys() == exact.keys()
    whole = max(float(value.norm()) for name, value in exact.items() if name.endswith("weight"))
    mine, theirs = (
        torch.stack([(got[name] - value).norm() / (value.norm() + 1e-2 * whole) for name, value in exact.items()]) for got in (found, other)
    )
    assert mine.median() <= 1.5 * theirs.median() + 1e-3
    assert mine.max() <= 2 * theirs.max() + 1e-3


def own_call(model: backend.ResidualNet, half: bool) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found: Tensor = model(x)
            return found

    return call


def assert_trains_alike(
    arch: Architecture, *, half: bool = False, frozen: bool = False, last: bool = True, size: tuple[int, int] = (12, 9), count: int = 6,
    weight: float | None = None,
) -> None:  # fmt: skip
    """`weight` is what the stem's norm multiplies one channel by."""
    model = made(arch, last=last)
    if weight is not None:
        with torch.no_grad():
            model.get_parameter("bn1.weight")[1] = weight
    if frozen:
        backend.freeze_stem(model)
    twin, exact, (x, labels) = copy.deepcopy(model), copy.deepcopy(model), pictures(arch, count, *size)
    call = training_form(model, half=half)
    assert call(x).grad_fn.name() == "_WholeBackward"  # type: ignore[union-attr]
    model.load_state_dict(twin.state_dict())
    found, wanted = trained(model, call, x, labels), trained(twin, own_call(twin, half), x, labels)
    if half:
        assert_as_near(found, wanted, trained(exact, exact, x, labels))
    else:
        assert_alike(found, wanted)


@pytest.mark.parametrize("name", DISTINCT)
def test_every_net(name: str) -> None:
    assert_trains_alike(scaled_down(DISTINCT[name]), size=(33, 40) if DISTINCT[name].stem in ("imagenet", "deep") else (12, 9))


@pytest.mark.parametrize("changes", [*CHANGES, {"order": "bn-after-addition"}, {"shortcut": "none", "order": "preact"}], ids=str)
@pytest.mark.parametrize("last", [True, False])
def test_every_field(changes: dict[str, Any], last: bool) -> None:
    assert_trains_alike(changed(SMALL, changes), last=last)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("stem", ["patch", "cifar", "imagenet", "deep"])
@pytest.mark.parametrize("order", ["original", "preact"])
def test_a_frozen_first_layer(stem: str, order: str, half: bool) -> None:
    arch = changed(PATCHES, {"stem": stem, "order": order})
    assert_trains_alike(arch, frozen=True, half=half, size=(28, 28), count=32)


@pytest.mark.parametrize("arch", [PATCHES, replace(SMALL, conv_bias=True, se_reduction=2), changed(SMALL, {"shortcut": "pad"})], ids=str)
def test_in_bfloat16(arch: Architecture) -> None:
    assert_trains_alike(arch, half=True, size=(28, 28), count=32)


def test_every_way_of_a_convolution_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, arch = set[Any](), replace(VARIANTS["resnet18"], inner_widths=(64, 128, 256, 256), out_widths=(64, 128, 256, 256), num_classes=4)

    def noted(*given: Any) -> Any:
        found = way_of(*given)
        taken.add(found[0])
        return found

    monkeypatch.setattr(torch_steps, "way_of", noted)
    assert_trains_alike(arch, half=True, size=(64, 64))
    assert {way.__name__ for way in taken - {None}} == {"Pointwise", "Product", "Joined", "Dense"}
    taken.clear()
    assert_trains_alike(scaled_down(arch), size=(64, 64))
    assert not taken, "float32 has none"


@pytest.mark.parametrize("name", ["imagenet", "deep", "zero-padded", "zeros without ReLU", "preact"])
@pytest.mark.parametrize("last", [True, False])
def test_gradients_of_large_layers_are_put_where_others_were(name: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, to_input = list[int](), torch_normed._to_input

    def noted(g: Tensor, *given: Any) -> Tensor:
        seen.append(g.data_ptr())
        found = to_input(g, *given)
        assert found.data_ptr() == seen[-1]
        return found

    monkeypatch.setattr(torch_normed, "_to_input", noted)
    padded = {"stem": "imagenet", "pool_padding": "zero"}
    changes = {
        "zero-padded": padded,
        "zeros without ReLU": {**padded, "order": "preact", "preact_start": "block"},
        "preact": {"order": "preact"},
    }
    arch = changed(SMALL, changes.get(name, {"stem": name}))
    assert_trains_alike(arch, size=(33, 40), last=last)
    assert not seen, "these are small"
    monkeypatch.setattr(torch_normed, "_LARGE", 0)
    monkeypatch.setattr(torch_normed, "_PART", 2**11)  # so that there are several parts, the last one shorter
    assert_trains_alike(arch, size=(33, 40), count=7, last=last)
    assert len(seen) == {"imagenet": 3, "deep": 5, "zero-padded": 3, "zeros without ReLU": 7, "preact": 7}[name]
    seen.clear()
    training_form(made(arch), half=True)(pictures(arch, 7, 33, 40)[0]).sum().backward()  # type: ignore[no-untyped-call]
    assert not seen, "bfloat16 would be rounded four times"


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("weight", "first"), [(0.5, True), (-0.5, False), (0.0, False)])
def test_pooling_goes_before_batch_norm_where_the_order_stays(
    weight: float, first: bool, last: bool, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    came, over, parts = dict[int, int](), list[bool](), list[int]()
    forward, backward, together = NormedPooled.forward, NormedPooled.backward, torch_normed._together

    def forwards(self: NormedPooled, x: Tensor, run: Pass) -> Tensor:
        came[id(run)] = x.data_ptr()
        return forward(self, x, run)

    def backwards(self: NormedPooled, g: Any, run: Pass) -> Any:
        found = backward(self, g, run)
        over.append(found.data_ptr() == came[id(run)])
        return found

    def counted(x: Tensor) -> int:
        parts.append(-(-len(x) // together(x)))
        return together(x)

    monkeypatch.setattr(NormedPooled, "forward", forwards)
    monkeypatch.setattr(NormedPooled, "backward", backwards)
    monkeypatch.setattr(torch_normed, "_together", counted)
    monkeypatch.setattr(torch_normed, "_PART", 2**9)
    assert_trains_alike(changed(SMALL, {"stem": "imagenet"}), size=(33, 40), count=7, last=last, half=half, weight=weight)
    assert over == [first], "what comes back is written over what came"
    assert (min(parts, default=0) > 1) == first


def test_pooled_places_of_a_large_picture_are_counted_in_32_bits() -> None:
    pool = Pooled(layer=MaxPool(name="pool", kernel=3, stride=2, padding=1, zero_padding=False), inner=True, relu=False)
    for height, kind in ((128, torch.int16), (129, torch.int32)):
        x = torch.arange(height * 256.0).view(1, 1, height, 256)
        y, taken = pool.largest(x)
        assert taken.dtype == kind
        assert torch.equal(taken.flatten().float(), y.flatten())
        assert torch.equal(pool.spread(y, x, taken).nonzero()[:, 2:], torch.stack([y.flatten().long() // 256, y.flatten().long() % 256], 1))


def test_one_value_a_channel_is_refused_as_pytorch_does() -> None:
    model = made(replace(SMALL, strides=(3, 3)))
    for call in (model, training_form(model)):
        with pytest.raises(ValueError, match=r"more than (1|one) value"):
            call(torch.randn(1, 3, 3, 3))


@pytest.mark.parametrize("stem", ["patch", "imagenet"])
def test_gradients_add_up(stem: str) -> None:
    arch = changed(PATCHES, {"stem": stem})
    model, (x, labels) = made(arch), pictures(arch, 8, 28, 28)
    twin, call = copy.deepcopy(model), training_form(model)
    for part in (slice(0, 4), slice(4, 8)):
        trained(model, call, x[part], labels[part])
        trained(twin, twin, x[part], labels[part])
    found, wanted = ({name: p.grad.double() for name, p in net.named_parameters() if p.grad is not None} for net in (model, twin))
    assert_alike(found, wanted)


def test_weights_are_read_at_each_call_and_gradients_lie_as_they_do() -> None:
    model, (x, labels) = made(PATCHES), pictures(PATCHES, 4, 28, 28)
    call = training_form(model)
    first = call(x).detach().clone()
    backend.set_weights(model, random_weights(model.plan, seed=7))
    assert not torch.allclose(call(x), first)
    trained(model, call, x, labels)
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in model.parameters())


def _exchanged(model: backend.ResidualNet) -> None:
    model.layer1[0].conv1 = nn.Conv2d(16, 8, 3, padding=1)


def _hooked(model: backend.ResidualNet) -> None:
    model.layer1.register_forward_hook(lambda *_: None)


def _watched(model: backend.ResidualNet) -> None:
    model.layer1.register_full_backward_hook(lambda *_: None)


def _kept(model: backend.ResidualNet) -> None:
    model.layer2.requires_grad_(False)


@pytest.mark.parametrize("change", [_exchanged, _hooked, _watched, _kept, lambda model: model.double()])
def test_a_model_that_is_not_its_plan_s_is_run_as_it_is(change: Any) -> None:
    model, (x, _) = made(PATCHES), pictures(PATCHES, 4, 28, 28)
    change(model)
    x = x.to(model.fc.weight.dtype)
    found = training_form(model)(x)
    assert found.grad_fn is not None
    assert found.grad_fn.name() != "_WholeBackward"
    assert torch.allclose(found, model(x))


def test_a_frozen_convolution_behind_a_batch_norm_is_run_as_it_is() -> None:
    arch = replace(PATCHES, input_norm=True)
    model, (x, _) = made(arch), pictures(arch, 4, 28, 28)
    backend.freeze_stem(model)
    assert training_form(model)(x).grad_fn.name() != "_WholeBackward"  # type: ignore[union-attr]


def test_gradients_are_given_once() -> None:
    model, (x, _) = made(PATCHES), pictures(PATCHES, 4, 28, 28)
    loss = training_form(model)(x).sum()
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="asked for already"):
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("last", [True, False])
def test_a_frozen_first_layer_answers_in_the_layout_of_the_pictures(last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, _) = made(replace(PATCHES, in_channels=1), last=last), pictures(replace(PATCHES, in_channels=1), 4, 28, 28)
    backend.freeze_stem(model)
    seen, forward = list[bool](), torch_steps.Convolved.forward

    def noted(self: Any, x: Tensor, run: Any) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return forward(self, x, run)

    monkeypatch.setattr(torch_steps.Convolved, "forward", noted)
    training_form(model)(in_layout(x, channels_last=last))
    assert set(seen) == {last}
