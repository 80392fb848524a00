"""The page in a real browser: everything drawn, nothing wider than the window, no request, no complaint, both themes."""

import pytest

from residual.report import write_report
from tests.report.browser import browser, opened
from tests.report.conftest import made_run

HOSTILE = (
    '<img src=x onerror=alert(1)>', "</script><script>alert(2)</script>", "<i>leaf</i>",
    "a class name that goes on and on without a single end in sight",
    *(f"kind {number}" for number in range(20)),
)  # fmt: skip
WIDTHS = (360, 800, 1400)
SINGLE = {"loss", "accuracy", "rate", "steps", "confusion", "calibration"}
# Elements that stick out of the window and lie in nothing that scrolls by itself.
OUTSIDE = """() => [...document.querySelectorAll('main *')].filter(e =>
    e.getBoundingClientRect().right > innerWidth + 1 && e.getBoundingClientRect().width > 0 && !e.closest('.scroll, svg')
).map(e => e.outerHTML.slice(0, 120))"""
DRAWN = """() => [...document.querySelectorAll('[data-figure]')].filter(e => e.querySelector('.js-line, .point, .heatmaplayer image'))
    .map(e => e.dataset.figure)"""


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    base = tmp_path_factory.mktemp("pages")
    hostile = made_run(base / "<b>hostile", classes=HOSTILE)
    young = made_run(base / "young", evaluated=False, status="training", validation=0.0)
    return {
        "single": write_report([made_run(base / "plain")]),
        "hostile": write_report([hostile]),
        "young": write_report([young]),
        "several": write_report([hostile, young, *(made_run(base / f"seed{n}", seed=n) for n in (1, 2))], base / "several.html"),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "figures"),
    [("single", SINGLE), ("hostile", SINGLE), ("young", SINGLE - {"confusion", "calibration"}), ("several", {"loss", "accuracy"})],
)
def test_everything_is_drawn_and_nothing_sticks_out(chromium, pages, name, figures, width):
    with opened(chromium, pages[name], width) as view:
        assert set(view.page.evaluate(DRAWN)) == figures
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        assert view.page.evaluate(OUTSIDE) == []
        view.page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert view.page.evaluate(OUTSIDE) == []
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        assert view.complaints == []
        assert view.requests == []


def test_pictures_and_drawing_are_there(chromium, pages):
    with opened(chromium, pages["single"], 800) as view:
        broken = "[...document.images].filter(i => !i.complete || i.naturalWidth !== 8).length"
        assert view.page.locator("#mistakes img").count() > 0
        assert view.page.evaluate(broken) == 0
        assert view.page.locator("#network rect.block").count() == 5  # stem, three blocks, head
        assert view.page.locator("#network path.arc.padded").count() == 3  # two, and the legend's


def test_names_from_users_stay_text(chromium, pages):
    with opened(chromium, pages["hostile"], 800) as view:
        assert view.page.locator("#classes td:first-child").all_text_contents() == list(HOSTILE)
        assert view.page.locator("img[src=x]").count() == 0
        assert view.page.locator("h1").text_content().startswith("<b>hostile: ")
        ticks = view.page.locator("[data-figure=confusion] .ytick text").all_text_contents()
        assert ticks[:3] == ["<img src=x oner…", "</script><scrip…", "<i>leaf</i>"]


def test_the_theme_follows_the_system_and_the_button(chromium, pages):
    ground = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('[data-figure=loss] .js-line:last-child')).stroke"
    with opened(chromium, pages["single"], 800, "light") as light, opened(chromium, pages["single"], 800, "dark") as dark:
        assert light.page.evaluate(ground) != dark.page.evaluate(ground)
        assert light.page.evaluate(line) != dark.page.evaluate(line)
        before = dark.page.evaluate(line)
        light.page.click("#theme")
        assert light.page.evaluate(ground) == dark.page.evaluate(ground)
        assert light.page.evaluate(line) == before
        light.page.click("#theme")
        assert light.page.evaluate(ground) != dark.page.evaluate(ground)


def test_on_paper_it_is_light_and_unfolded(chromium, pages, tmp_path):
    with opened(chromium, pages["single"], 800, "dark") as view:
        view.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert view.page.evaluate("document.documentElement.dataset.theme") == "light"
        assert view.page.locator("details:not([open])").count() == 0
        view.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert view.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert view.page.locator("details:not([open])").count() > 0
