"""The other forms of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_run
from tests.drawing import no_figures_drawn


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_latex_table_holds_the_main_results(tmp_path: Path) -> None:
    before = tree(make_run(tmp_path))
    text = write_report(tmp_path, "latex").read_text()
    assert tree(tmp_path) - before == {"report.tex"}
    measured = json.loads((tmp_path / "results.json").read_text())["summary"]["students"]["causal"]["variables"]
    found = measured["middle"]["effect_r2"]["outside"]
    shown = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    [row] = [line for line in text.splitlines() if line.startswith("causal &")]
    assert row.split(" & ")[1] == shown and row.endswith(rf" & {found['cases']} \\")
    assert "causal: INCONCLUSIVE by effect R², at a margin of 0.05" in text  # the controls were not run
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4 and {len(line.split(" & ")) for line in rows} == {6}
    assert text.index(r"\begin{table*}") < text.index(r"\caption{Students of ") < text.index(r"\label{tab:")
    assert text.count(r"\begin{tabular}{lllllr}") == text.count(r"\end{tabular}") == 1


def test_names_in_latex_are_escaped_and_variables_stand_where_there_are_several(tmp_path: Path) -> None:
    make_run(tmp_path, make_outcomes({"causal": 0.5, "untrained": 0.0}, variables=("a&b_1", "late"), bases=40))
    text = write_report(tmp_path, "latex").read_text()
    assert r"causal & a\&b\_1 & " in text
    assert {len(re.split(r"(?<!\\)&", line)) for line in text.splitlines() if line.endswith(r"\\")} == {7}


def test_json_holds_the_numbers(tmp_path: Path) -> None:
    before = tree(make_run(tmp_path))
    document = json.loads(write_report(tmp_path, "json").read_text())
    results = json.loads((tmp_path / "results.json").read_text())
    assert tree(tmp_path) - before == {"report.json"}
    assert document["schema"] == "iit_toolkit/report/1"
    for name in ("summary", "verdict", "comparison", "teacher", "seed"):
        assert document[name] == results[name]
    assert [one["name"] for one in document["controls"]] == [
        "self-swap",
        "teacher as its own student",
        "no-intervention floor",
        "untrained student",
        "shuffled sites and sources, leak check",
        "plain student",
    ]
    assert [len(document[f"{chosen}_cases"]) for chosen in ("random", "best")] == [10, 10]
    worst = document["worst_cases"]
    assert len(worst) == 20 and worst[0]["base"].startswith(" ") and "." in worst[0]["source"]


def test_one_form_alone(tmp_path: Path) -> None:
    assert write_report(make_run(tmp_path), "md") == tmp_path / "report.md"
    assert (tmp_path / "figures" / "accuracy.svg").is_file() and not (tmp_path / "report.html").exists()


def test_a_pdf_needs_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(make_run(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="a PDF is printed by Chromium or Chrome, and none is on the PATH") as caught:
        write_report(tmp_path, "pdf")
    assert "\n" not in str(caught.value) and tree(tmp_path) == before


def test_a_browser_that_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run")
    broken = tmp_path / "bin" / "chromium"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no display' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent), prepend=":")
    with no_figures_drawn(), pytest.raises(UserError, match="could not print .*report.html: no display") as caught:
        write_report(tmp_path / "run", "pdf")
    assert "\n" not in str(caught.value) and not (tmp_path / "run" / "report.pdf").exists()
