"""The site is built as `make docs` builds it, and every link, image and file in it is there, inside the site."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.blocks import DOCS

ROOT = DOCS.parent
NAMED = re.compile(r"`((?:src|tests|benchmarks|scripts|examples)/[\w/.-]+\.py)(?:::([\w.]+))?`")


class Links(HTMLParser):
    """What a page points to, what it fetches, and the places in it that can be pointed to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pointed: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.places |= {value for key in ("id", "name") if (value := found.get(key))}
        if tag == "a" and found.get("href"):
            self.pointed.append(found["href"] or "")
        if tag in ("img", "script", "source", "iframe") and found.get("src"):
            self.fetched.append(found["src"] or "")
        if tag == "link" and found.get("rel") != "canonical" and found.get("href"):
            self.fetched.append(found["href"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning of the strict build is a failure."""
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copy(ROOT / "zensical.toml", folder)
    for command in (
        [sys.executable, str(ROOT / "scripts" / "docs_pages.py"), str(folder / "build" / "docs")],
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def found(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_internal_link_and_image_resolves(site: Path, found: dict[Path, Links]) -> None:
    pages = [path for path in found if path.name != "404.html"]  # served for any address, so its links are absolute
    assert len(pages) > 30
    assert sum(len(found[path].pointed) + len(found[path].fetched) for path in pages) > 1000
    broken = []
    for path in pages:
        for target in (*found[path].pointed, *found[path].fetched):
            address = urlsplit(target)
            if address.scheme or address.netloc:
                continue
            aim = (path.parent / unquote(address.path)).resolve() if address.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            if not aim.is_file() or site.resolve() not in aim.resolve().parents:
                broken.append(f"{path.relative_to(site)} -> {target}")
            elif address.fragment and aim in found and unquote(address.fragment) not in found[aim].places:
                broken.append(f"{path.relative_to(site)} -> {target} (no such place)")
    assert not broken


def test_nothing_is_fetched_from_another_place(found: dict[Path, Links]) -> None:
    away = {target for links in found.values() for target in links.fetched if urlsplit(target).netloc}
    assert not away


def test_every_page_is_in_the_navigation(site: Path) -> None:
    def named(entries: list[object]) -> Iterator[str]:
        for entry in entries:
            assert isinstance(entry, dict)
            for value in entry.values():
                yield from named(value) if isinstance(value, list) else (value,)

    wanted = {str(path.relative_to(site.parent / "docs")) for path in (site.parent / "docs").rglob("*.md")}
    reproduced = {page for page in wanted if page.startswith("results/")}  # these are listed on the results page
    results = (site.parent / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"]({page})" in results for page in reproduced)
    listed = list(named(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
    assert sorted(listed) == sorted(wanted - reproduced)


def test_the_reference_has_the_public_surface(site: Path) -> None:
    import residual

    text = (site.parent / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    elsewhere = {"VARIANTS", "Architecture", "Network", "__version__"}
    missing = [name for name in residual.__all__ if name not in elsewhere and f"### `{name}`" not in text]
    assert not missing


def test_what_the_pages_name_in_the_repository_exists() -> None:
    wrong, seen = [], 0
    for page in sorted(DOCS.rglob("*.md")):
        for match in NAMED.finditer(page.read_text(encoding="utf-8")):
            path, seen = ROOT / match[1], seen + 1
            if not path.is_file() or (match[2] and not _defines(path, match[2])):
                wrong.append(f"{page.relative_to(ROOT)}: {match[0]}")
    assert seen > 50
    assert not wrong


def _defines(path: Path, name: str) -> bool:
    """Whether the file has the function, class, method, field or constant `name`, which may be dotted."""
    scope: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split("."):
        node = next((node for node in scope if part in _names(node)), None)
        if node is None:
            return False
        scope = getattr(node, "body", [])
    return True


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
