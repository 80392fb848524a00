"""The recipes by name, each with its source and what it gave here.

`default` and `speed` are only starting points: `choose` fits them to the data and the machine and says in words what it picked.
"""

from dataclasses import dataclass
from typing import Any

from residual.recipe import Recipe, adjusted
from residual.spelling import nearest


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A recipe, where it is from, and what was measured with it (docs/performance.md has the commands).

    Attributes:
        fitted: what the user leaves open is fitted to the data and the machine by `choose`.
    """

    recipe: Recipe
    source: str
    measured: str
    fitted: bool = False


_PAPER = Recipe(
    momentum=0.9, nesterov=False, weight_decay=1e-4, decay_norm_and_bias=True, learning_rate=0.1, schedule="steps", step_factor=0.1,
    warmup=0.0, label_smoothing=0.0, flip="random", crop_mode="zero", precision="float32",
)  # fmt: skip

RECIPES: dict[str, Entry] = {
    "default": Entry(
        recipe=Recipe(),
        source="fitted to the data and the machine when training starts; every pick is printed and kept in run.json",
        measured="Fashion-MNIST, digits and flowers: the table in README.md",
        fitted=True,
    ),
    "speed": Entry(
        recipe=Recipe(time=10.0),
        source="`default` with ten seconds of training: for a first look, and for the least time to a good answer",
        measured="Fashion-MNIST: docs/performance.md, section Accuracy by time",
        fitted=True,
    ),
    "strong": Entry(
        recipe=Recipe(
            model="wrn_16_8", epochs=100, batch_size=256, learning_rate=0.2, warmup=0.05, schedule="cosine", flip="alternate",
            crop_padding=2, erasing=0.25, ema=0.999, views="mirrored", compile=True,
        ),
        source="the highest accuracy on small pictures, for a GPU: a wide net (Zagoruyko and Komodakis 2016, table 4) with random erasing "
        "(Zhong et al. 2017, table 1) and averaged weights",
        measured="not run: it is for a GPU",
    ),
    "d2l": Entry(
        recipe=Recipe(
            model="resnet18_d2l", image_size=96, epochs=10, batch_size=256, learning_rate=0.05, momentum=0.0, nesterov=False,
            weight_decay=0.0, schedule="constant", warmup=0.0, label_smoothing=0.0, centering="none", validation=0.0, precision="float32",
        ),
        source="Zhang et al., Dive into Deep Learning, chapter Residual Networks: loss 0.012, train 0.997, test 0.893 (PyTorch)",
        measured="docs/performance.md, section The chapter's run",
    ),
    "paper-cifar": Entry(
        recipe=adjusted(
            _PAPER,
            dict(model="cifar_resnet20", batch_size=128, epochs=182, milestones=(0.5, 0.75), crop_padding=4, centering="pixel"),
        ),
        source="He et al. 2015, section 4.2: 64k iterations on a 45k/5k split (182 epochs), rate divided by 10 at 32k and 48k; nets of 110 "
        "layers and more start at 0.01 until the training error is under 80 %",
        measured="not run in full here: 182 epochs are for a GPU",
    ),
    "paper-imagenet": Entry(
        recipe=adjusted(
            _PAPER,
            dict(
                model="resnet50_v1", image_size=224, crop=0.875, batch_size=256, epochs=120, milestones=(0.25, 0.5, 0.75),
                crop_scale=((224 / 480) ** 2, (224 / 256) ** 2), crop_ratio=(1.0, 1.0), lighting=0.1, centering="pixel",
            ),
        ),
        source="He et al. 2015, section 3.4: 600k iterations of 256 (120 epochs), scale and colour augmentation. The paper divides the "
        "rate by 10 'when the error plateaus'; here at 30, 60 and 90 epochs, as in fb.resnet.torch",
        measured="not run in full here: ImageNet is for a GPU",
    ),
}  # fmt: skip


def recipe(name: str = "default", **changes: Any) -> Recipe:
    """The recipe `name` with fields replaced. ValueError for an unknown name or field, with the nearest right one."""
    if name not in RECIPES:
        raise ValueError(f"No recipe is named {name!r}.{nearest(name, RECIPES)} Recipes: {', '.join(RECIPES)}.")
    return adjusted(RECIPES[name].recipe, changes)
