"""How a report grows: memory with the number of cases, size of the page with the number of variables.

Run from the repository root: `python -m benchmarks.growth`.
Writes `docs/report-growth.json` and the tables of `docs/report-growth.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory import high_water

ROOT = Path(__file__).resolve().parents[1]
CASES = (10_000, 100_000, 1_000_000)
VARIABLES = (1, 10, 50, 100)
STUDENTS, PER_BASE, RESAMPLES = 3, 10, 200
PAGE_STUDENTS, PAGE_BASES = 5, 72
START, END = "<!-- growth -->\n", "<!-- /growth -->"


def main() -> None:
    """Measure every size in a process of its own, and write the document."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[2]), sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        memory = [_run(Path(scratch) / f"cases-{cases}", cases=cases) for cases in CASES]
        pages = [_run(Path(scratch) / f"variables-{number}", variables=number) for number in VARIABLES]
    found = {"resamples": RESAMPLES, "students": STUDENTS, "memory": memory}
    found |= {"page_students": PAGE_STUDENTS, "pages": pages}
    (ROOT / "docs" / "report-growth.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    document = ROOT / "docs" / "report-growth.md"
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(START)
    document.write_text(f"{before}{START}{table(found)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def table(found: dict[str, Any]) -> str:
    """Return the tables of the document."""
    lines = ["| cases | peak of the statistics, MB | of that, imports, MB |", "|--:|--:|--:|"]
    lines += [f"| {one['cases']:,} | {one['peak_mb']:,.0f} | {one['imports_mb']:,.0f} |" for one in found["memory"]]
    lines += ["", "| variables | report.html, MB | report.md, MB | figures, files |", "|--:|--:|--:|--:|"]
    lines += [
        f"| {one['variables']:,} | {one['html'] / 1e6:.2f} | {one['md'] / 1e6:.2f} | {one['figures']:,} |"
        for one in found["pages"]
    ]
    return "\n".join(lines)


def measure(folder: Path, what: str) -> dict[str, Any]:
    """Write one report and return what it took."""
    from iit_toolkit.analysis.report.report import write_report

    imports = high_water()
    write_report(folder, "json" if what == "memory" else None)
    if what == "memory":
        return {"peak_mb": high_water(), "imports_mb": imports}
    sizes = {kind: (folder / f"report.{kind}").stat().st_size for kind in ("html", "md")}
    return {**sizes, "figures": len(list((folder / "figures").glob("*.svg")))}


def _run(folder: Path, *, cases: int | None = None, variables: int = 1) -> dict[str, Any]:
    """Make a run folder with planted outcomes, and measure its report."""
    from iit_toolkit.analysis.statistics.outcomes import write_outcomes
    from tests.analysis.synthetic import FOLLOWS, make_outcomes, make_results, make_texts

    names = tuple(f"variable-{number:03d}" for number in range(variables))
    bases = PAGE_BASES if cases is None else cases // (STUDENTS * PER_BASE)
    further = range(PAGE_STUDENTS - STUDENTS) if cases is None else ()
    follows = {**FOLLOWS, **{f"further-{number}": 0.4 for number in further}}
    results = make_results(make_outcomes(follows, variables=names, bases=60, per_base=4))
    results["summary"]["resamples"] = RESAMPLES
    outcomes = make_outcomes(follows, variables=names, bases=bases, per_base=PER_BASE)
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    write_outcomes(outcomes, folder / "outcomes.parquet")
    make_texts(folder, outcomes)
    what = "pages" if cases is None else "memory"
    command = [sys.executable, "-m", "benchmarks.growth", what, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    kind = {"variables": variables} if cases is None else {"cases": len(outcomes)}
    return kind | json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
