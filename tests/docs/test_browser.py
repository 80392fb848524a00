"""The site in headless Chromium, opened from the disk: nothing cut off, nothing fetched, no complaint; search and dark mode work."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import DOCS
from tests.report.browser import browser

ROOT = DOCS.parent
PAGES = ("index", "chapter/block", "chapter/exercises", "papers", "reference/architecture", "reference/commands", "parity", "ja/index")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copy(ROOT / "zensical.toml", folder)
    subprocess.run([sys.executable, str(ROOT / "scripts" / "docs_pages.py"), str(folder / "build" / "docs")], check=True, timeout=300)
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=folder, check=True, timeout=300, capture_output=True)
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_cut_off_or_fetched(site: Path, chromium: Any, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width}"
        assert page.locator("article h1").first.is_visible()
    page.close()
    assert not complaints


def test_search_works_without_a_server(site: Path, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Control+k")
    page.keyboard.type("bottleneck")
    page.get_by_text("The bottleneck").first.wait_for(timeout=20_000)
    page.close()


def test_tabs_and_dark_mode_can_be_switched(site: Path, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    page.goto((site / "chapter" / "block.html").as_uri())
    page.locator("label", has_text="MXNet").first.click()
    assert page.get_by_text("from residual.backends.mxnet import ResidualBlock").is_visible()
    seen = set()
    for _ in range(3):
        page.locator("[data-md-component=palette] label:not([hidden])").first.click()
        page.wait_for_timeout(100)
        seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.close()
    assert len(seen) == 2
