"""A real browser without a window: what it says of a page, and what a script finds there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.report.formats import BROWSERS, QUIET

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = [*QUIET, "--no-sandbox", "--enable-logging=stderr", "--v=0"]
STARTS = 4
CONTRAST = """
        const parts = (rgb) => rgb.match(/[0-9.]+/g).map(Number);
        const over = (front, back) => { const [r, g, b, a = 1] = front;
            return [r, g, b].map((one, place) => a * one + (1 - a) * back[place]); };
        const light = (rgb) => (Array.isArray(rgb) ? rgb : parts(rgb)).slice(0, 3).map((one) => one / 255)
            .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
            .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
        const behind = (one) => { const own = parts(getComputedStyle(one).backgroundColor), alpha = own[3] ?? 1;
            if (alpha === 1) return own.slice(0, 3);
            return over(own, one.parentElement ? behind(one.parentElement) : [255, 255, 255]); };
        const contrast = (one) => { const back = behind(one), front = over(parts(getComputedStyle(one).color), back);
            const [a, b] = [front, back].map(light);
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };"""
"""A script that defines `light`, of a colour, and `contrast`, of an element's text (WCAG 2.2)."""


def browse(url: str, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page. The browser itself hangs at its start now and then on a busy machine, and is then started anew."""
    for attempt in range(STARTS):
        command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}-{attempt}", *flags, url]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"the browser did not end in {STARTS} starts of 60 s each")


def with_probe(page: str, script: str) -> str:
    """Return a page whose title becomes what a script returns, once it is loaded."""
    probe = (
        "<script>addEventListener('load', () => setTimeout(() => { const wait = () => new Promise(setTimeout);"
        f"(async () => {{ {script} }})().then((found) => document.title = 'found' + JSON.stringify(found));"
        "}))</script>"
    )
    unguarded = re.sub(r"<meta http-equiv=\"Content-Security-Policy\".*?>", "", page)  # it stops the probe
    return unguarded.replace("</head>", probe + "</head>")


def found_by_probe(url: str, profile: Path, *flags: str) -> Any:
    """Return what the script of `with_probe` returned; no console message may be written."""
    done = browse(url, profile, "--virtual-time-budget=5000", *flags, "--dump-dom")
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r"<title>found(.*?)</title>", done.stdout)
    assert found, "the script did not finish"
    return json.loads(html.unescape(found[1]))


def drive(page: Path, folder: Path, script: str, *flags: str) -> Any:
    """Return what a script returns in a copy of a page."""
    copy = folder / "driven.html"
    copy.write_text(with_probe(page.read_text(), script))
    return found_by_probe(copy.as_uri(), folder / "profile", *flags)
