"""How `default` shows pictures to a net: mirrored, shifted or cropped, easy ones left out; and in how many views at the end."""

from typing import Any

from residual.architecture import Architecture
from residual.preprocessing import Views
from residual.recipe import Recipe
from residual.training.ladder import MANY, SMALL, Data

_BY_HEART = 6.0  # passes from which many centred pictures are shifted by a pixel
_ERASED, _ERASING = 12.0, 0.3  # passes from which rectangles are erased in such a share of them
_MIRRORED = 2.5  # passes below which they are not mirrored
_PRUNED = 0.75  # of the easy ones
_EASY = 0.73  # of all pictures, by the losses of 16-32-64 on Fashion-MNIST; 0.72 by the linear classifier


def augmentation(
    data: Data, size: tuple[int, int], arch: Architecture, passes: float, fixed: dict[str, Any], reasons: list[str]
) -> dict[str, Any]:
    """Mirroring, shifts or crops, erased rectangles. Many grey pictures of the data's own small size are taken to be centred, as
    Fashion-MNIST's are: a net learns more of them without shifts, until it knows them by heart."""
    centred = max(data.size) <= SMALL and data.count >= MANY and data.channels == 1
    if "flip" in fixed:
        flip, told = fixed["flip"], f"mirroring as you set it, {fixed['flip']}"
    elif all(len(name.strip()) == 1 for name in data.classes):
        flip, told = "none", "no mirroring, since the classes are single characters"
    elif centred and (arch.out_widths[0] < 32 or passes < _MIRRORED):
        flip, told = "none", "no mirroring, from which so small a net, or so short a training, does not gain"
    else:
        flip, told = "alternate", "every picture mirrored in every second epoch"
    if max(data.size) > SMALL:
        reasons.append(f"Augmentation: random crops of 35 to 100 % of the area; {told}.")
        return {"flip": flip, "crop_scale": (0.35, 1.0), "crop": 0.875} | _views(flip, False, fixed, reasons)
    padding = fixed.get("crop_padding", int(passes >= _BY_HEART) if centred else max(1, min(size) // 8))
    shifts = f"shifts by up to {padding} pixel(s)" if padding else "no shifts, since there are many centred grey pictures"
    if "crop_padding" in fixed:
        shifts = f"shifts as you set them, by up to {padding} pixel(s)"
    erasing = fixed.get("erasing", _ERASING if centred and passes >= _ERASED else 0.0)
    erased = f"; a rectangle erased in {erasing:.0%} of them" if erasing else ""
    reasons.append(f"Augmentation: {shifts}; {told}{erased}.")
    return {"flip": flip, "crop_padding": padding, "erasing": erasing} | _views(flip, centred, fixed, reasons)


def _views(flip: str, shifted: bool, fixed: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """The mirror image where training mirrors, and shifts of centred pictures: 0.2 to 0.4 points each for nets of Fashion-MNIST."""
    views: Views = ("both" if shifted else "mirrored") if flip != "none" else ("shifts" if shifted else "one")
    told = {"mirrored": "its mirror image", "shifts": "its four shifts by a pixel", "both": "its mirror image and the four shifts of each"}
    if views in told and "views" not in fixed:
        reasons.append(f"Views: of a picture that the net is not sure of, also {told[views]}; the answer is the mean.")
    return {"views": views}


def pruning(recipe: Recipe, data: Data, fixed: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """Easy pictures of many are left out, as many epochs more are trained: 0.4 points on Fashion-MNIST in 60 s, 0.6 in 2 s, where the first
    epoch leaves out too. Grey ones only: it lost 2 on CIFAR-10, of which few are easy after so short a training."""
    free = bool(recipe.time) or "epochs" not in fixed  # the first of a user's epochs shows everything
    start = fixed.get("pruning_from", 1 if free and max(data.size) <= SMALL else 2)
    once = start == 2 and recipe.epochs == 1 and not recipe.time
    if data.count < MANY or data.channels > 1 or recipe.mixup or recipe.cutmix or once or "data_pruning" in fixed:
        return {}
    judged = "the net" if start == 2 else "a linear classifier, then the net,"
    since = "from the second epoch on " if start == 2 else ""
    reasons.append(f"Easy pictures: {since}three in four on which the loss of {judged} is below its mean are left out, anew each epoch.")
    whole = start - 1
    return {"data_pruning": _PRUNED, "pruning_from": start, "epochs": whole + round((recipe.epochs - whole) / (1 - _EASY * _PRUNED))}


def passes_of(recipe: Recipe) -> float:
    """How often an average picture is trained on."""
    whole = recipe.pruning_from - 1
    return whole + (recipe.epochs - whole) * (1 - _EASY * recipe.data_pruning)
