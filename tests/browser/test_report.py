"""Opens a report in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from iit_toolkit.analysis.report import write_report
from tests.analysis.synthetic import make_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH to open the report with"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(make_run(tmp_path_factory.mktemp("run")))


def browse(page, profile, *flags, suffix=""):
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri() + suffix]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_the_page_opens_without_console_messages(page, tmp_path):
    done = browse(page, tmp_path, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    dom = done.stdout
    assert re.search(r'class="badge">\s*SUPPORTED\s*<', dom)
    assert re.search(r'class="badge">\s*HIGHER THAN plain\s*<', dom)
    assert dom.count("<figure") == dom.count('<img src="data:image/svg+xml') == 6
    assert all(re.findall(r"<img [^>]*alt=\"([^\"]*)\"", dom))
    assert '<html lang="en"' in dom
    assert re.search(r"<th scope=\"row\">causal</th>", dom)
    assert page.stat().st_size <= 2 * 2**20


def test_a_console_message_would_be_seen(page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("</body>", "<script>console.error('planted')</script></body>"))
    assert "planted" in browse(broken, tmp_path / "profile", "--dump-dom").stderr


def test_every_figure_can_be_drawn_and_nothing_overflows_a_narrow_window(page, tmp_path):
    """A probe is added to a copy of the page; the page itself holds no script."""
    probe = (
        "<script>addEventListener('load', () => document.title = JSON.stringify({"
        "drawn: [...document.images].filter(i => i.naturalWidth > 0).length,"
        "wide: document.documentElement.scrollWidth - document.documentElement.clientWidth}))</script>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</head>", probe + "</head>"))
    dom = browse(probed, tmp_path / "profile", "--window-size=500,900", "--dump-dom").stdout
    drawn, wide = re.search(r'<title>\{"drawn":(\d+),"wide":(-?\d+)\}', dom).groups()
    assert (int(drawn), int(wide)) == (6, 0)


def test_it_prints(page, tmp_path):
    printed = tmp_path / "report.pdf"
    browse(page, tmp_path / "profile", f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    pages = printed.read_bytes().count(b"/Type /Page\n")
    assert printed.read_bytes().startswith(b"%PDF") and 2 <= pages <= 8
