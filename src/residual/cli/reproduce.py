"""`residual reproduce TARGET`: a table or figure of the papers made again, beside the published numbers, with a verdict."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from residual.study.store import Finding

_QUIET = arg(help_behavior_hint="")
PAGE = "result.md"


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """A table or figure of the papers, made again: mean and spread beside the published value, and a verdict.

    TARGET is table1, table6, fig6, fig7, table2-2016, d2l or landscape. table1 only counts; the others train nets by the paper's protocol
    (--full, for a GPU) or by a smaller one (--small, for two cores), or read runs that are there (--run). A verdict is "agrees", "differs",
    or that there were too few seeds, that things were scaled down, or other data, to tell; all that was scaled down is named.
    """

    target: Positional[Annotated[str, arg(metavar="TARGET", help_behavior_hint="")]] = ""
    """What to reproduce."""
    seeds: Annotated[int, arg(help_behavior_hint="(default: the protocol's)")] = 0
    """Trainings of each net; 3 are needed for a verdict on a number."""
    small: Annotated[bool, _QUIET] = False
    """The smaller protocol: minutes to an hour on two cores. The default without a GPU."""
    full: Annotated[bool, _QUIET] = False
    """The paper's protocol. The default with a GPU."""
    data: Annotated[str, arg(metavar="DATA", help_behavior_hint="(default: the paper's)")] = ""
    """Other pictures: a catalog name, a folder or a hub name."""
    run_folders: Annotated[tuple[str, ...], arg(name="run", metavar="RUN...", help_behavior_hint="")] = ()
    """Read these runs, finished or not, instead of training; for fig6 the result of a `residual study degradation`."""
    out: Annotated[str, arg(metavar="FOLDER", help_behavior_hint="(default: results/TARGET)")] = ""
    """Where result.json and result.md are written; trainings are kept in runs/reproduce, and go on from there when stopped."""
    json: Annotated[bool, _QUIET] = False
    """Print JSON: the object that result.json holds."""

    def run(self) -> int:
        from residual.cli.reproducing import Order, reproduce
        from residual.report.reproduction import markdown
        from residual.study import store
        from residual.study.plain import to_plain
        from residual.study.targets import TARGETS, target
        from residual.weights import write_whole

        if not self.target:
            raise ValueError(f"`residual reproduce` needs a TARGET: {', '.join(TARGETS)}.")
        wanted = target(self.target)
        small = self._small(wanted.kind)
        if self.run_folders and (self.data or self.seeds):
            raise ValueError("--run reads the data and seeds of the runs: leave out --data and --seeds.")
        if wanted.kind == "count" and (self.run_folders or self.data or self.seeds):
            raise ValueError(f"{wanted.name} is counted, not trained: leave out --run, --data and --seeds.")
        work = Path("runs/reproduce") / "-".join(
            [wanted.name, "small" if small else "full", *([Path(self.data).name] if self.data else [])]
        )
        finding = reproduce(wanted, Order(small=small, seeds=self.seeds, data=self.data, runs=self.run_folders, work=work))
        out = Path(self.out or f"results/{wanted.name}")
        store.save(finding, out)
        write_whole(out / PAGE, markdown(finding).encode())
        if self.json:
            print(json.dumps({"format": store.FORMAT, **to_plain(finding)}, indent=1))
        else:
            _print(finding, out)
        return 0

    def _small(self, kind: str) -> bool:
        if self.small and self.full:
            raise ValueError("--small and --full are two protocols: choose one.")
        if self.small or self.full or kind == "count":
            return self.small
        from residual.training.machine import machine

        return machine().device == "cpu"


def _print(finding: "Finding", out: Path) -> None:
    from residual.report.reproduction import table

    result = finding.result
    print(f"{result.title} ({result.source})")
    rows = table(result)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows if len(rows) > 1 else []:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for claim in result.claims:
        print(f"\n{claim}\n  ({claim.source})")
    for sentence in finding.scaled_down:
        print(f"Scaled down: {sentence}")
    print(f"Verdict: {result.told}. {finding.seconds:.0f} s. Result: {out}/{PAGE}")


__all__ = ["PAGE", "Reproduce"]
