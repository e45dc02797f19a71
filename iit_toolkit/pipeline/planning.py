"""How many pairs a verification will need, by a pilot that writes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.planning import Plan, plan
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.config.loading import AnyRunConfig
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.learned import subspaces_of
from iit_toolkit.pipeline.networks.learned import network_subspaces
from iit_toolkit.pipeline.networks.rows import HELD_OUT
from iit_toolkit.pipeline.networks.run import networks_to_verify, verified_networks
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.run import to_verify
from iit_toolkit.pipeline.verifying import verified
from iit_toolkit.runs.folder import RunFolder
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase

PILOT = 64
"""Pairs of the pilot."""


def plan_verification(config: AnyRunConfig, student: str, alignment: str) -> tuple[Plan, int]:
    """Verify a finished student on a few pairs, and say how many a verdict needs.

    Args:
        config: Gives teacher, data and settings of the verification.
        student: Folder or Hub id of the student; of a network, the folder of its weights.
        alignment: An alignment file or a preset.

    Returns:
        The plan, and how many held-out rows there are: no verification has more pairs.

    Raises:
        UserError: If the alignment does not hold on the live models, or there are too few held-out rows for a pilot.
    """
    if isinstance(config, RunConfig):
        pilot, rows = _pilot_of_texts(config, student, alignment)
    else:
        pilot, rows = _pilot_of_networks(config, student, alignment)
    phase("computing how many pairs are needed")
    settings = config.verification
    asked: dict[str, Any] = {"measure": settings.measure, "margin": settings.margin, "resamples": settings.resamples}
    return plan(pilot, "student", **asked, seed=config.seed), rows


@told_if_out_of_memory("verify --plan", "lower verification.batch_size or data.max_length")
def _pilot_of_texts(config: RunConfig, student: str, alignment: str) -> tuple[Verification, int]:
    prepared = Prepared(config)
    rows = len(prepared.eval_rows)
    _require_rows(rows)
    chosen, students = to_verify(prepared, student, alignment, "student")
    phase(f"verifying the pilot of {PILOT} pairs")
    with tempfile.TemporaryDirectory() as scratch:
        homes = dict.fromkeys(students, Path(student))
        subspaces = subspaces_of(prepared, RunFolder(Path(scratch)), chosen, students, homes)
    return verified(prepared, chosen, students, PILOT, subspaces), rows


@told_if_out_of_memory("verify --plan", "lower verification.batch_size")
def _pilot_of_networks(config: NetworkRunConfig, student: str, alignment: str) -> tuple[Verification, int]:
    prepared, chosen, students = networks_to_verify(config, student, alignment, "student")
    rows = prepared.rows.drawn[HELD_OUT]
    _require_rows(len(rows))
    phase(f"verifying the pilot of {PILOT} pairs")
    with tempfile.TemporaryDirectory() as scratch:
        homes = dict.fromkeys(students, Path(student))
        subspaces = network_subspaces(prepared, RunFolder(Path(scratch)), chosen, students, homes)
    return verified_networks(rows, prepared, chosen, students, "student", PILOT, subspaces), len(rows)


def _require_rows(rows: int) -> None:
    if rows < MINIMUM_CLUSTERS:
        raise UserError(
            f"a pilot needs {MINIMUM_CLUSTERS} held-out rows or more, but the data give {rows}; give more data"
        )
