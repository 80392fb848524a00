"""`residual study landscape`: the loss around trained weights, with and without shortcuts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import arg

from residual.cli.study import Options, show


@dataclass(frozen=True, kw_only=True)
class Landscape(Options):
    """The loss on planes of filter-normalised random directions around trained weights, and along the path of a training.

    Name a net and its plain twin (two runs) to have the paper's claims tested; three pairs of directions (--seeds 3) are needed for that.
    """

    split: Annotated[str, arg(metavar="SPLIT")] = "train"
    """train, validation or test; the paper shows the loss on the training pictures. A run notes that its test split was looked at."""
    points: int = 25
    """Points along each side of the grid: an odd number (the paper: 51)."""
    radius: float = 1.0
    """How far the planes reach; 1 moves each filter by its own norm."""
    seeds: int = 1
    """Planes of random directions for each model."""
    bn: Literal["inference", "batch"] = "inference"
    """Batch norm's statistics: the running ones, kept, as in the paper's code, or those of the pictures at each point."""
    path: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """A run that was trained with --snapshots True, or model files of one training in the order of their names, the last one being a MODEL:
    shows its path in a plane."""

    def run(self) -> int:
        from residual.study.landscape import Options as Wanted
        from residual.study.landscape import study

        wanted = Wanted(points=self.points, radius=self.radius, seeds=self.seeds, statistics=self.bn, path=self.path)
        finding = study(self.ask("landscape"), wanted)
        show(finding, self, table(finding.result))
        return 0


def table(result: Any) -> Sequence[Sequence[str]]:
    """A header and a row for each surface; the loss at the weights has its standard error where a subset was measured."""
    rows = [["model", "plane", "loss at the weights", "highest", "within 1.0", "rise at half", "curvature", "not convex"]]
    for surface in result.surfaces:
        shape = surface.shape
        row, column = (size // 2 for size in surface.loss_bar.shape)
        drawn = surface.plane == "random" and result.pictures < result.population
        bar = f" +- {surface.loss_bar[row, column]:.3f}" if drawn else ""
        rows.append([
            surface.label, "path" if surface.plane == "path" else f"seed {surface.seed}", f"{surface.center_loss:.3f}{bar}",
            f"{shape.highest:.3g}", f"{shape.within[2]:.0%}", f"{shape.rises[1].mean:.3g}" if shape.rises else "-",
            f"{sum(shape.curvature) / 2:.3g}" if shape.curvature else "-", f"{shape.nonconvex:.0%}",
        ])  # fmt: skip
    return rows
