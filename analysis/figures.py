"""Every figure of a run, in the order in which a report shows them.

Matplotlib is imported here, in the modules whose names end in `figures`, in `plots`, `heatmap` and `seeds_figure`
(never pyplot).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import pandas as pd

from iit_toolkit.analysis import case_figures, summary_figures
from iit_toolkit.analysis.examples import Answers
from iit_toolkit.analysis.metrics import Summary
from iit_toolkit.analysis.plots import STYLE, Plot, save
from iit_toolkit.analysis.subsets import Settings
from iit_toolkit.analysis.training_figures import History, training
from iit_toolkit.analysis.verdict import Verdict


def write_figures(
    outcomes: pd.DataFrame,
    answers: Answers | None,
    summary: Summary,
    verdict: Verdict,
    histories: Mapping[str, History],
    folder: Path,
) -> list[Plot]:
    """Draws every figure there is data for and writes each as `folder/{name}.svg`, `.png` and, its data, `.csv`.

    Args:
        outcomes: The outcomes table.
        answers: What is known of the answers; without, there is no figure by frequency.
        summary: Of the outcomes.
        verdict: Says which student is judged, and by which margin.
        histories: Per arm the logged steps of its training (`history` of results.json).
        folder: Made where it does not exist.

    Returns:
        The figures in the order in which a report shows them.
    """
    settings = Settings(resamples=summary.resamples, seed=summary.seed, level=summary.level)
    with matplotlib.rc_context(STYLE):
        drawn = [
            summary_figures.accuracy(summary),
            summary_figures.above_floor(summary, verdict.margin),
            summary_figures.effects(summary),
            summary_figures.cases(summary),
            *case_figures.position(outcomes, settings),
        ]
        if answers is not None:
            drawn += case_figures.frequency(outcomes, answers.per_million, answers.counted_in, settings)
        drawn += [
            case_figures.reliability(outcomes, verdict.student, verdict.margin, settings),
            case_figures.scatter(outcomes),
            *training(histories),
        ]
        return [save(folder, one) for one in drawn]
