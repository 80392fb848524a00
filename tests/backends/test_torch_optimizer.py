"""Muon: filters step along their orthogonalised momentum as PyTorch's own optimizer of that name steps matrices, all else as SGD does."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.backends import torch as backend
from residual.backends.torch_optimizer import _FIFTH, _FIRST, _SHARE, _STEPS, _THIRD, orthogonal
from residual.plan import plan
from residual.recipe import Recipe
from tests.nets import SMALL, images, random_weights

RECIPE = Recipe(optimizer="muon", learning_rate=0.2, weight_decay=0.05, momentum=0.8)


def matrix(x: Tensor) -> Tensor:
    return x.flatten(1) if x.ndim == 4 else x


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (64, 2, 3, 3), (12, 12, 1, 1), (5, 40, 1, 1), (1, 7, 3, 3)])
def test_it_is_about_orthogonal_in_every_layout_of_memory(shape: tuple[int, int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (found,) = orthogonal([x])
    values = torch.linalg.svdvals(matrix(found).double())
    before = torch.linalg.svdvals(matrix(x).double())
    assert values.max() < 1.3
    assert values[before > x.norm() / 30].min() > 0.5
    u, _, v = torch.linalg.svd(matrix(x), full_matrices=False)
    assert F.cosine_similarity(matrix(found).flatten(), (u @ v).flatten(), dim=0) > 0.9
    (last,) = orthogonal([x.contiguous(memory_format=torch.channels_last)])
    assert (last - found).abs().max() < 1e-4


def test_its_steps_are_newton_and_schulz_s() -> None:
    """On the small square matrix, as on the large one: a X + b X X' X + c (X X')^2 X."""
    x = torch.randn(6, 20, dtype=torch.float64)
    wanted = x / x.norm()
    for _ in range(_STEPS):
        square = wanted @ wanted.t()
        wanted = _FIRST * wanted + _THIRD * square @ wanted + _FIFTH * square @ square @ wanted
    assert torch.allclose(orthogonal([x])[0], wanted, atol=1e-6)
    assert not orthogonal([torch.zeros(4, 3, 3, 3)])[0].any(), "no gradient, no step"


def test_filters_of_one_size_are_done_together_and_each_for_itself() -> None:
    stream = torch.Generator().manual_seed(0)
    shapes = [(8, 4, 3, 3), (16, 8, 1, 1), (8, 16, 3, 3), (5, 4, 3, 3), (8, 8, 1, 1)]  # 8 rows, 8 columns, 8 rows, 5 rows, 8
    x = [torch.randn(shape, generator=stream) * (1 + at) for at, shape in enumerate(shapes)]
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = [value.contiguous(memory_format=layout) for value in x]
        for found, alone, value in zip(orthogonal(laid), [orthogonal([value])[0] for value in laid], laid, strict=True):
            torch.testing.assert_close(found, alone, atol=1e-6, rtol=1e-5)
            assert found.shape == value.shape


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_steps_as_pytorch_s_muon_and_sgd(layout: torch.memory_format) -> None:
    network = plan(SMALL)
    mine, theirs = (backend.build(network, weights=random_weights(network)).to(memory_format=layout).train() for _ in range(2))  # type: ignore[call-overload]
    found = backend.optimizer(mine, RECIPE)
    copies = {p: nn.Parameter(p.detach().flatten(1).clone()) for p in theirs.parameters() if p.ndim == 4}
    muon = torch.optim.Muon(
        list(copies.values()), lr=_SHARE * RECIPE.learning_rate, weight_decay=RECIPE.weight_decay / _SHARE, momentum=RECIPE.momentum,
        ns_steps=_STEPS, ns_coefficients=(_FIRST, _THIRD, _FIFTH),
    )  # fmt: skip
    flat = [p for p in theirs.parameters() if p.ndim == 2], [p for p in theirs.parameters() if p.ndim == 1]
    sgd = torch.optim.SGD(
        [{"params": flat[0], "weight_decay": RECIPE.weight_decay}, {"params": flat[1], "weight_decay": 0.0}],
        lr=RECIPE.learning_rate, momentum=RECIPE.momentum, nesterov=True,
    )  # fmt: skip
    for turn in range(3):
        stream = torch.Generator().manual_seed(turn)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            q.grad = torch.randn(q.shape, generator=stream)
            p.grad = q.grad.clone()
            if q in copies:
                copies[q].grad = q.grad.flatten(1)
        found.step()
        muon.step()
        sgd.step()
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        wanted = copies[q].detach().view(q.shape) if q in copies else q.detach()
        ratio = max(1.0, len(q) / matrix(q).shape[1]) ** 0.5 if q in copies else 1.0  # PyTorch steps tall matrices by more
        if ratio == 1.0:
            assert (p.detach() - wanted).norm() <= 0.01 * wanted.norm()  # theirs computes in bfloat16
        assert p.stride() == q.stride()


def test_what_it_steps_how() -> None:
    model = backend.build(plan(SMALL))
    filters, matrices, vectors = backend.optimizer(model, RECIPE).param_groups
    assert {p.ndim for p in filters["params"]} == {4}
    assert [p.shape for p in matrices["params"]] == [model.fc.weight.shape]
    assert {p.ndim for p in vectors["params"]} == {1}
    assert [group["weight_decay"] for group in (filters, matrices, vectors)] == [0.05, 0.05, 0.0]
    assert sum(len(group["params"]) for group in (filters, matrices, vectors)) == len(list(model.parameters()))


def test_it_learns() -> None:
    network = plan(SMALL)
    model, x = backend.build(network), images(network, 9, 8, 12)
    labels = torch.arange(12).numpy() % 5
    ends = list(backend.fit(model, [[(x, labels)] * 20], Recipe(optimizer="muon", learning_rate=0.1, warmup=0.0)))
    assert ends[-1].losses[-1] < 0.5 * ends[-1].losses[0]
