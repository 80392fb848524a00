"""The page of a reproduction: the verdict first, every number with its spread, all that was scaled down."""

from residual.report.reproduction import markdown, table
from residual.study.claims import Claim
from residual.study.reproduction import Curve, Published, Result, judge
from residual.study.store import Finding

ERROR = Published(what="ResNet-20, test error", value=8.75, digits=2, unit="%", source="He 2015")
COUNT = Published(what="ResNet-50, multiply-adds", value=3.8, digits=1, unit="billion", source="He 2015", rule="digits")
LOST = Published(what="ResNet-32, test error", value=7.51, digits=2, unit="%", source="He 2015")


def finding(*, scaled: tuple[str, ...] = (), claims: tuple[Claim, ...] = (), curves: tuple[Curve, ...] = ()) -> Finding:
    rows = (judge(ERROR, [8.0, 9.0, 10.0]), judge(COUNT, [3.858, 3.858]), judge(LOST, []))
    result = Result(
        target="table6", title="Errors", source="He et al. 2015", mode="small", rules=("A rule.",), rows=rows, claims=claims,
        curves=curves, notes=("A note.",), verdict="differs", lacks=("not measured",), told="differs (not measured)",
    )  # fmt: skip
    return Finding(
        study="reproduction", settings={}, scaled_down=scaled, data={"name": "letters", "count": 10, "of": 2000, "split": "train"},
        machine={"name": "a machine", "threads": 2}, versions={"python": "3"}, seconds=3661.5, command="residual reproduce table6",
        result=result,
    )  # fmt: skip


def test_the_table_has_mean_deviation_and_margin() -> None:
    rows = table(finding().result)
    assert rows[1] == ["ResNet-20, test error", "8.75 %", "9.00 +- 1.00 (margin 2.49) %", "3", "agrees", "He 2015"]
    assert rows[2] == ["ResNet-50, multiply-adds", "3.8 billion", "3.858 billion", "2", "differs", "He 2015"]
    assert rows[3] == ["ResNet-32, test error", "7.51 %", "-", "0", "not measured to tell", "He 2015"]


def test_the_page_says_all_there_is() -> None:
    claim = Claim(claim="Deeper is lower", source="figure 7", verdict="agrees", reason="0.1 and 0.2.")
    curves = (Curve(net="ResNet-20", seed=4, train=(0.5, 0.25), validation=()),)
    lines = markdown(finding(scaled=("4 epochs instead of 182.",), claims=(claim,), curves=curves)).splitlines()
    assert lines[:3] == ["# table6: Errors", "", "Source: He et al. 2015. **Verdict: differs (not measured).**"]
    for line in (
        "- **Deeper is lower: agrees.** 0.1 and 0.2. (figure 7)", "| ResNet-20 | 4 | 2 | 25.0% | - |", "## Scaled down",
        "- 4 epochs instead of 182.", "- A rule.", "- A note.", "- `residual reproduce table6`",
        "- Data: letters, 10 of 2,000 pictures of the train split.", "- Machine: a machine, 2 thread(s); 3,662 s.", "- Versions: python 3.",
    ):  # fmt: skip
        assert line in lines
    assert all(len(line.split("|")) == len(lines[4].split("|")) for line in lines[4:9])


def test_nothing_scaled_down_has_no_section() -> None:
    assert "Scaled down" not in markdown(finding())
