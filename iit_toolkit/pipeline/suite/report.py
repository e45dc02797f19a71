"""The results of a suite, compared as its file says."""

from __future__ import annotations

import json
from pathlib import Path

from iit_toolkit.analysis.studies.comparison import StudyComparison, compare_study
from iit_toolkit.analysis.studies.figures import write_figures
from iit_toolkit.analysis.studies.read_suite import read_suite
from iit_toolkit.analysis.studies.text import to_latex, to_markdown
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.suite.config import load_suite
from iit_toolkit.pipeline.suite.pieces import SuiteFolder
from iit_toolkit.runs.folder import write_atomically


def compared(folder: str | Path, baseline: str | None = None, measure: str | None = None) -> StudyComparison:
    """Compare what is done of a suite with its baseline.

    Args:
        folder: The suite's folder, or what was collected of it.
        baseline: Another arm to compare with; the suite's arm of equal compute is then an arm like others.
        measure: As for `compare_study`.

    Raises:
        UserError: If it is neither, or its runs can't be compared.
    """
    root = SuiteFolder(Path(folder))
    if not root.config.is_file():
        raise UserError(f"{folder} holds no suite.yaml; give the folder of a suite, or of its collected results")
    config, study = load_suite(root.config), read_suite(root.path)
    references = [baseline or config.baseline]
    if references == [config.baseline] and config.equal_compute in study.records:
        references.append(config.equal_compute)
    return compare_study(study, references, variables=config.variables, measure=measure)


def write_report(comparison: StudyComparison, target: Path) -> None:
    """Write `suite.json`, `suite.md`, `suite.tex` and the folder `figures`.

    Raises:
        UserError: If a file can't be written.
    """
    text = json.dumps(comparison.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(target / "suite.json", text + "\n")
    write_atomically(target / "suite.md", to_markdown(comparison))
    write_atomically(target / "suite.tex", to_latex(comparison))
    write_figures(comparison, target / "figures")
