"""What a PyTorch user does to a model: train, compile, export, copy, store, autocast; and dropout of units and of branches."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.architecture import Architecture, Order, changed
from residual.backends import torch as backend
from residual.plan import plan
from residual.recipe import Recipe
from residual.variants import VARIANTS
from residual.weights import Weights
from tests.nets import DISTINCT, SMALL, images, random_weights, scaled_down


def _model(arch: Architecture = SMALL) -> backend.ResidualNet:
    network = plan(arch)
    return backend.build(network, weights=random_weights(network))


def _x(model: backend.ResidualNet, height: int = 9, width: int = 12, count: int = 2) -> Tensor:
    return torch.from_numpy(images(model.plan, height, width, count))


def _close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.fixture
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", DISTINCT)
def test_gradients_reach_every_parameter_and_are_finite(name: str) -> None:
    model = _model(DISTINCT[name]).train()
    F.cross_entropy(model(_x(model, 17, 18, 4)), torch.tensor([0, 1, 2, 3])).backward()  # type: ignore[no-untyped-call]
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any() or parameter.ndim == 1, key


@pytest.mark.parametrize("order", get_args(Order))
def test_gradients_are_those_of_differences(order: Order) -> None:
    """In-place ReLUs must not touch what the gradient needs."""
    model = _model(replace(SMALL, order=order, se_reduction=2)).double()
    x = _x(model).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: model(values).sum(1), x, eps=1e-6, atol=1e-4, nondet_tol=0.0, fast_mode=True)


@pytest.mark.usefixtures("_seeded")
def test_dropout_acts_in_training_only_and_keeps_the_expectation() -> None:
    model = _model(changed(SMALL, {"dropout": 0.5}))
    block = model.get_submodule("layer1.0")
    x = torch.rand(1, 4, 6, 6)
    still = block(x)
    assert torch.equal(block(x), still)
    drop = block.get_submodule("dropout").train()
    assert not torch.equal(block(x), still)
    assert [type(layer).__name__ for layer in block.children()].index("Dropout") == 3
    ones = torch.ones(200_000)
    assert drop(ones).mean() == pytest.approx(1, abs=0.01)


@pytest.mark.usefixtures("_seeded")
def test_a_dropped_path_leaves_the_shortcut_and_the_expectation() -> None:
    """Each sample loses its branch whole, with the planned probability; what is kept is scaled up."""
    arch = changed(SMALL, {"drop_path": 0.6, "depths": (2, 1), "order": "relu-before-addition"})
    assert [block.drop_path for block in plan(arch).blocks()] == pytest.approx([0.2, 0.4, 0.6])
    block = _model(arch).get_submodule("layer1.1")
    x = torch.rand(1, 4, 5, 5)
    branch = block(x) - x
    for module in block.children():
        module.eval()
    block.training = True  # the block itself trains, its batch norms do not
    found = block(x.expand(4000, -1, -1, -1)) - x
    dropped = (found.abs().amax((1, 2, 3)) < 1e-6).float()
    assert dropped.mean() == pytest.approx(0.4, abs=0.03)
    _close(found[dropped == 0], (branch / 0.6).expand(int((1 - dropped).sum()), -1, -1, -1))
    _close(found.mean(0), branch[0], 0.05)
    block.eval()
    _close(block(x) - x, branch)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # PyTorch's own, while it compiles
@pytest.mark.parametrize(
    ("arch", "backend"),  # a graph that breaks does so before any backend sees it; one net is compiled to machine code as well
    [(SMALL, "inductor"), *((DISTINCT[name], "eager") for name in ("resnet50d", "se_resnet50", "preact_resnet50", "resnet18_d2l"))],
    ids=["small", "resnet50d", "se_resnet50", "preact_resnet50", "resnet18_d2l"],
)
def test_compile_without_graph_breaks(arch: Architecture, backend: str) -> None:
    model = _model(arch)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    x = _x(model, 33, 32)
    _close(compiled(x), model(x), 1e-4)


def test_export() -> None:
    for name in ("cifar_resnet20", "se_resnet50", "preact_resnet18"):
        model = _model(scaled_down(VARIANTS[name]))
        x = _x(model, 33, 32)
        exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
        more = _x(model, 33, 32, count=5)
        _close(exported.module()(more), model(more))


@pytest.mark.parametrize("name", ["cifar_resnet20", "resnet50d", "resnext50_32x4d", "se_resnet50"])
def test_channels_last_is_equal(name: str) -> None:
    model = _model(scaled_down(VARIANTS[name]))
    x = _x(model, 33, 32)
    wanted = model(x)
    _close(model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last)), wanted)


def test_bfloat16_autocast_trains() -> None:
    model = _model(changed(SMALL, {"drop_path": 0.3})).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(_x(model, count=4))
        loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 3]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_copies_and_pickles_are_equal_and_apart() -> None:
    model = _model(scaled_down(VARIANTS["resnet50"]))
    x = _x(model, 32, 32)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert twin.plan == model.plan
        nn.init.zeros_(twin.fc.weight)
        assert model.fc.weight.any()


def test_fit_learns() -> None:
    model = _model(changed(SMALL, {"num_classes": 2}))
    stream = np.random.default_rng(0)
    labels = stream.integers(0, 2, 64)
    x = (stream.standard_normal((64, 3, 8, 8)) + (2 * labels - 1)[:, None, None, None]).astype(np.float32)
    epochs = [[(x[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]] * 6
    ends = list(backend.fit(model, epochs, Recipe(learning_rate=0.05, warmup=0.0, label_smoothing=0.0)))
    assert [end.epoch for end in ends] == [1, 2, 3, 4, 5, 6]
    assert [end.steps for end in ends] == [4, 8, 12, 16, 20, 24]
    assert len(ends[0].losses) == 4
    assert ends[-1].train_loss < 0.3 * ends[0].train_loss
    assert ends[-1].train_accuracy > 0.95
    assert not model.training


def test_fit_follows_the_schedule_and_decays_matrices_only() -> None:
    model = _model()
    before = backend.get_weights(model)
    x, y = images(model.plan, 8, 8, 4), np.asarray([0, 1, 2, 3])
    still = Recipe(schedule="constant", learning_rate=1e-12, warmup=0.0)
    list(backend.fit(model, [[(x, y)]], still))
    after = backend.get_weights(model)
    assert all(np.allclose(after[name], value, atol=1e-6) for name, value in before.items() if "running" not in name)
    assert not np.allclose(after["bn1.running_mean"], before["bn1.running_mean"])
    groups = backend.optimizer(model, Recipe(weight_decay=0.25)).param_groups
    assert [(group["weight_decay"], {p.ndim > 1 for p in group["params"]}) for group in groups] == [(0.25, {True}), (0.0, {False})]
    (group,) = backend.optimizer(model, Recipe(weight_decay=0.25, decay_norm_and_bias=True)).param_groups
    assert group["weight_decay"] == 0.25


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_optimizer_takes_the_steps_of_pytorch_in_every_layout_of_memory(name: str, layout: torch.memory_format) -> None:
    """The fused step reads memory as it lies: gradients and momentum must lie as their parameters do."""
    recipe = Recipe(optimizer=name, weight_decay=0.01, learning_rate=0.1)
    models = [_model().to(memory_format=layout).train() for _ in range(2)]  # type: ignore[call-overload]
    mine = backend.optimizer(models[0], recipe)
    groups = [{**group, "params": theirs} for group, theirs in zip(mine.param_groups, _parted(models[1]), strict=True)]
    wanted = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]([{**group, "fused": False} for group in groups])
    assert type(mine).__mro__[1] is type(wanted)
    x = _x(models[0], 17, 18, 4)
    for _ in range(3):
        for model, optimizer in zip(models, (mine, wanted), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), torch.tensor([0, 1, 2, 3])).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        mine.load_state_dict(mine.state_dict())
    for (key, found), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        _close(found, other.detach(), 1e-3)
        assert found.stride() == other.stride(), key


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_and_momenta_may_lie_otherwise_and_begin_later(layout: torch.memory_format) -> None:
    models = [_model().to(memory_format=layout) for _ in range(2)]  # type: ignore[call-overload]
    mine = backend.optimizer(models[0], Recipe(weight_decay=0.01, learning_rate=0.1))
    groups = [{**group, "params": theirs} for group, theirs in zip(mine.param_groups, _parted(models[1]), strict=True)]
    wanted = torch.optim.SGD([{**group, "fused": False} for group in groups])
    for turn in range(4):
        stream = torch.Generator().manual_seed(turn)
        for place, (p, q) in enumerate(zip(models[0].parameters(), models[1].parameters(), strict=True)):
            if turn == 0 and place % 3 == 0:
                continue  # its first gradient comes later
            q.grad = torch.randn(q.shape, generator=stream)
            p.grad = q.grad.to(memory_format=(torch.channels_last, torch.contiguous_format)[turn % 2]) if p.ndim == 4 else q.grad.clone()
        for optimizer in (mine, wanted):
            optimizer.step()
        state = mine.state_dict()
        for value in state["state"].values():
            value["momentum_buffer"] = value["momentum_buffer"].contiguous()
        mine.load_state_dict(state)
    for found, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        _close(found, other.detach(), 1e-6)


def _parted(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    return [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]


def test_training_imports_no_compiler(tmp_path: Path) -> None:
    """PyTorch's optimizers, and its tensors without memory, import it when they are used: two seconds of every start."""
    script = """
import sys, residual
residual.train("digits", model="cifar_resnet8", epochs=1, precision="bfloat16", ema=0.9, views="mirrored", out=sys.argv[1])
sys.exit(" ".join({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)) or 0)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_momentum_goes_on_in_every_layout_of_memory(layout: torch.memory_format) -> None:
    x, y = images(plan(SMALL), 8, 8, 4), np.asarray([0, 1, 2, 3])
    batches, recipe = [[(x, y)], [(x, y)]], Recipe(learning_rate=0.05, warmup=0.0)
    whole, parts = (_model().to(memory_format=layout) for _ in range(2))  # type: ignore[call-overload]
    list(backend.fit(whole, batches, recipe))
    velocity: Weights = {}
    next(backend.fit(parts, batches, recipe, velocity=velocity))
    list(backend.fit(parts, batches, recipe, velocity=velocity, first=1))
    for name, value in backend.get_weights(whole).items():
        assert np.array_equal(backend.get_weights(parts)[name], value), name


def test_a_model_is_built_of_any_arrays_and_on_the_cpu() -> None:
    network = plan(SMALL)
    weights = random_weights(network)
    odd = {name: np.asfortranarray(value[::-1].astype(">f8"))[::-1] for name, value in weights.items()}
    with torch.device("meta"):
        model = backend.build(network, weights=odd)
    assert {(value.device.type, value.is_contiguous()) for value in model.state_dict().values()} == {("cpu", True)}
    assert all(np.array_equal(value, weights[name]) for name, value in backend.get_weights(model).items())
    assert not any(np.shares_memory(value.numpy(), odd[name]) for name, value in model.state_dict().items() if name in odd)
