"""Every text can be read in the light and in the dark theme. WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""

import pytest

from residual.report import open_thing, write_report
from tests.report.browser import browser, opened
from tests.report.conftest import made_run
from tests.report.findings import responses_result, study

LUMINANCE = """
  const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const pixels = (colour) => {
    probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = pixels(colour).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (pixels(colour)[3] === 255) return colour;
    }
    return 'white';
  };
"""
TEXTS = f"""() => {{ {LUMINANCE}
  const told = (e) => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('main *, header *')].filter(e => e.offsetParent && told(e) && !e.closest('svg'))
    .map(e => [ratio(getComputedStyle(e).color, ground(e)), e.outerHTML.slice(0, 90)]);
}}"""
BOXES = f"""() => {{ {LUMINANCE}
  const fill = (g, what) => getComputedStyle(g.querySelector(what)).fill;
  return [...document.querySelectorAll('g.layer')].map(g => ratio(fill(g, 'text'), fill(g, 'rect')));
}}"""
LINES = f"""() => {{ {LUMINANCE}
  return [...document.querySelectorAll('path.arc')].map(p => ratio(getComputedStyle(p).stroke, ground(p.closest('section'))));
}}"""


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("contrast")
    result = study(base / "study", "responses", responses_result())
    return write_report([made_run(base / "run"), result, open_thing("resnet50")], base / "page.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_boxes_and_arcs_stand_out(chromium, page, scheme):
    with opened(chromium, page, 820, scheme) as view:
        texts = view.page.evaluate(TEXTS)
        assert len(texts) > 100
        assert [told for told in texts if told[0] < 4.5] == []
        boxes = view.page.evaluate(BOXES)
        assert len(boxes) > 50
        assert min(boxes) > 4.5
        assert min(view.page.evaluate(LINES)) > 3  # WCAG 2.2, 1.4.11: graphics need 3 to 1
