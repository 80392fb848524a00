"""`residual study NAME`: one experiment of the papers on models of one's own; each study is one row of STUDIES and one class of options.

A study's class may lie in a module of its own: only the one that was asked for is imported.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from residual.study.bench import Ask
    from residual.study.store import Finding

_QUIET = arg(help_behavior_hint="")

# name -> (module, dataclass of its options, one line)
STUDIES: dict[str, tuple[str, str, str]] = {
    "responses": ("residual.cli.study", "Responses", "how strongly each layer responds: He et al. 2015, figure 7"),
    "gradients": ("residual.cli.study", "Gradients", "gradient norms by layer, and shattered gradients: Balduzzi et al. 2017"),
    "lesion": ("residual.cli.study", "Lesion", "blocks removed and reordered: Veit et al. 2016"),
    "degradation": ("residual.cli.degradation", "Degradation", "plain and residual nets as depth grows: He et al. 2015, figures 1 and 6"),
    "nesting": ("residual.cli.constructed", "Nesting", "nested and other function classes on a toy problem: best loss by size"),
    "blocks": ("residual.cli.constructed", "Blocks", "basic, bottleneck, pre-activation and Inception blocks: cost, reach, speed"),
    "landscape": ("residual.cli.landscape", "Landscape", "the loss around the weights, with and without shortcuts: Li et al. 2018"),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every study of models can be asked for."""

    models: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL...", help_behavior_hint="")]]
    """Runs, model files (of any known library) or variants from `residual list`, which start from the first values of --seed."""
    data: Annotated[str, arg(metavar="DATA", help_behavior_hint="(default: the first run's own)")] = ""
    """The pictures: a catalog name, a folder or a hub name."""
    split: Annotated[str, arg(metavar="SPLIT")] = "test"
    """train, validation or test; a run notes that its test split was looked at."""
    count: int = 1000
    """Pictures, drawn at random by --seed, the same for every model; 0 is all."""
    seed: int = 0
    """Of the drawn pictures, of first values, and of all else that is drawn."""
    out: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="(default: results/STUDY)")] = ""
    """Where the result is kept; a study that was stopped goes on from there."""
    small: Annotated[bool, _QUIET] = False
    """Fewer pictures and repetitions: minutes on a laptop."""
    json: Annotated[bool, _QUIET] = False
    """Print JSON: the object that result.json holds."""

    def ask(self, study: str) -> "Ask":
        from residual.study.bench import Ask

        return Ask(
            models=self.models, data=self.data or None, split=self.split, count=self.count, seed=self.seed,
            out=self.out or f"results/{study}", small=self.small,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Responses(Options):
    """Standard deviation of each layer's response, in layer order and sorted, for models side by side.

    The paper's claims: residual nets respond less than their plain twins, and deeper residual nets less than shallow ones.
    """

    path: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="")] = ""
    """A run that was trained with --snapshots True, or model files of one training in the order of their names, the last one being a MODEL:
    also its responses at each stop of its training."""

    def run(self) -> int:
        from residual.study.responses import study

        finding = study(self.ask("responses"), self.path)
        show(finding, self, _responses(finding.result))
        return 0


@dataclass(frozen=True, kw_only=True)
class Gradients(Options):
    """Norm of the loss gradient by layer, at first values and trained, and how alike gradients at neighbouring inputs are by depth."""

    def run(self) -> int:
        from residual.study.gradients import study

        finding = study(self.ask("gradients"))
        show(finding, self, _gradients(finding.result))
        return 0


@dataclass(frozen=True, kw_only=True)
class Lesion(Options):
    """The error of trained models with blocks removed, one and several, and with blocks in another order; nothing is trained again."""

    def run(self) -> int:
        from residual.study.lesion import study

        finding = study(self.ask("lesion"))
        show(finding, self, _lesion(finding.result))
        return 0


def show(finding: "Finding", options: Any, table: Sequence[Sequence[str]]) -> None:
    """Prints a finding: as JSON, or what it was made from, `table` (its first row is the header), the verdicts and where it lies."""
    if options.json:
        from residual.study.plain import to_plain
        from residual.study.store import FORMAT

        print(json.dumps({"format": FORMAT, **to_plain(finding)}, indent=1))
        return
    data = finding.data
    if data:
        print(f"{data['count']:,} of {data['of']:,} pictures of the {data['split']} split of {data['name']} (seed {data['seed']})")
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print(
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    for claim in finding.result.claims:
        print(f"\n{claim}\n  ({claim.source})")
    if finding.scaled_down:
        print(f"\nScaled down: {' '.join(finding.scaled_down)}")
    print(f"{finding.seconds:.1f} s. Result: {options.out or f'results/{finding.study}'}/result.json")


def _responses(result: Any) -> list[list[str]]:
    rows = [["model", "layers", "mean std", "largest", "smallest", "state"]]
    for model in (*result.models, *result.training):
        ends = [f"{value:.3f}" for value in (model.mean, model.sorted[0], model.sorted[-1])]
        rows.append([model.label, str(len(model.layers)), *ends, "trained" if model.trained else "first values"])
    return rows


def _gradients(result: Any) -> list[list[str]]:
    rows = [["gradient norm", "state", "first layer", "last convolution", "largest", "smallest", "draws"]]
    for model in result.models:
        values = [layer.norm.mean for layer in model.layers]
        ends = (values[0], values[max(len(values) - 2, 0)], max(values), min(values))
        rows.append([model.label, model.state, *(f"{value:.3g}" for value in ends), str(model.draws)])
    return rows


def _lesion(result: Any) -> list[list[str]]:
    rows = [["error", "whole", "one block less", "worst block", "half the blocks less", "chance"]]
    for model in result.models:
        single = [part.error for part in model.single if part.unit == "block"]
        middle = model.several[(len(model.several) - 1) // 2].error if model.several else None
        rows.append([
            model.label, f"{model.whole:.1%}", f"{sum(single) / len(single):.1%}" if single else "-",
            f"{max(single):.1%}" if single else "-", f"{middle.mean:.1%} +- {middle.std:.1%}" if middle else "-", f"{result.chance:.1%}",
        ])  # fmt: skip
    return rows
