"""A headless Chromium for the tests that look at the page; they are skipped, with the reason, where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# WebGL in software, for the surfaces
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# What Chromium says of the speed of WebGL in software, and of plotly.js measuring text; both are no faults.
_SPEED = ("GPU stall due to ReadPixels", "Canvas2D: Multiple readback operations", "Automatic fallback to software WebGL")


@dataclass(kw_only=True)
class View:
    """A page that was opened, what it asked for besides itself, and what it complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium; the test is skipped where it or playwright is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason="the page is looked at with playwright, which is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def opened(chromium: Any, file: Path, width: int, scheme: str = "light") -> Iterator[View]:
    """The page in a window of this width, its plots drawn."""
    view = View(page=chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
    own = file.resolve().as_uri()
    view.page.on("request", lambda request: view.requests.append(request.url) if _leaves(request.url, own) else None)
    view.page.on("console", lambda message: None if any(s in message.text for s in _SPEED) else view.complaints.append(message.text))
    view.page.on("pageerror", lambda error: view.complaints.append(str(error)))
    view.page.on("dialog", lambda dialog: (view.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    view.page.goto(own)
    view.page.wait_for_selector("html[data-drawn]", timeout=30_000)
    yield view
    view.page.close()


def _leaves(url: str, own: str) -> bool:
    return url != own and not url.startswith(("data:", "blob:"))
