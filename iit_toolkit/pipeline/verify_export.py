"""An exported student verified again, and whether the answers are those of the export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.statistics.outcomes import KEY, read_outcomes
from iit_toolkit.analysis.statistics.stored_results import StoredResults, read_stored
from iit_toolkit.config.loading import load_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.export import chosen_arm
from iit_toolkit.pipeline.networks.objects import WEIGHTS
from iit_toolkit.pipeline.student_files import require_named_files
from iit_toolkit.pipeline.verbs import verify
from iit_toolkit.runs.folder import RunFolder

_ANSWERS = ["teacher_base", "teacher_cf", "student_base", "student_cf"]


@dataclass(frozen=True)
class Reverified:
    """The outcome of verifying an export again.

    Attributes:
        folder: The new run folder.
        same: Whether every answer is as in the export.
        sentence: The same in words.
    """

    folder: Path
    same: bool
    sentence: str


def verify_export(folder: str | Path, output: str | Path | None = None, overrides: Sequence[str] = ()) -> Reverified:
    """Verify an exported student again, as its run did, and compare the answers.

    Args:
        folder: What `export` wrote.
        output: The new run folder; by default `runs/` and the name of the run.
        overrides: Changes to the config, as `dotted.key=value`: where teacher and data are on this machine.

    Raises:
        UserError: If the folder is no export, or as for `verify`.
    """
    exported = RunFolder(Path(folder))
    for name in ("config.yaml", "alignment.yaml", "results.json", "outcomes.parquet"):
        _require(exported, name)
    config = load_config(exported.config, overrides)
    _require(exported, "config.json" if isinstance(config, RunConfig) else WEIGHTS)
    require_named_files(path for path in exported.path.glob("*.json") if path.is_file())
    stored = read_stored(exported.path)
    name = chosen_arm(stored)
    path = verify(
        config,
        student=str(exported.path),
        alignment=str(exported.alignment),
        output=output or Path("runs") / config.name,
        name=name,
    )
    before, after = (_cases_of(run, name) for run in (exported, RunFolder(path)))
    same, sentence = _agreement(stored, before, read_stored(path), after)
    return Reverified(path, same, sentence)


def _require(exported: RunFolder, name: str) -> None:
    if not (exported.path / name).is_file():
        raise UserError(f"{exported.path}: no {name} there; give a folder that `iit-toolkit export` wrote")


def _cases_of(run: RunFolder, student: str) -> pd.DataFrame:
    outcomes = read_outcomes(run.outcomes)
    return cast(pd.DataFrame, outcomes[outcomes["student"] == student])


def _agreement(
    stored: StoredResults, before: pd.DataFrame, again: StoredResults, after: pd.DataFrame
) -> tuple[bool, str]:
    """Whether two verifications of a student gave the same answers, and in words."""
    one, two = stored.held_out()["fingerprint"], again.held_out()["fingerprint"]
    if one != two:
        return False, f"NOT REPRODUCED: the held-out data are other than those of the export ({two} against {one})."
    cases = count(len(before), "case")
    both = before.merge(after, on=list(KEY), suffixes=("", "_again"))
    if not len(both) == len(before) == len(after):
        return False, (
            f"NOT REPRODUCED: other cases were verified ({len(both):,} of {cases} of the export); "
            "seed and settings must be those of its config.yaml."
        )
    unequal = [both[name].to_numpy() != both[f"{name}_again"].to_numpy() for name in _ANSWERS]
    differ = int(np.any(unequal, axis=0).sum())
    if differ:
        return False, (
            f"NOT REPRODUCED: answers differ in {differ:,} of {cases}: another teacher or student, or, where it is "
            "a few, another machine or version."
        )
    return True, f"REPRODUCED: the answers in all {cases} are those of the export."
