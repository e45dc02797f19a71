"""The tables of a suite in an experiment's README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from analysis import tables
from tests.analysis.studies.suite_tree import change, write_tree

README = """\
# Claims

<!-- claims:paper-claims -->
<!-- /claims -->

Between.

<!-- suite:paper-claims -->
<!-- /suite -->
"""


def test_claims_and_headline_are_written_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("Nothing.\n")
    folder = tmp_path / "experiments" / "paper-claims"
    write_tree(folder / "results")
    arms: dict[str, dict[str, str]] = {arm: {} for arm in ("plain", "plain-compute", "full")}
    run = {"name": "claims", "teacher": "embedded", "data": {"source": "python_docs"}, "arms": arms}
    suite = {"name": "claims", "run": run, "seeds": [42], "baseline": "plain", "equal_compute": "plain-compute"}
    (folder / "results" / "suite.yaml").write_text(yaml.safe_dump(suite))
    (folder / "README.md").write_text(README)
    assert tables.main(["--check"]) == 1
    assert tables.main([]) == 0 and tables.main(["--check"]) == 0
    written = (folder / "README.md").read_text()
    before, after = written.split("Between.")
    assert "100.00 → 90.00 (-10.0%); -10.00 [-19.94, -0.06], n = 3 | holds | 90.33 → 90.00" in before
    assert "| plain | 100.00 ± 10.00 (3) |" in after and "| teacher | 50.00 ± 2.00 (3) |" in after
    assert all("example/teacher-12l (22,500,000 parameters)" in part for part in (before, after))
    path = folder / "results" / "full" / "seed-66" / "results.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["evaluation"]["encyclopedia"]["perplexity"]["full"]
    change(path, evaluation__encyclopedia__perplexity__full={**measured, "value": 109.0, "low": None, "high": None})
    assert tables.main(["--check"]) == 1
