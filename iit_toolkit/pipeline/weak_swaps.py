"""Warn of alignments that swap what hardly moves the teacher: there is next to nothing to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from logging import getLogger

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.statistics.teacher_trace import ENOUGH
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.teacher_effects import weak_variables
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.pipeline.prepare import Prepared

_LOG = getLogger(__name__)
_PAIRS = 128


def warn_of_weak_swaps(prepared: Prepared, alignments: Mapping[str, Alignment]) -> None:
    """Warn of every variable whose swap changes the teacher's answer in fewer than 2% of cases.

    Args:
        prepared: Gives teacher and held-out rows.
        alignments: The alignments, by what messages call them.
    """
    teacher, settings = prepared.teacher, prepared.config.verification
    for where, alignment in alignments.items():
        drawn = draw_pairs(
            prepared.eval_rows,  # pyright: ignore[reportArgumentType]
            prepared.collator,
            alignment.positions,
            alignment.sources,
            task=prepared.config.task,
            pairs=min(settings.pairs, _PAIRS),
            batch_size=settings.batch_size,
            seed=prepared.config.seed,
            what="checking",
        )
        sites = {  # of subspaces that are learned later, the whole site
            name: tuple(replace(site, subspace=None) for site in several)
            for name, several in resolve(alignment, teacher, "teacher").items()
        }
        side = InterchangeModel(teacher, sites)
        for name, share in weak_variables(side, drawn).items():
            _LOG.warning(
                '%s: swapping "%s" changes the teacher\'s answer in %.1f%% of cases, under %.0f%%, so there is next to '
                "nothing to follow; run `iit-toolkit trace` to see where",
                where,
                name,
                100 * share,
                100 * ENOUGH,
            )
