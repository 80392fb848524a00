"""A grown network computes what the old one did, by the NumPy reference and in a training step; what cannot grow is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from residual.architecture import Architecture
from residual.backends import torch as backend
from residual.plan import plan
from residual.preprocessing import Preprocessing
from residual.reference import forward
from residual.study import grow
from residual.study.grow import grown, target
from residual.variants import VARIANTS, architecture
from residual.weights import SavedModel, Weights
from tests.nets import LOOKALIKES, images, random_weights, scaled_down

FAMILIES = {
    name: scaled_down(VARIANTS[name])
    for name in ("resnet18", "resnet50", "resnet18_d2l", "cifar_resnet20", "preact_resnet18", "preact_resnet50", "se_resnet50", "wrn_16_8")
} | {
    "keras_resnet50v2": scaled_down(LOOKALIKES["keras_resnet50v2"]),
    "gluon_resnet50_v2": scaled_down(LOOKALIKES["gluon_resnet50_v2"]),
    "relu-only-preact": replace(scaled_down(VARIANTS["preact_resnet18"]), order="relu-only-preact"),
    "dropout": replace(scaled_down(VARIANTS["preact_resnet18"]), dropout=0.3, drop_path=0.2),
}  # fmt: skip


def _saved(arch: Architecture, seed: int = 0) -> SavedModel:
    return SavedModel(architecture=arch, weights=random_weights(plan(arch), seed))


def _deeper(arch: Architecture) -> Architecture:
    return replace(arch, depths=tuple(depth + 1 + (stage % 2) for stage, depth in enumerate(arch.depths)))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_function_is_the_same(name: str) -> None:
    saved = _saved(FAMILIES[name])
    found = grown(saved, _deeper(saved.architecture))
    old, new = plan(saved.architecture), plan(found.saved.architecture)
    x = images(old, 33, 34)
    before, after = forward(old, saved.weights, x)["logits"], forward(new, found.saved.weights, x)["logits"]
    np.testing.assert_allclose(after, before, atol=1e-12, rtol=0)
    assert found.difference <= 1e-5
    assert len(found.added) == len(list(new.blocks())) - len(list(old.blocks()))
    assert found.parameters == tuple(sum(v.size for v in w.values()) for w in (saved.weights, found.saved.weights))


def _step(arch: Architecture, weights: Weights, x: torch.Tensor, y: torch.Tensor, steps: int = 1) -> tuple[list[float], torch.nn.Module]:
    """The losses of `steps` steps of gradient descent in training mode, and the model with its last gradients."""
    model, losses = backend.build(plan(arch)), []
    backend.set_weights(model, weights)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return losses, model


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "cifar_resnet20", "preact_resnet18", "se_resnet50"])
def test_training_goes_on_from_the_same_loss(name: str) -> None:
    saved = _saved(FAMILIES[name])
    found = grown(saved, _deeper(saved.architecture))
    network = plan(saved.architecture)
    x, y = torch.from_numpy(images(network, 24, 24, count=16)), torch.arange(16) % network.num_classes
    before, _ = _step(saved.architecture, saved.weights, x, y)
    after, model = _step(found.saved.architecture, found.saved.weights, x, y, steps=2)
    assert after[0] == pytest.approx(before[0], rel=1e-5)
    silent = [
        parameter_name
        for parameter_name, parameter in model.named_parameters()
        if parameter_name.startswith(found.added) and not (parameter.grad is not None and parameter.grad.abs().sum() > 0)
    ]
    assert not silent  # from the second step on every new tensor learns


def test_old_blocks_keep_their_place() -> None:
    saved = _saved(replace(scaled_down(VARIANTS["resnet18"]), depths=(1, 2, 1, 2)))
    found = grown(saved, replace(saved.architecture, depths=(2, 2, 3, 4)))
    assert found.added == ("layer1.1", "layer3.1", "layer3.2", "layer4.2", "layer4.3")
    for name, value in saved.weights.items():
        np.testing.assert_array_equal(found.saved.weights[name], value)
    assert not found.saved.weights["layer1.1.bn2.weight"].any()
    assert found.saved.weights["layer1.1.conv2.weight"].any()
    other = grown(saved, replace(saved.architecture, depths=(2, 2, 3, 4)), seed=1)
    assert (other.saved.weights["layer1.1.conv1.weight"] != found.saved.weights["layer1.1.conv1.weight"]).any()


def test_the_last_block_stays_last_where_it_carries_the_stride() -> None:
    saved = _saved(FAMILIES["keras_resnet50v2"])
    found = grown(saved, replace(saved.architecture, depths=(2, 2, 4, 2)))
    assert found.added == ("layer3.1", "layer3.2")
    np.testing.assert_array_equal(found.saved.weights["layer3.3.conv1.weight"], saved.weights["layer3.1.conv1.weight"])
    single = _saved(replace(saved.architecture, depths=(1, 1, 1, 1)))
    with pytest.raises(ValueError, match=r"layer1\.0 would change its shape as layer1\.0"):
        grown(single, replace(single.architecture, depths=(2, 1, 1, 1)))


def test_classes_and_preprocessing_travel() -> None:
    arch = scaled_down(VARIANTS["cifar_resnet20"])
    cleaned = Preprocessing(size=(20, 24), channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    saved = replace(_saved(arch), classes=tuple("abcdefg"), preprocessing=cleaned)
    found = grown(saved, _deeper(arch)).saved
    assert (found.classes, found.preprocessing) == (saved.classes, cleaned)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shortcut": "none"}, "A plain network cannot grow: without a shortcut"),
        ({"shortcut": "projection-all"}, "'projection-all' cannot grow"),
        ({"order": "bn-after-addition"}, "'bn-after-addition' cannot grow"),
        ({"order": "relu-before-addition"}, "'relu-before-addition' cannot grow"),
    ],
)
def test_what_has_no_identity_is_refused(changes: dict[str, str], sentence: str) -> None:
    arch = replace(scaled_down(VARIANTS["resnet18"]), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=sentence):
        grown(_saved(arch), _deeper(arch))


def test_targets() -> None:
    arch = architecture("resnet18", num_classes=10, in_channels=1)
    assert target(arch, "resnet34") == architecture("resnet34", num_classes=10, in_channels=1)
    assert target(arch, "2,3,2,2").depths == (2, 3, 2, 2)
    assert target(VARIANTS["resnet50"], "resnet101").depths == (3, 4, 23, 3)
    assert target(VARIANTS["cifar_resnet20"], "cifar_resnet56").depths == (9, 9, 9)
    assert target(VARIANTS["preact_resnet18"], "preact_resnet34").depths == (3, 4, 6, 3)
    for to, sentence in (
        ("resnet50", "which has out_widths=.*only the number of blocks may differ"),
        ("resnet43", "Did you mean 'resnet34'"),
        ("resnet18", "nothing to grow: resnet18 has 2-2-2-2 blocks"),
        ("3,1,2,2", "can only grow: 3,1,2,2 has 3-1-2-2 blocks a stage, and the model 2-2-2-2"),
        ("3,3", "depths=\\(3, 3\\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            target(arch, to)


def test_a_model_that_does_not_compute_the_same_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = _saved(scaled_down(VARIANTS["resnet18"]))
    whole = grow.deepened
    monkeypatch.setattr(grow, "deepened", lambda *a, **k: {name: value * 1.001 for name, value in whole(*a, **k).items()})
    with pytest.raises(ValueError, match="its logits differ by up to"):
        grown(saved, _deeper(saved.architecture))
