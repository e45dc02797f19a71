"""A comparison over seeds as Markdown and as a LaTeX table."""

from __future__ import annotations

from iit_toolkit.analysis.report.latex import latex_row, latex_text
from iit_toolkit.analysis.report.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.statistics.numbers import count, decimal
from iit_toolkit.analysis.studies.paired import Basis, Row, difference
from iit_toolkit.analysis.studies.seeds import SeedComparison


def spread(row: Row, arm: str) -> str:
    """`0.213 ± 0.010`: mean and standard deviation over seeds."""
    mean, deviation = row.spread(arm)
    if mean is None:
        return "n/a"
    digits = row.measure.digits
    return decimal(mean, digits) + ("" if deviation is None else f" ± {decimal(deviation, digits)}")


def heading(basis: Basis, treatment: str) -> str:
    """`causal against plain, at equal steps`."""
    return f"{treatment} against {basis.baseline or 'its baseline'}, at {basis.name}"


def to_markdown(compared: SeedComparison) -> str:
    """Return the whole comparison: every arm over seeds, then treatment against baseline."""
    arms = list(compared.rows[0].values)
    runs = ", ".join(f"{name} ({seed})" for name, seed in zip(compared.runs, compared.seeds, strict=True))
    lines = [
        f"# {compared.treatment} over {count(len(compared.seeds), 'seed')}",
        f"Runs (seeds): {markdown_cell(runs)}. {compared.scope}",
        "## Every arm",
        "Mean ± standard deviation over seeds.",
        markdown_table(
            ["measure", *arms],
            [[row.measure.name, *(spread(row, arm) for arm in arms)] for row in compared.rows],
        ),
    ]
    for basis in compared.bases:
        lines += [f"## {heading(basis, compared.treatment)[:1].upper()}{heading(basis, compared.treatment)[1:]}"]
        lines += [markdown_cell(basis.note)]
        if basis.measures:
            cells = [
                [one.measure.name, _better(one.measure.higher_is_better), difference(one), str(one.seeds), one.outcome]
                for one in basis.measures
            ]
            lines.append(
                markdown_table(["measure", "better is", f"difference [{compared.level:.0%}]", "seeds", ""], cells)
            )
            lines.append("\n".join(f"* {markdown_cell(one.sentence)}" for one in basis.measures))
    lines += ["## Per seed"]
    for row in compared.rows:
        cells = [
            [str(seed), *("n/a" if (value := row.values[arm][place]) is None else f"{value:.5g}" for arm in arms)]
            for place, seed in enumerate(compared.seeds)
        ]
        lines += [f"**{markdown_cell(row.measure.name)}**", markdown_table(["seed", *arms], cells)]
    return "\n\n".join(lines) + "\n"


def to_latex(compared: SeedComparison) -> str:
    """Return one table for a paper; it needs the package booktabs."""
    heads = ["measure", "treatment", "baseline", f"difference [{compared.level:.0%}]", "outcome"]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{lllll}",
        "\\toprule",
        latex_row(heads),
    ]
    rows = {row.measure: row for row in compared.rows}
    for basis in compared.bases:
        lines += ["\\midrule", f"\\multicolumn{{5}}{{l}}{{{latex_text(heading(basis, compared.treatment))}}} \\\\"]
        if basis.baseline is None:
            lines.append(f"\\multicolumn{{5}}{{l}}{{{latex_text(basis.note)}}} \\\\")
        for one in basis.measures:
            values = [spread(rows[one.measure], arm) for arm in (compared.treatment, str(basis.baseline))]
            lines.append(latex_row([one.measure.name, *values, difference(one), one.outcome]))
    lines += [
        "\\bottomrule",
        "\\end{tabular}",
        f"% mean and standard deviation over {count(len(compared.seeds), 'seed')}",
    ]
    return "\n".join(lines) + "\n"


def _better(higher: bool) -> str:
    return "higher" if higher else "lower"
