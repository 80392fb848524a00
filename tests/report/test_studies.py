"""What a study found is what its page shows: numbers, kinds, verdicts, and where it is smaller than the paper."""

import numpy as np
import pytest

from residual.report import write_report
from residual.report.studies import shown
from residual.study.store import STUDIES
from tests.report.findings import HOSTILE, every, study
from tests.report.test_page import text


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return every(tmp_path_factory.mktemp("results"))


def figure(study, name):
    return next(plot for plot in shown(study.finding, 1).figures if plot.name == f"study1-{name}")


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("responses", ["responses", "sorted", "training"]),
        ("gradients", ["norms", "mlps", "lines"]),
        ("lesion", ["single", "several", "orders"]),
        ("landscape", ["surface0", "contour0", "surface1", "contour1", "contour2", "lines"]),
    ],
)
def test_every_figure_is_there(found, name, figures) -> None:
    assert [plot.name for plot in shown(found[name].finding, 1).figures] == [f"study1-{figure}" for figure in figures]
    assert all(plot.title and plot.label and plot.data for plot in shown(found[name].finding, 1).figures)


def test_responses_are_shown_in_order_and_sorted(found) -> None:
    ordered, by_size = figure(found["responses"], "responses"), figure(found["responses"], "sorted")
    assert [trace["y"] for trace in ordered.data] == [[0.5, 0.25, 0.75], [1.0, 1.5, 1.25]]
    assert by_size.data[1]["y"] == [1.5, 1.25, 1.0]
    assert ordered.data[0]["text"][2] == "conv2 (batch norm)"


def test_responses_over_training_are_shown_by_layer(found) -> None:
    *layers, mean = figure(found["responses"], "training").data
    assert [trace["y"] for trace in layers] == [[1.0, 0.5], [1.0, 0.25], [1.0, 0.75]]
    assert mean["y"] == [1.0, 0.5]
    assert mean["x"] == ["epoch-0", "&lt;i&gt;epoch-1"]


def test_a_plane_s_middle_lines_are_the_loss_in_one_dimension(found) -> None:
    across, up, *others = figure(found["landscape"], "lines").data
    steps = [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert across["x"] == up["x"] == steps
    assert across["y"] == pytest.approx([0.1 + x**2 for x in steps])
    assert up["y"] == pytest.approx([0.1 + 2 * x**2 for x in steps])
    assert len(others) == 2
    assert across["error_y"]["array"] == [0.01] * 9
    assert [trace["showlegend"] for trace in (across, up, *others)] == [True, False, True, False]


def test_plain_is_told_from_residual_without_colour(found) -> None:
    residual, plain = figure(found["responses"], "responses").data
    assert (residual["line"]["dash"], plain["line"]["dash"]) == ("solid", "dash")
    assert residual["marker"]["symbol"] != plain["marker"]["symbol"]


def test_bars_reach_from_the_lowest_to_the_highest(found) -> None:
    trace = figure(found["gradients"], "norms").data[0]
    assert trace["y"] == pytest.approx([0.3, 3.0, 9.0])
    assert trace["error_y"]["array"] == pytest.approx([0.3, 1.0, 0.0])
    assert trace["error_y"]["arrayminus"] == pytest.approx([0.2, 1.0, 0.0])
    several = figure(found["lesion"], "several").data[0]
    assert several["x"] == [1, 2, 3]
    assert several["y"] == pytest.approx([15, 30, 45])
    assert several["error_y"]["arrayminus"] == pytest.approx([5, 10, 15])


def test_errors_after_removal_and_of_the_whole(found) -> None:
    single = figure(found["lesion"], "single")
    assert single.data[0]["x"][1] == "layer1.1"
    assert single.data[0]["y"][1] == pytest.approx(15)
    assert [line["y0"] for line in single.layout["shapes"]] == [8, 8]
    assert figure(found["lesion"], "orders").data[0]["x"] == pytest.approx([1, 0.8, 0.6])


def test_surfaces_share_one_logarithmic_range(found) -> None:
    bowl, walls = figure(found["landscape"], "surface0"), figure(found["landscape"], "surface1")
    loss = found["landscape"].finding.result.surfaces[0].loss
    np.testing.assert_allclose(bowl.data[0]["z"], np.log10(loss), rtol=1e-4)
    assert walls.data[0]["z"][0][0] is None
    assert (bowl.data[0]["cmin"], bowl.data[0]["cmax"]) == (walls.data[0]["cmin"], walls.data[0]["cmax"])
    assert bowl.data[0]["cmin"] == pytest.approx(-1)
    assert bowl.data[0]["cmax"] == pytest.approx(np.log10(3100 - 1000 + 0), abs=0.2)
    assert "alpha -1.00, beta -0.75<br>loss 2.225" in bowl.data[0]["text"][1][0]
    path = next(trace for trace in figure(found["landscape"], "contour2").data if trace.get("name") == "training")
    assert path["x"] == [-0.9, -0.3, 0.0]
    assert "80% and 10%" in figure(found["landscape"], "contour2").caption


def test_the_page_tells_verdicts_sources_scale_and_command(found, tmp_path) -> None:
    said = text(write_report([found["responses"]], tmp_path / "page.html"))
    for verdict in ("agrees", "differs", "within the spread", "too few to tell"):
        assert f"claim {verdict}: {verdict} so it is. a paper" in said
    assert "Smaller than in the paper: 5 of 9 pictures." in said
    assert "To repeat it residual study responses a b" in said
    assert "pictures 5 of 9 of the test split of digits, seed 3 computing 1 min 15 s machine device cpu versions numpy 2" in said
    assert f"{HOSTILE} residual 8 3 0.500 0.750 0.250" in said
    assert "<h1>Layer responses</h1>" in (tmp_path / "page.html").read_text()


def test_several_studies_and_names_that_are_markup(found, tmp_path) -> None:
    content = write_report(list(found.values()), tmp_path / "page.html").read_text()
    assert f"<h1>{len(found)} studies</h1>" in content
    assert HOSTILE not in content
    assert 'data-figure="study4-surface0"' in content
    assert len(content) < 7_000_000


def test_every_study_can_be_opened_into_a_page(found) -> None:
    """A study without a page of its own would show its verdicts only."""
    missing = STUDIES.keys() - found.keys()
    assert not missing, f"no page for {missing}"


def test_a_result_without_figures_still_has_its_table(tmp_path) -> None:
    from residual.study.responses import Result

    empty = study(tmp_path / "empty", "responses", Result(batch_norm="x", layers_told="none", models=(), claims=()))
    assert "Layer responses" in text(write_report([empty], tmp_path / "page.html"))
