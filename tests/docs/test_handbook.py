"""The handbook builds: strictly, without torch, and with nothing that asks a server."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site, and what the build said; heavy libraries are not to be had."""
    site = tmp_path_factory.mktemp("handbook")
    code = (
        "import sys\n"
        "for name in ('torch', 'pytorch_lightning', 'open_clip'):\n"
        "    sys.modules[name] = None\n"
        "from mkdocs.__main__ import cli\n"
        f"cli(['build', '--strict', '--site-dir', {str(site)!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return site, done.stderr


class Asked(HTMLParser):
    """What a browser would fetch by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe"):
            self.urls.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon"):
            self.urls.append(given.get("href") or "")


def test_it_builds_without_a_warning(built: tuple[Path, str]) -> None:
    assert "WARNING" not in built[1]


def test_nothing_is_fetched_from_elsewhere(built: tuple[Path, str]) -> None:
    pages = list(built[0].rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        asked = Asked()
        asked.feed(page.read_text())
        assert not [url for url in asked.urls if "//" in url], page
    for style in built[0].rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", style.read_text()), style


def test_formulas_and_reference_are_there(built: tuple[Path, str]) -> None:
    text = (built[0] / "theory" / "diffusion" / "index.html").read_text()
    assert text.count("<math") > 30 and "xFORMULA" not in text and "$$" not in text
    assert "global_batch" in (built[0] / "reference/commands/train/index.html").read_text()
    assert (built[0] / "source/ldm/diffusion/schedule.py/index.html").is_file()
