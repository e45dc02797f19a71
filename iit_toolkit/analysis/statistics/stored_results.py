"""Results of finished runs, read back: whole enough to be judged, and alike enough to be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from iit_toolkit.analysis.statistics.control_results import ControlResults
from iit_toolkit.analysis.statistics.numbers import EVALUATED
from iit_toolkit.analysis.statistics.quantities import students, variables
from iit_toolkit.analysis.statistics.results_layout import RESULTS, Evaluated, Link
from iit_toolkit.analysis.statistics.summary import StudentSummary, Summary
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.errors import UserError
from iit_toolkit.files.json_files import validated
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.runs.folder import RunFolder, read_results

_REQUIRED = ("name", "created", "provenance", "seed", "data", "teacher", "arms", "alignment", "summary", "controls")


@dataclass(frozen=True)
class StoredResults:
    """A results.json.

    Attributes:
        path: Where it was read.
        document: Its content, of which every entry that is read is of the right type.
        summary: What was measured, as the file has it.
        controls: What came of the controls that the verdict does not hold.
        verdict: The verdict, as the file has it.
        evaluation: What was measured on further held-out sets, by their names.
        chain: Teacher and students against the program that the teacher was taught; empty without one.
    """

    path: Path
    document: dict[str, Any]
    summary: Summary
    controls: ControlResults
    verdict: Verdict
    evaluation: dict[str, Evaluated]
    chain: list[Link] = field(default_factory=list["Link"])

    @property
    def judged(self) -> str:
        """The student that the verdict is on."""
        return self.verdict.student

    def student(self, name: str) -> StudentSummary:
        """Return what was measured of a student.

        Raises:
            UserError: If it is not in the summary.
        """
        if name not in self.summary.students:
            raise UserError(f'{self.path}: no student "{name}"; there are: {", ".join(self.summary.students)}')
        return self.summary.students[name]

    @property
    def learned(self) -> bool:
        """Whether sites of the alignment are learned subspaces."""
        variables = self.document["alignment"]["variables"]
        return any("subspace" in part for one in variables for side in ("teacher", "student") for part in one[side])

    def held_out(self) -> dict[str, Any]:
        """Return the split that was verified on: `examples`, `tokens`, `fingerprint`."""
        return list(self.document["data"].values())[-1]


def read_stored(path: Path) -> StoredResults:
    """Read the results of a finished run.

    Args:
        path: A results.json, or the run folder that holds one.

    Raises:
        UserError: If there is none, or it is of another schema or layout, or not whole.
    """
    if not path.exists():
        raise UserError(f"{path}: no such results; give a results.json, or the folder of a finished run")
    file = RunFolder(path).results if path.is_dir() else path
    if path.is_dir():
        refuse_links_out(path, file)
    document = read_results(file)
    missing = [name for name in (*_REQUIRED, "verdict") if name not in document]
    if missing:
        raise UserError(f"{file}: no {', '.join(missing)}; verify the run again")
    found = validated(file, document, RESULTS, "`iit-toolkit verify` the student again to write it anew")
    return StoredResults(
        file, document, found.summary, found.controls, found.verdict, found.evaluation or {}, found.chain or []
    )


def evaluation_facts(stored: StoredResults) -> dict[str, str | None]:
    """Return what two runs over seeds must have in common: held-out sets, and what was measured on each."""
    facts: dict[str, str | None] = {}
    for name, found in stored.evaluation.items():
        measures = [measure for measure in EVALUATED if getattr(found, measure) is not None]
        facts |= {f"evaluation.{name}": found.fingerprint, f"evaluation.{name}, its measures": ", ".join(measures)}
    return facts


def refuse_other_cases(stored: StoredResults, outcomes: pd.DataFrame, path: Path) -> None:
    """Check that an outcomes table is of the students and variables of the results.

    Raises:
        UserError: If it is not.
    """
    measured = {name: list(one.variables) for name, one in stored.summary.students.items()}
    for name in dict.fromkeys([*measured, *students(outcomes)]):
        if set(measured.get(name, ())) != set(variables(outcomes, name)):
            raise UserError(
                f'{path}: other students or variables than {stored.path} has, first of student "{name:.60}"; '
                "one of the two files is of another run: verify it again"
            )


def refuse_incomparable(*results: StoredResults) -> None:
    """Check that the numbers of results mean the same: task, teacher, held-out data and alignment are equal.

    The teacher's weights are compared among the results that hold their fingerprint, which may be absent.

    Raises:
        UserError: Naming the first of these that differs.
    """
    for what in ("task", "teacher", "weights of the teacher", "held-out data", "alignment"):
        told = [one for one in results if what != "weights of the teacher" or _fact(one, what)[0] is not None]
        for two in told[1:]:
            one = told[0]
            (compared, shown), (other, other_shown) = _fact(one, what), _fact(two, what)
            if compared != other:
                raise UserError(
                    f"{two.path} can't be compared with {one.path}: other {what} ({other_shown} against {shown}); "
                    "give runs of the same task, teacher, data and alignment"
                )


def _fact(stored: StoredResults, what: str) -> tuple[Any, str]:
    """Return what must be equal, and how a message shows it."""
    document = stored.document
    if what == "task":
        return document["task"], document["task"]
    if what == "teacher":
        teacher = {name: value for name, value in document["teacher"].items() if name != "weights"}
        return teacher, f"{teacher['name']}, {teacher['parameters']:,} parameters"
    if what == "weights of the teacher":
        weights = document["teacher"].get("weights")
        return weights, f"{str(weights)[:15]}..."
    if what == "held-out data":
        fingerprint = stored.held_out()["fingerprint"]
        return fingerprint, f"{fingerprint[:15]}..."
    alignment = document["alignment"]
    interventions = {name: value for name, value in alignment.items() if name not in ("name", "draw")}
    return interventions, str(alignment.get("name"))
