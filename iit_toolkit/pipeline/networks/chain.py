"""The interchanges along a chain of abstraction: a program, the network that it taught, and that network's students."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.verification.verify import verify
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks, with_program
from iit_toolkit.pipeline.networks.rows import HELD_OUT
from iit_toolkit.runs.progress import phase

TEACHER = "teacher"


def chain_of(
    prepared: PreparedNetworks,
    alignment: Alignment,
    students: Mapping[str, nn.Module],
    summary: Mapping[str, Any],
    subspaces: Mapping[str, LearnedSubspaces],
) -> list[dict[str, Any]]:
    """Verify a network that teaches, and its students, against the program that it was taught.

    Args:
        prepared: What the config names; its teacher is a network, and it names a program.
        alignment: The alignment between the networks. Its variables have the names of the program's.
        students: The students, by name.
        summary: What was measured of the students against the teacher, as plain data.
        subspaces: The learned subspaces of the students, by name; none if none are learned.

    Returns:
        The lines of the chain: the teacher against the program, then every student against the teacher and against the
        program. `upper` is what is above, `lower` the network, and `variables` holds, by name, the estimates `iia`,
        `effective_iia` and `effect_r2`.
    """
    assert prepared.program is not None and isinstance(prepared.teacher, nn.Module)
    settings, seed = prepared.config.verification, prepared.config.seed
    against: list[list[dict[str, Any]]] = []
    for side, networks in ((TEACHER, {TEACHER: prepared.teacher}), ("student", dict(students))):
        phase(f"verifying {', '.join(networks)} against the program")
        found = verify(
            prepared.program,
            networks,
            with_program(alignment, side),
            prepared.rows.drawn[HELD_OUT],
            pairs=settings.pairs,
            batch_size=settings.batch_size,
            seed=seed,
            subspaces=subspaces if side == "student" and subspaces else None,
        )
        measured = summarise(found.outcomes, resamples=settings.resamples, seed=seed).to_dict()
        against.append(_lines("program", measured))
    of_teacher, of_students = against
    return [*of_teacher, *_lines(TEACHER, summary), *of_students]


def _lines(upper: str, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for name, measured in summary["students"].items():
        variables = {
            variable: {
                "iia": one["iia"]["all"],
                "effective_iia": one["effective_iia"]["outside"],
                "effect_r2": one["effect_r2"]["outside"],
            }
            for variable, one in measured["variables"].items()
        }
        lines.append({"upper": upper, "lower": name, "variables": variables})
    return lines
