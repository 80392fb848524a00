"""`residual study degradation`: puts a training of PyTorch and the study together; the study itself trains nothing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from residual.cli.study import show
from residual.recipe import Recipe

if TYPE_CHECKING:
    from residual.layers import Network
    from residual.weights import Weights

_QUIET = arg(help_behavior_hint="")
_HINT = "(default: the paper's; with --small less)"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a user may leave open. `count` is pictures, held out ones included, 0 all; `side` 0 is the pictures' own."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    epochs: int
    seeds: int
    count: int
    side: int


PAPER = Scale(depths=(20, 32, 44, 56), widths=(16, 32, 64), epochs=182, seeds=3, count=0, side=0)
SMALL = Scale(depths=(8, 20, 44), widths=(8, 16, 32), epochs=12, seeds=3, count=4000, side=16)


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Trains plain and residual nets of several depths: training and validation error by epoch, from several seeds.

    The paper's claims: among plain nets deeper is worse, in training error; among residual nets deeper is better. Gradient norms stand
    beside it. DATA is what `residual train` takes; only its training pictures are used.
    """

    data: Positional[Annotated[str, arg(metavar="DATA", help_behavior_hint="")]] = "cifar10"
    """Pictures to train on."""
    depths: Annotated[str, arg(metavar="N,N,...", help_behavior_hint=_HINT)] = ""
    """Layers of the nets: 6n + 2 each."""
    widths: Annotated[str, arg(metavar="N,N,N", help_behavior_hint=_HINT)] = ""
    """Channels of the three stages."""
    epochs: Annotated[int | None, arg(help_behavior_hint=_HINT)] = None
    """Passes over the training pictures."""
    seeds: int = 3
    """Trainings of each net; 3 are needed for a verdict."""
    count: Annotated[int | None, arg(help_behavior_hint=_HINT)] = None
    """Training pictures, held-out ones included; 0 is all."""
    side: Annotated[int | None, arg(help_behavior_hint=_HINT)] = None
    """Height and width that pictures are brought to; 0 is their own."""
    out: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="(default: results/degradation)")] = ""
    """Where the result is kept; a study that was stopped goes on from there, and one with more depths or seeds keeps what is there."""
    small: Annotated[bool, _QUIET] = False
    """Narrow nets on few small pictures: minutes on a laptop."""
    json: Annotated[bool, _QUIET] = False
    """Print JSON: the object that result.json holds."""

    def run(self) -> int:
        from functools import partial

        from residual.study.degradation import Grid, study
        from residual.study.gradients import by_layer
        from residual.training import curves

        scale = self._scale()
        recipe = recipe_of(scale, small=self.small)
        ground = curves.ground(self.data, recipe, count=scale.count)
        widths: Any = scale.widths
        grid = Grid(
            depths=scale.depths, widths=widths, seeds=scale.seeds, in_channels=ground.channels, num_classes=ground.classes
        )  # fmt: skip
        images, labels = ground.sample()

        def norms(network: "Network", weights: "Weights") -> dict[str, float]:
            return {name: norm for name, (norm, _) in by_layer(network, weights, images, labels).items()}

        told = {name: value for name, value in asdict(recipe).items() if value != asdict(Recipe())[name] and name != "model"}
        finding = study(
            partial(curves.train, ground), norms, grid, settings={"recipe": told}, data=ground.told,
            scaled_down=scaled_down(scale, ground.told), out=self.out or "results/degradation",
        )  # fmt: skip
        show(finding, self, table(finding.result))
        return 0

    def _scale(self) -> Scale:
        base = SMALL if self.small else PAPER
        given = [base.epochs if self.epochs is None else self.epochs, base.count if self.count is None else self.count]
        return Scale(
            depths=numbers(self.depths, "depths") if self.depths else base.depths,
            widths=numbers(self.widths, "widths") if self.widths else base.widths,
            epochs=given[0], seeds=self.seeds, count=given[1], side=base.side if self.side is None else self.side,
        )  # fmt: skip


def recipe_of(scale: Scale, *, small: bool) -> Recipe:
    """The paper's recipe; in small mode without augmentation, in smaller batches, and with a fall of the rate that so few steps need."""
    from residual.training.recipes import recipe

    found = recipe("paper-cifar", epochs=scale.epochs, image_size=scale.side)
    if not small:
        return found
    return replace(found, flip="none", crop_padding=0, centering="channel", batch_size=32, schedule="triangle", warmup=0.1)


def scaled_down(scale: Scale, data: dict[str, Any]) -> tuple[str, ...]:
    """Sentences on what differs from figure 6."""
    told = []
    if scale.depths != PAPER.depths:
        told.append(f"Depths {_told(scale.depths)} instead of {_told(PAPER.depths)}.")
    if scale.widths != PAPER.widths:
        told.append(f"Widths {_told(scale.widths)} instead of {_told(PAPER.widths)}.")
    if scale.epochs != PAPER.epochs:
        told.append(f"{scale.epochs} epochs instead of {PAPER.epochs}.")
    if data["count"] < data["of"]:
        told.append(f"{data['count']:,} of {data['of']:,} pictures, {data['held_out']:,} of them held out.")
    if data["size"] != [32, 32]:
        told.append(f"Pictures of {data['size'][0]}x{data['size'][1]} instead of 32x32.")
    if data["name"] != "cifar10":
        told.append(f"{data['name']} instead of CIFAR-10.")
    return tuple(told)


def numbers(text: str, name: str) -> tuple[int, ...]:
    """Whole numbers separated by commas or spaces. ValueError for anything else."""
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"--{name} is {text!r}, but must be whole numbers separated by commas, such as 8,20,44.")
    return tuple(map(int, parts))


def table(result: Any) -> Sequence[Sequence[str]]:
    rows = [["last epoch", "layers", "parameters", "training error", "validation error", "seeds"]]
    for net in result.nets:
        errors = [f"{e.mean:.1%} ({e.low:.1%} to {e.high:.1%})" for e in (net.final_train, net.final_validation)]
        rows.append([net.kind, str(net.depth), f"{net.parameters:,}", *errors, str(net.final_train.count)])
    return rows


def _told(values: Sequence[int]) -> str:
    return "-".join(map(str, values))
