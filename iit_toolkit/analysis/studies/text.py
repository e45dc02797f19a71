"""A comparison of a study's arms as Markdown and as LaTeX tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from iit_toolkit.analysis.report.latex import latex_row, latex_table, latex_text
from iit_toolkit.analysis.report.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.statistics.numbers import count, decimal, first_upper
from iit_toolkit.analysis.statistics.variable_verdict import Label
from iit_toolkit.analysis.studies.comparison import ArmComparison, StudyComparison
from iit_toolkit.analysis.studies.paired import EQUAL_COMPUTE, EQUAL_STEPS, Paired, Row, difference
from iit_toolkit.analysis.studies.rows import BEHAVIOUR, LEAK, relative_name
from iit_toolkit.analysis.studies.study import TEACHER, Record, Study

MEANING = "Mean ± standard deviation over seeds (number of seeds)."
_SCORES = "A task's score is a run's median over its fine-tuning seeds, of 100; for squad it is F1."
_EXPLAINED = {
    LEAK: [
        "How much more of the probability moves in student than in teacher if neurons are swapped that the alignment "
        "leaves out: the largest figure of all such places. Lower is better."
    ]
}
"""What is said of a group of measures before its table."""
_FEWER_SEEDS = (
    "Arms with different seeds cannot be compared by their means: if one has fewer seeds than another, compare the "
    "differences paired by seed."
)


def to_markdown(comparison: StudyComparison) -> str:
    """Return the whole comparison: a headline, every measure of every arm, and the comparisons on both bases."""
    study = comparison.study
    lines = [
        f"# {count(len(comparison.arms), 'arm')} over {count(len(study.seeds), 'seed')}",
        f"{markdown_cell(scale(study))} {comparison.scope}",
        "## Headline",
        headline(comparison),
    ]
    if study.verdicts():
        lines += ["## Verdicts", _verdicts(comparison)]
    for group, rows in comparison.groups.items():
        if rows:
            lines += [f"## {_title(study, group)}", *_EXPLAINED.get(group, ()), _spreads(comparison, rows, group)]
    for basis in (EQUAL_STEPS, EQUAL_COMPUTE):
        compared = [one for one in comparison.comparisons if one.basis.name == basis]
        if compared:
            lines += [f"## Differences at {basis}", _differences_note(comparison)]
            lines += ["\n".join(f"* {markdown_cell(one.basis.note)}" for one in compared)]
            for group, rows in comparison.groups.items():
                lines += _differences(compared, rows, group, _title(study, group))
    return "\n\n".join(lines) + "\n"


def headline(comparison: StudyComparison) -> str:
    """Return the short table of all arms and of the teacher in Markdown, and what its numbers are."""
    rows = [comparison.rows[name] for name in comparison.headline]
    return f"{_spreads(comparison, rows)}\n\n{_meaning(comparison, rows)}"


def scale(study: Study) -> str:
    """Says at which scale a study was run."""
    runs = [run for runs in study.records.values() for run in runs.values()]
    hardware = [run.hardware for run in runs]
    devices = dict.fromkeys(", ".join(one["cuda"]) or f"{one['cpu']}, {one['cores']} cores" for one in hardware)
    parts = [
        _teacher(study),
        f"students of {_range(run.training['student_parameters'] for run in runs)} parameters",
        f"{_range(run.training['steps'] for run in runs)} steps",
        *(_of_networks(study) if study.of_networks else _of_texts(study, runs)),
        f"on {' and '.join(devices)}",
    ]
    return f"{'; '.join(parts)}."


def _teacher(study: Study) -> str:
    teacher = study.first.results.document["teacher"]
    if study.of_networks and not teacher["parameters"]:
        return f"Program {_model_name(teacher['name'])}"
    return f"Teacher {_model_name(teacher['name'])} ({teacher['parameters']:,} parameters)"


def _of_texts(study: Study, runs: Sequence[Record]) -> list[str]:
    tuned = sorted({len(scores.seeds) for run in runs for scores in run.tasks.values()})
    return [
        f"{_range(run.training['tokens'] for run in runs)} tokens read",
        f"data {_splits(study, 'tokens', 'tokens')}",
        f"{_range(tuned)} fine-tuning seed{'' if tuned == [1] else 's'}" if tuned else "no fine-tuning",
    ]


def _of_networks(study: Study) -> list[str]:
    return [f"data {_splits(study, 'examples', 'rows')}"]


def _splits(study: Study, counted: str, unit: str) -> str:
    data = study.first.results.document["data"]
    return "; ".join(f"{name}: {found[counted]:,} {unit}" for name, found in data.items())


def _model_name(name: str) -> str:
    """Return a model's name on the Hub as it is, and of a path its last part."""
    return Path(name).name if name.startswith((".", "/", "~")) else name


