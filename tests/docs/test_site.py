"""The documentation as a site: complete, without a broken link, and nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a browser loads by itself; a link that a person follows is none.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)"
)
_IN_STYLE = re.compile(r"url\(\s*[\"']?((?:https?:)?//[^)\"']+)|@import\s+[\"']?(https?:[^\"';]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        # In a network without a way out: nothing is fetched for it.
        [ROOT / "tests" / "in_private_network.sh", Path(sys.executable).parent / "mkdocs", "build",
         "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def test_every_page_is_built_and_no_link_is_broken(site: Path) -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    built = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    named = {page.removesuffix(".md").replace("README", "index") + ".html" for page in pages}
    assert named <= built
    assert "architecture.html" in built
    assert "Architecture, in reading order" in (site / "architecture.html").read_text("utf-8")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = {path: path.read_text("utf-8") for path in sorted(site.rglob("*.html"))}
    assert len(pages) > 15
    for path, text in pages.items():
        foreign = [one for one in _LOADED.findall(text) if "rel=canonical" not in one]
        assert not foreign, path.name
    for path in sorted(site.rglob("*.css")):
        assert not _IN_STYLE.findall(path.read_text("utf-8")), path.name


def test_the_site_finds_what_loads_something_from_elsewhere() -> None:
    assert _LOADED.findall('<script src="https://example.org/a.js">') == ["https://example.org/a.js"]
    assert _LOADED.findall("<link href=//example.org/a.css>") == ["//example.org/a.css"]
    assert not _LOADED.findall('<a href="https://example.org/">')
