"""Degradation, nesting, blocks and reproductions: the page holds their numbers, with the spread of the seeds."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from residual.report import write_report
from residual.report.comparisons import blocks, degradation, nesting, reproduction
from residual.study.claims import Spread
from tests.report.comparison_findings import blocks_result, degradation_result, nesting_result, reproduction_result
from tests.report.findings import study


def named(shown, name):
    return next(figure for figure in shown.figures if figure.name == name)


def test_plain_and_residual_nets_by_epoch_and_by_depth() -> None:
    found = degradation(degradation_result())
    names = [figure.name for figure in found.figures]
    assert names == ["plain-train", "plain-validation", "residual-train", "residual-validation", "depth", "norms"]
    deep = named(found, "plain-train").data[1]
    assert (deep["name"], deep["line"]["dash"]) == ("14 layers", "dash")
    assert deep["y"] == pytest.approx([50, 30])
    plain, residual = named(found, "depth").data
    assert (plain["x"], residual["x"]) == ([8, 14], [8, 14])
    assert plain["y"] == pytest.approx([20, 30])
    assert named(found, "plain-validation").data[1]["y"] == pytest.approx([60, 40])
    assert residual["y"] == pytest.approx([10, 5])
    assert plain["error_y"]["array"] == pytest.approx([1, 1])
    assert found.tables[0].rows[1] == ["14", "plain", "14,000", "30.0% (29.0% to 31.0%)", "40.0% (39.0% to 41.0%)"]


def test_gradients_are_those_of_the_deepest_nets() -> None:
    data = named(degradation(degradation_result()), "norms").data
    assert [trace["name"] for trace in data] == ["plain, first values", "plain, trained", "residual, first values", "residual, trained"]
    assert data[0]["y"] == pytest.approx([1.5, 2.0])
    assert data[1]["y"] == pytest.approx([0.1, 0.2])


def test_nested_is_beside_not_nested() -> None:
    found = nesting(nesting_result())
    assert [figure.name for figure in found.figures] == ["spans", "nets", "target"]
    nested, other = named(found, "spans").data
    assert (nested["line"]["dash"], other["line"]["dash"]) == ("solid", "dash")
    assert nested["x"] == [1, 2, 4]
    assert nested["y"] == pytest.approx([2, 0.5, 0.25])
    assert nested["error_y"]["array"] == pytest.approx([1, 0, 0])
    assert [row[-1] for row in found.tables[0].rows] == ["0%", "50%", "25%"]
    np.testing.assert_allclose(named(found, "target").data[0]["y"], nesting_result().target_y, rtol=1e-6)


def test_blocks_are_tables_with_the_counts_of_the_study() -> None:
    result = blocks_result()
    found = blocks(result)
    assert [len(table.rows) for table in found.tables] == [
        len(part) for part in (result.blocks, result.left, result.kernels, result.savings)
    ]
    first = result.blocks[0]
    assert found.tables[0].rows[0][:2] == [first.label, first.case]
    assert found.tables[0].rows[0][4:6] == [f"{first.parameters:,}", f"{first.macs:,}"]
    assert named(found, "parameters").data[0]["x"] == pytest.approx([design.parameters / 1000 for design in result.blocks])
    assert len(named(found, "macs").data[0]["y"]) == len(set(named(found, "macs").data[0]["y"])) == len(result.blocks)
    assert "Nothing was timed." in found.sentences


def test_a_reproduction_has_the_published_beside_the_measured() -> None:
    found = reproduction(reproduction_result())
    assert found.title == "table6: CIFAR-10"
    assert found.sentences[0] == "Verdict: agrees. Source: He et al. 2015."
    assert {"A rule.", "A note."} <= set(found.sentences)
    assert [row[0] for row in found.tables[0].rows] == ["ResNet-20, test error", "ResNet-56, test error"]
    assert "8.75" in found.tables[0].rows[0][1]
    residual, plain = named(found, "train").data
    assert (residual["line"]["dash"], plain["line"]["dash"]) == ("solid", "dash")
    assert plain["y"] == pytest.approx([90, 20])


def test_what_was_not_held_out_is_left_out_and_the_page_stays_readable(tmp_path) -> None:
    """A validation error that is not a number has no place in JSON."""
    result = degradation_result()
    nothing = Spread(mean=math.nan, std=math.nan, low=math.nan, high=math.nan, count=2)
    nets = tuple(replace(net, validation_error=(nothing, nothing), final_validation=nothing) for net in result.nets)
    found = study(tmp_path / "study", "degradation", replace(result, nets=nets))
    content = write_report([found], tmp_path / "page.html").read_text()
    plots = json.loads(re.search(r'id="figures">(.*?)</script>', content)[1], parse_constant=pytest.fail)
    assert set(plots) == {"study1-plain-train", "study1-residual-train", "study1-depth", "study1-norms"}
    assert "30.0% (29.0% to 31.0%)" in content
