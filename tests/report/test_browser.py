"""The page in a real browser: everything drawn, nothing wider than the window, no request, no complaint, both themes."""

import pytest

from residual.report import open_thing, write_report
from tests.report.browser import browser, opened
from tests.report.conftest import made_run
from tests.report.findings import every

HOSTILE = (
    '<img src=x onerror=alert(1)>', "</script><script>alert(2)</script>", "<i>leaf</i>",
    "a class name that goes on and on without a single end in sight",
    *(f"kind {number}" for number in range(20)),
)  # fmt: skip
WIDTHS = (1400, 820, 390)  # in pixels: that which a page is opened in, and those that it is then brought to
SINGLE = {"loss", "accuracy", "rate", "steps", "confusion", "calibration"}
SEVERAL = {"loss", "accuracy", "results"}
LANDSCAPE = {f"study1-{name}" for name in ("surface0", "contour0", "surface1", "contour1", "contour2", "lines")}
# Elements that stick out of the window and lie in nothing that scrolls by itself.
OUTSIDE = """() => [...document.querySelectorAll('main *')].filter(e =>
    e.getBoundingClientRect().right > innerWidth + 1 && e.getBoundingClientRect().width > 0 && !e.closest('.scroll, svg')
).map(e => e.outerHTML.slice(0, 120))"""
DRAWN = """() => [...document.querySelectorAll('[data-figure]')]
    .filter(e => e.querySelector('.js-line, .point, .heatmaplayer image, .contourlevel, canvas'))
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
        "model": write_report([open_thing("resnet50")], base / "model.html"),
        "plain": write_report([open_thing("plain34"), open_thing("cifar_resnet110")], base / "plain.html"),
        **{name: write_report([study], base / f"{name}.html") for name, study in every(base).items()},
    }


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("single", SINGLE),
        ("hostile", SINGLE),
        ("young", SINGLE - {"confusion", "calibration"}),
        ("several", SEVERAL),
        ("model", set()),
        ("plain", set()),
        ("lesion", {"study1-single", "study1-several", "study1-orders"}),
        ("landscape", LANDSCAPE),
    ],
)
def test_everything_is_drawn_and_nothing_sticks_out(chromium, pages, name, figures):
    looked_at(chromium, pages[name], figures, WIDTHS)


@pytest.mark.parametrize(("name", "figures"), [("hostile", SINGLE), ("several", SEVERAL), ("landscape", LANDSCAPE)])
def test_so_it_is_on_a_telephone_from_the_start(chromium, pages, name, figures):
    looked_at(chromium, pages[name], figures, WIDTHS[-1:])


def looked_at(chromium, file, figures, widths):
    """Draws all `figures` in a window of the first of `widths`, and keeps them, and everything inside, in the others."""
    with opened(chromium, file, widths[0]) as view:
        assert set(view.page.evaluate(DRAWN)) == figures
        for width in widths:
            view.page.set_viewport_size({"width": width, "height": 900})
            view.page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = false; })")
            for _ in range(2):  # folded and unfolded
                assert settled(view.page) <= width
                assert view.page.evaluate(OUTSIDE) == []
                view.page.evaluate("document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert set(view.page.evaluate(DRAWN)) == figures
        assert view.complaints == []
        assert view.requests == []


def settled(page):
    """The page's width, in pixels: plots follow a new window a moment later."""
    for _ in range(50):
        if page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
            break
        page.wait_for_timeout(100)
    return page.evaluate("document.documentElement.scrollWidth")


def test_pictures_and_drawing_are_there(chromium, pages):
    with opened(chromium, pages["single"], 800) as view:
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert view.page.locator("#mistakes img").count() > 0
        assert view.page.evaluate(broken) == 0
        assert view.page.locator("#mistakes li").count() == view.page.locator("#mistakes img.look").count()
        assert view.page.locator("#network .filters img").count() == 16
        assert view.page.locator("#network rect.block").count() == 9  # the stem's, two in each of three blocks, the head's two
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
        view.page.emulate_media(media="print")
        paper = view.page.pdf(path=tmp_path / "page.pdf", width="210mm", height="297mm")
        assert paper.startswith(b"%PDF")
        assert not view.page.locator("#theme").is_visible()


