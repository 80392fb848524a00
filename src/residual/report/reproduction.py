"""A reproduction as a short page in Markdown: the verdict first, then the numbers, then all that was smaller than in the paper."""

from collections.abc import Sequence

from residual.study.reproduction import Result, Row, in_words
from residual.study.store import Finding

_HEADER = ["", "published", "here", "values", "verdict", "source"]


def table(result: Result) -> list[list[str]]:
    """A header and a row for each published number."""
    return [_HEADER, *([row.what, _number(row.published, row), _measured(row), *_told(row)] for row in result.rows)]


def markdown(finding: Finding) -> str:
    """The page of a finding whose result is a reproduction's."""
    result: Result = finding.result
    lines = [f"# {result.target}: {result.title}", "", f"Source: {result.source}. **Verdict: {result.told}.**", ""]
    if result.rows:
        lines += _rows(table(result))
    for claim in result.claims:
        lines += [f"- **{claim.claim}: {claim.verdict}.** {claim.reason} ({claim.source})"]
    lines += [""] * bool(result.claims)
    if result.curves:
        lines += ["Error after the last epoch, in training (as augmented) and on held-out pictures:", "", *_curves(result)]
    for title, sentences in (("Scaled down", finding.scaled_down), ("How the verdicts come about", result.rules), ("Notes", result.notes)):
        if sentences:
            lines += [f"## {title}", "", *(f"- {sentence}" for sentence in sentences), ""]
    lines += ["## How it was made", "", *_made(finding), ""]
    return "\n".join(lines)


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    header, *body = rows
    return [*(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *body)), ""]


def _curves(result: Result) -> list[str]:
    rows = [["net", "seed", "epochs", "training error", "validation error"]]
    for curve in result.curves:
        ends = [f"{values[-1]:.1%}" if values else "-" for values in (curve.train, curve.validation)]
        rows.append([curve.net, str(curve.seed), str(len(curve.train)), *ends])
    return _rows(rows)


def _made(finding: Finding) -> list[str]:
    told, data, machine = [f"- `{finding.command}`"], finding.data, finding.machine
    if data:
        count = f", {data['count']:,} of {data['of']:,} pictures of the {data['split']} split" if "count" in data else ""
        told.append(f"- Data: {data['name']}{count}.")
    name = machine.get("name") or ", ".join(machine.get("names", ()))
    if name:
        threads = f", {machine['threads']} thread(s)" if "threads" in machine else ""
        told.append(f"- Machine: {name}{threads}; {finding.seconds:,.0f} s.")
    told.append(f"- Versions: {', '.join(f'{name} {number}' for name, number in finding.versions.items())}.")
    return told


def _number(value: float, row: Row) -> str:
    return f"{value:,.{row.digits}f} {row.unit}".rstrip()


def _measured(row: Row) -> str:
    """The mean with its deviation and, where it decides, the margin; a count with the digits that show how it was rounded."""
    if row.spread is None:
        return "-"
    digits = row.digits + (2 if row.rule == "digits" and row.digits else 0)
    if row.rule == "digits":
        return ", ".join(dict.fromkeys(f"{value:,.{digits}f}" for value in row.values)) + f" {row.unit}".rstrip()
    told = f"{row.spread.mean:,.{digits}f}"
    told += f" +- {row.spread.std:.{digits}f}" if row.spread.count > 1 else ""
    told += f" (margin {row.margin:.{digits}f})" if row.margin is not None else ""
    return f"{told} {row.unit}".rstrip()


def _told(row: Row) -> list[str]:
    return [str(len(row.values)), in_words(row.verdict, row.lacks), row.source]


__all__ = ["markdown", "table"]
