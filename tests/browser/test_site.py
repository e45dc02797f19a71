"""Builds the documentation site, and opens it in a real browser."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.browser.chromium import BROWSER, CONTRAST, browse, found_by_probe, with_probe

ROOT = Path(__file__).parents[2]
PAGES = ("", "docs/guide/verify/", "examples/1-first-alignment/", "docs/reference/alignment/")
DARK = "--blink-settings=preferredColorScheme=0"
TEXTS = (
    "article h1, article h2, article h3, article p, article li, article td, article th, article a:not(.headerlink), "
    "article code, article code span, nav a, .md-footer a"
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH to open the site with"),
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings", "nbconvert"))),
        reason="the extra `docs` is not installed: no mkdocs to build the site with",
    ),
]


class _Silent(SimpleHTTPRequestHandler):
    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    given = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served: its search loads a file, which a page of a folder may not."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()


def asked(site: Path, address: str, page: str, script: str, profile: Path, *flags: str) -> Any:
    """What a script returns in a page of the site."""
    (site / page / "driven.html").write_text(with_probe((site / page / "index.html").read_text(), script))
    return found_by_probe(f"{address}{page}driven.html", profile, *flags)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_without_console_messages(address: str, page: str, tmp_path: Path) -> None:
    done = browse(address + page, tmp_path / "profile", "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    assert '<html lang="en"' in done.stdout


@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("page", PAGES)
def test_text_can_be_read_by_day_and_night(site: Path, address: str, page: str, dark: bool, tmp_path: Path) -> None:
    script = f"""{CONTRAST}
        const texts = [...document.querySelectorAll("{TEXTS}")].filter((one) => one.offsetParent &&
            [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
        const faint = texts.filter((one) => contrast(one) < 4.5)
            .map((one) => [contrast(one).toFixed(2), one.tagName, one.className, getComputedStyle(one).color].join());
        return {{ page: light(getComputedStyle(document.body).backgroundColor), texts: texts.length,
            faint: [...new Set(faint)] }};
        """
    found = asked(site, address, page, script, tmp_path / "profile", *([DARK] if dark else []))
    assert (found["page"] < 0.1) == dark and found["texts"] > 30
    assert not found["faint"], found["faint"]


@pytest.mark.parametrize("page", PAGES)
def test_it_can_be_used_without_eyes_or_mouse(site: Path, address: str, page: str, tmp_path: Path) -> None:
    script = """
        const all = (selector) => [...document.querySelectorAll(selector)];
        const ids = all("[id]").map((one) => one.id);
        const named = (one) => one.ariaLabel || one.title || one.textContent.trim() || one.labels?.length;
        return {
            unlabelled: all("input:not([type=hidden]):not(.md-toggle):not([type=radio]), select")
                .filter((one) => !named(one)).length,
            nameless: all("button, summary, a[href]").filter((one) => !named(one) && !one.querySelector("img[alt]"))
                .map((one) => one.outerHTML.slice(0, 100)),
            silent: all("article img:not([alt]), article img[alt='']").length,
            twice: ids.filter((one, place) => ids.indexOf(one) !== place),
            ordered: all("[tabindex]").filter((one) => one.tabIndex > 0).length,
            wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
            levels: all("article h1, article h2, article h3, article h4, article h5")
                .map((one) => Number(one.tagName[1]))
        };"""
    found = asked(site, address, page, script, tmp_path / "profile", "--window-size=500,900")
    levels = found.pop("levels")
    assert not any(found.values()), found
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(two - one <= 1 for one, two in zip(levels, levels[1:], strict=False))