def to_latex(comparison: StudyComparison) -> str:
    """Return two tables for a paper, the headline and its differences; they need the package booktabs."""
    rows = [comparison.rows[name] for name in comparison.headline]
    teacher = {row.measure: row for row in comparison.teacher}
    arms = [latex_row([arm, *(_spread(row, arm) for row in rows)]) for arm in comparison.arms]
    last = latex_row([TEACHER, *(_spread(teacher[r.measure], TEACHER) if r.measure in teacher else "-" for r in rows)])
    head = ["arm", *comparison.headline]
    means = latex_table(
        "l" * len(head),
        head,
        [*arms, "\\midrule", last],
        caption=_meaning(comparison, rows),
        label="tab:arms",
    )
    heads = ["arm", "measure", f"difference [{comparison.level:.0%}]", "seeds", "outcome"]
    body: list[str] = []
    for one in comparison.comparisons:
        title = heading(one)
        body += ["\\midrule"] * bool(body)
        body += [f"\\multicolumn{{5}}{{l}}{{{latex_text(f'{title}: {one.basis.note}')}}} \\\\"]
        wanted = {name for row in rows for name in (row.measure.name, relative_name(row.measure.name))}
        body += [
            latex_row([one.arm, paired.measure.name, difference(paired), str(paired.seeds), paired.outcome])
            for paired in one.basis.measures
            if paired.measure.name in wanted and paired.seeds
        ]
    caption = _differences_note(comparison)
    return f"{means}\n{latex_table('l' * len(heads), heads, body, caption=caption, label='tab:differences')}"


def heading(one: ArmComparison) -> str:
    """`causal against plain, at equal steps`."""
    return f"{one.arm} against {one.basis.baseline or 'its baseline'}, at {one.basis.name}"


def _title(study: Study, group: str) -> str:
    """Return the title of a group of measures."""
    if group == BEHAVIOUR and study.of_networks:
        return "Accuracy, and agreement with the teacher"
    return first_upper(group)


def _verdicts(comparison: StudyComparison) -> str:
    """Return a table of how many runs of an arm had which verdict."""
    found, labels = comparison.study.verdicts(), get_args(Label)
    cells = [[arm, *(str(list(found[arm].values()).count(label)) for label in labels)] for arm in comparison.arms]
    return markdown_table(["arm", *labels], cells)


def _spreads(comparison: StudyComparison, rows: Sequence[Row], group: str = "") -> str:
    """Return a table of arms; what measures have in common as their group's name is left out."""
    teacher = {row.measure: row for row in comparison.teacher}
    cells = [[arm, *(_spread(row, arm) for row in rows)] for arm in comparison.arms]
    if any(row.measure in teacher for row in rows):
        found = [_spread(teacher[row.measure], TEACHER) if row.measure in teacher else "-" for row in rows]
        cells.append([TEACHER, *found])
    return markdown_table(["arm", *(row.measure.name.removeprefix(f"{group}, ") for row in rows)], cells)


def spread(row: Row, arm: str) -> str:
    """`0.213 ± 0.010`: mean and standard deviation over seeds."""
    mean, deviation = row.spread(arm)
    if mean is None:
        return "n/a"
    digits = row.measure.digits
    return decimal(mean, digits) + ("" if deviation is None else f" ± {decimal(deviation, digits)}")


def _spread(row: Row, arm: str) -> str:
    defined = _defined(row, arm)
    return f"{spread(row, arm)} ({defined})" if defined else "-"


def _defined(row: Row, arm: str) -> int:
    return sum(value is not None for value in row.values[arm])


def _meaning(comparison: StudyComparison, rows: Sequence[Row]) -> str:
    """Return what the numbers of a table of arms are, and what they are not where the arms' seeds differ."""
    unlike = any(len({_defined(row, arm) for arm in comparison.arms} - {0}) > 1 for row in rows)
    parts = [MEANING, "" if comparison.study.of_networks else _SCORES, _FEWER_SEEDS if unlike else ""]
    return " ".join(filter(None, parts))


def _differences_note(comparison: StudyComparison) -> str:
    return (
        f"Mean of the differences paired by seed, its {comparison.level:.0%} interval (Student's t), and how many "
        "seeds it rests on. BEATS: the interval is entirely on the better side of zero. WORSE: it is entirely "
        "on the worse side. INCONCLUSIVE: neither, or fewer than three seeds, or, at equal compute, no lead over a "
        "baseline that had more."
    )


def _differences(compared: Sequence[ArmComparison], rows: Sequence[Row], group: str, title: str) -> list[str]:
    names = [name for row in rows for name in (row.measure.name, relative_name(row.measure.name))]
    present = {paired.measure.name for one in compared for paired in one.basis.measures if paired.seeds}
    columns = [name for name in names if name in present]
    if not columns:
        return []
    cells: list[list[str]] = []
    for one in compared:
        if one.basis.baseline is not None:
            found = {paired.measure.name: paired for paired in one.basis.measures}
            cells.append([one.arm, one.basis.baseline, *(_difference(found[name]) for name in columns)])
    heads = ["arm", "against", *(name.removeprefix(f"{group}, ") for name in columns)]
    return [f"**{title}**", markdown_table(heads, cells)]


def _difference(paired: Paired) -> str:
    return f"{difference(paired)} ({paired.seeds}) {paired.outcome}" if paired.seeds else "-"


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
