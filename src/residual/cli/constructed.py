"""`residual study nesting` and `residual study blocks`: studies that need no data and no model of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from residual.cli.study import show

_QUIET = arg(help_behavior_hint="")


@dataclass(frozen=True, kw_only=True)
class Nesting:
    """Nested against other function classes on a toy problem: the best loss that each size can reach.

    Spans of random functions, whose best loss is exact, and networks of more and more blocks, which are trained.
    """

    seeds: int = 10
    """Draws of everything that is random."""
    sizes: int = 16
    """Functions in the largest span."""
    depths: int = 6
    """Blocks of the deepest network."""
    out: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="(default: results/nesting)")] = ""
    """Where the result is kept; a study that was stopped goes on from there."""
    small: Annotated[bool, _QUIET] = False
    """3 seeds and 4 blocks at most."""
    json: Annotated[bool, _QUIET] = False
    """Print JSON: the object that result.json holds."""

    def run(self) -> int:
        from residual.study.nesting import study

        out = self.out or "results/nesting"
        finding = study(seeds=self.seeds, sizes=self.sizes, depths=self.depths, out=out, small=self.small)
        show(finding, self, _nesting(finding.result))
        return 0


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Basic, bottleneck, pre-activation and Inception blocks side by side: parameters, multiply-adds, receptive field, memory, speed.

    Also what removing Inception's paths leaves, two 3x3 against one 5x5, and what 1x1 convolutions save.
    """

    side: int = 56
    """Height and width of the maps that the first stage's blocks get; Inception gets half of it."""
    batch: int = 16
    """Pictures in a timed batch; 0 times nothing."""
    rounds: int = 9
    """Timed rounds; the median is shown."""
    out: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="(default: results/blocks)")] = ""
    """Where the result is kept."""
    json: Annotated[bool, _QUIET] = False
    """Print JSON: the object that result.json holds."""

    def run(self) -> int:
        from residual.study.blocks import study

        finding = study(batch=self.batch, rounds=self.rounds, side=self.side, out=self.out or "results/blocks")
        show(finding, self, _blocks(finding.result))
        return 0


def _nesting(result: Any) -> Sequence[Sequence[str]]:
    rows = [["best loss by size", "smallest", "middle", "largest", "larger was worse"]]
    for found in result.classes:
        chosen = (0, (len(found.sizes) - 1) // 2, len(found.sizes) - 1)
        cells = [f"{found.sizes[n]}: {found.loss[n].mean:.4f} +- {found.loss[n].std:.4f}" for n in chosen]
        rows.append([found.label, *cells, f"{found.worse:.0%} of steps"])
    return rows


def _blocks(result: Any) -> Sequence[Sequence[str]]:
    header = ["block", "case", "parameters", "conv weights", "multiply-adds", "sees", "memory", "forward", "and backward"]
    rows = [header]
    for design in (*result.blocks, *result.left, *result.kernels, *result.savings):
        speed = [f"{1e3 * timing.median:.1f} ms" if timing else "-" for timing in (design.forward, design.both)]
        rows.append([
            design.label, design.case, f"{design.parameters:,}", f"{design.conv_weights:,}", f"{design.macs / 1e6:.1f} M",
            f"{design.receptive_field}x{design.receptive_field}", f"{design.memory / 2**20:.1f} MiB", *speed,
        ])  # fmt: skip
    return rows