def test_boxes_tell_their_shapes_under_pointer_and_focus(chromium, pages):
    with opened(chromium, pages["model"], 820) as view:
        tip = view.page.locator("#tip")
        assert not tip.is_visible()
        view.page.locator(".network g.layer").nth(2).hover()
        assert tip.is_visible()
        assert tip.text_content().startswith("layer1.0.conv1: 1×1 convolution")
        assert "4,096 parameters" in tip.text_content()
        view.page.keyboard.press("Escape")
        assert not tip.is_visible()
        view.page.locator(".network g.shortcut").first.focus()
        assert tip.text_content().startswith("layer1.0: shortcut with a 1×1 convolution")
        box = "document.getElementById('tip').getBoundingClientRect()"
        inside = f"{box}.left >= 0 && {box}.right <= innerWidth && {box}.top >= 0 && {box}.bottom <= innerHeight"
        assert view.page.evaluate(inside)
        view.page.locator(".network g.layer:visible").last.hover()
        assert view.page.evaluate(inside)


def test_like_blocks_unfold(chromium, pages):
    """resnet50 draws eight of its 16 blocks until they are unfolded."""
    with opened(chromium, pages["model"], 1400) as view:
        arcs = view.page.locator(".network g.shortcut:visible")
        assert arcs.count() == 8
        view.page.locator("details.fold > summary").nth(2).click()  # layer3: one, and one that stands for five
        assert arcs.count() == 12
        view.page.locator("details.fold > summary").nth(2).click()
        assert arcs.count() == 8
        view.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert arcs.count() == 8


def until(view, condition):
    """Waits until a script's condition holds; playwright's own way of waiting needs eval, which the page forbids."""
    for _ in range(100):
        if view.page.evaluate(condition):
            return
        view.page.wait_for_timeout(100)
    raise AssertionError(f"not within 10 seconds: {condition}")


def test_a_surface_turns_by_its_slider_and_by_the_mouse(chromium, pages):
    eye = "Object.values(document.querySelector('[data-figure=study1-surface0]')._fullLayout.scene._scene.getCamera().eye)"
    with opened(chromium, pages["landscape"], 1400) as view:
        before = view.page.evaluate(eye)
        view.page.locator("[data-turns=study1-surface0]").fill("-90")
        until(view, f"{eye}[1] < -1")
        x, y, z = view.page.evaluate(eye)
        assert abs(x) < 1e-6
        assert z == pytest.approx(before[2])
        assert y == pytest.approx(-((before[0] ** 2 + before[1] ** 2) ** 0.5))
        surface = view.page.locator("[data-figure=study1-surface0]")
        surface.scroll_into_view_if_needed()
        box = surface.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        view.page.mouse.move(x, y)
        view.page.mouse.down()
        for step in range(1, 6):  # the surface follows from frame to frame
            view.page.mouse.move(x + 10 * step, y + step)
            view.page.wait_for_timeout(60)
        view.page.mouse.up()
        until(view, f"Math.abs({eye}[0]) > 0.1")
        dragged = view.page.evaluate(eye)
        assert abs(dragged[2] - before[2]) > 0.02
        view.page.locator("[data-turns=study1-surface0]").fill("0")  # goes on from where the mouse left it
        until(view, f"Math.abs({eye}[1]) < 1e-6")
        assert view.page.evaluate(eye)[2] == pytest.approx(dragged[2], abs=1e-3)
        view.page.click("#theme")  # another theme draws anew, from the same side
        until(view, "document.documentElement.dataset.drawn === 'dark'")
        assert view.page.evaluate(eye)[2] == pytest.approx(dragged[2], abs=1e-3)
        assert view.complaints == []
