"""The other forms of a report: a LaTeX table, JSON, PDF."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iit_toolkit.analysis.report.latex import latex_row, latex_table
from iit_toolkit.analysis.report.shown_cases import ShownCase
from iit_toolkit.analysis.report.tables import COLUMNS, ControlRow, Row, headed
from iit_toolkit.analysis.statistics.comparison import Comparison
from iit_toolkit.analysis.statistics.input_words import InputWords
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import decimal, inputs
from iit_toolkit.analysis.statistics.regions import RegionMap
from iit_toolkit.analysis.statistics.summary import Summary
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.errors import UserError

REPORT_SCHEMA = "iit_toolkit/report/1"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-pdf-header-footer",
)
_COLUMNS = COLUMNS[:4]  # a paper's page is narrow
_PATIENCE = 120  # seconds


def to_latex(name: str, rows: Sequence[Row], summary: Summary, verdict: Verdict, words: InputWords) -> str:
    """Return the table of students for a paper; it needs the package booktabs."""
    several = len({row.variable for row in rows}) > 1
    heads = [
        "student",
        *(["variable"] if several else []),
        *(column.heading for column in headed(_COLUMNS, words)),
        "n",
    ]
    lines: list[str] = []
    for row in rows:
        measured = row.measured
        cells = [
            row.student,
            *([row.variable] if several else []),
            *(column.cell(measured) for column in _COLUMNS),
            f"{measured.estimate('effective_iia').cases:,}",
        ]
        lines.append(latex_row(cells))
    most = max((row.measured.estimate("effective_iia") for row in rows), key=lambda one: one.clusters)
    caption = (
        f"Students of {name}, held against their teacher under interchange interventions{words.aside}. "
        f"Effective IIA and its no-intervention floor are over the n cases (from {inputs(most)}) in which the "
        f" intervention changes the teacher's answer; {summary.level:.0%} intervals. "
        f"{verdict.student}: {verdict.label} by {MEASURES[verdict.measure].title}, at a margin of "
        f"{decimal(verdict.margin, 2)}."
    )
    return latex_table(f"{'l' * (len(heads) - 1)}r", heads, lines, caption=caption, label=f"tab:{name}")


def to_document(
    results: dict[str, Any],
    summary: Summary,
    verdict: Verdict,
    comparison: Comparison | None,
    controls: Sequence[ControlRow],
    cases: Sequence[ShownCase],
    regions: RegionMap,
    choices: Summary | None,
) -> dict[str, Any]:
    """Return the numbers of the report as plain data; undefined values are None."""
    return {
        "schema": REPORT_SCHEMA,
        "name": results["name"],
        "created": results["created"],
        "seed": results["seed"],
        "teacher": results["teacher"],
        "verdict": verdict.to_dict(),
        "comparison": None if comparison is None else comparison.to_dict(),
        "summary": summary.to_dict(),
        **({} if choices is None else {"choices": choices.to_dict()}),
        "controls": [asdict(one) for one in controls],
        "regions": regions.to_dict(),
        **{
            f"{chosen}_cases": [_case(one) for one in cases if one.chosen == chosen]
            for chosen in ("worst", "random", "best")
        },
    }


def _case(one: ShownCase) -> dict[str, Any]:
    texts = {"base": "".join(part.text for part in one.base), "source": "".join(part.text for part in one.source)}
    return {name: value for name, value in asdict(one).items() if name != "chosen"} | texts


def find_browser() -> str:
    """Return the path of a Chromium or Chrome.

    Raises:
        UserError: If there is none on the PATH.
    """
    for name in BROWSERS:
        if (found := shutil.which(name)) is not None:
            return found
    raise UserError(
        f"a PDF is printed by Chromium or Chrome, and none is on the PATH (looked for {', '.join(BROWSERS)}); "
        "install one, or open report.html in any browser and print it"
    )


def print_pdf(browser: str, page: Path) -> bytes:
    """Print a page.

    Args:
        browser: Path of a Chromium or Chrome.
        page: The HTML file.

    Raises:
        UserError: If the browser prints nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "report.pdf"
        command = [browser, *QUIET, f"--user-data-dir={folder}/profile", f"--print-to-pdf={printed}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # root has to do without a sandbox
        try:
            done = subprocess.run(
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if not printed.is_file():
            raise UserError(f"{browser} could not print {page}: {reason[:200]}; open it in a browser and print it")
        return printed.read_bytes()
