"""Texts in Markdown, LaTeX, CSV and figures, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from iit_toolkit.analysis.csv_text import to_csv
from iit_toolkit.analysis.latex import latex_comment, latex_text
from iit_toolkit.analysis.markdown import markdown_cell
from iit_toolkit.analysis.plots import STYLE, Drawing, hover, save
from iit_toolkit.analysis.statistics import Resampled
from iit_toolkit.analysis.telling import left_out, telling
from iit_toolkit.analysis.verdict import judge
from tests.analysis.synthetic import make_outcomes


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b\\|c", r"a\|b\\\|c"),
        ("[x](javascript:alert(1))", r"\[x]\(javascript:alert(1))"),
        ("![x][y]", r"![x]\[y]"),
        ("<img onerror=x>\n# head", "&lt;img onerror=x> # head"),
        ("$\\href{x}{y}$", r"\$\\href{x}{y}\$"),
        ("\x1b[31m\u202e", "\ufffd[31m\ufffd"),
        ("0.213 [0.190, 0.236]", "0.213 [0.190, 0.236]"),
    ],
)
def test_markdown(text: str, written: str) -> None:
    assert markdown_cell(text) == written


def test_latex() -> None:
    assert latex_text("[a] & \x00$x^{2}$") == r"{[}a] \& " + "\ufffd" + r"\$x\textasciicircum{}\{2\}\$"
    assert latex_comment("a\n\\input{x}") == r"% a \input{x}"


def test_csv_holds_no_formulas() -> None:
    table = pd.DataFrame({"=name": ["=cmd()", "+1", "-x", "@x", "fine", "a,b"], "value": [-1.5, 0, 1, 2, 3, None]})
    lines = to_csv(table).splitlines()
    assert lines[0] == "'=name,value"
    assert lines[1:] == ["'=cmd(),-1.5", "'+1,0.0", "'-x,1.0", "'@x,2.0", "fine,3.0", '"a,b",']


def test_figures_draw_dollar_signs(tmp_path: Path) -> None:
    vicious = "$x^{ $ \"'<b>"
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        axes = figure.add_subplot()
        axes.plot([1], [1], "o", **hover(vicious))
        axes.set_title(vicious)
        axes.set_yticks([1], labels=[vicious])
        axes.set_xscale("log")
        plot = save(tmp_path, Drawing("x", figure, "", vicious, pd.DataFrame({"a": [vicious]})))
    assert "<b>" not in plot.svg and "&lt;b&gt;" in plot.svg


def test_the_weakest_and_the_strongest_variables_are_shown() -> None:
    names = tuple(f"v{number}" for number in range(6))
    tables = [make_outcomes({"causal": number / 6}, variables=(name,), bases=30) for number, name in enumerate(names)]
    verdict = judge(pd.concat(tables, ignore_index=True), "causal", resamples=100)
    assert telling(verdict, names, most=4) == ["v0", "v1", "v4", "v5"]
    assert telling(verdict, names, most=6) == list(names) and telling(verdict, names) == list(names)
    assert telling(verdict, ["unknown", *names], most=7) == ["unknown", *names]
    assert left_out("accuracy", 8, "causal") == ""
    assert left_out("accuracy", 100, "causal").endswith("figures/accuracy-2.svg to accuracy-13.svg.")


def test_counts_as_small_integers_give_the_same_bits() -> None:
    generator = np.random.default_rng(0)
    counts = {name: generator.integers(low, 9, 400).astype(np.float64) for name, low in (("x", -3), ("n", 1))}
    pairs = {"base": np.arange(400) % 37, "source": np.arange(400) % 41, "resamples": 300, "seed": 1}
    whole = Resampled(counts, **pairs)
    small = Resampled({name: one.astype(np.int16) for name, one in counts.items()}, **pairs)
    assert whole.ratio("x", "n") == small.ratio("x", "n")
    assert whole.difference(("x", "n"), ("n", "n")) == small.difference(("x", "n"), ("n", "n"))
