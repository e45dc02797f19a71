"""Texts in Markdown, LaTeX, CSV and figures, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.csv_text import to_csv
from iit_toolkit.analysis.report.figures.style import STYLE, Drawing, hover, save
from iit_toolkit.analysis.report.latex import latex_table, latex_text
from iit_toolkit.analysis.report.markdown import markdown_cell
from iit_toolkit.analysis.report.shown_variables import left_out, most_shown, telling
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.verdict import judge
from tests.analysis.synthetic import make_outcomes


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b\\|c", r"a\|b\\\|c"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("a [x](javascript:alert(1))", r"a [x]\(javascript:alert(1))"),
        ("a] b [c", r"a\] b \[c"),
        ("`a` *b* ~~c~~ &lt;script&gt; R&D", r"\`a\` \*b\* \~\~c\~\~ &amp;lt;script&amp;gt; R&D"),
        ("_a_ __b__ c_d e_", r"\_a\_ \_\_b\_\_ c_d e\_"),
        ("![x][y]", r"![x]\[y]"),
        ("<img onerror=x>\n# head", "&lt;img onerror=x> # head"),
        ("$\\href{x}{y}$", r"\$\\href{x}{y}\$"),
        ("\x1b[31m\u202e", r"�\[31m�"),
        ("0.213 [0.190, 0.236]", "0.213 [0.190, 0.236]"),
    ],
)
def test_markdown(text: str, written: str) -> None:
    assert markdown_cell(text) == written


def test_latex() -> None:
    assert latex_text("[a] & \x00$x^{2}$") == r"{[}a] \& " + "\ufffd" + r"\$x\textasciicircum{}\{2\}\$"
    assert latex_text('*a|"b"*') == r"{*}a\textbar{}''b''*"
    table = latex_table("l", ["a"], [], caption="a\n\\input{x}", label="tab:a_b}\\x")
    assert r"\caption{a \textbackslash{}input\{x\}}" in table and r"\label{tab:a-b-x}" in table


def test_csv_holds_no_formulas() -> None:
    table = pd.DataFrame(
        {"=name": ["=cmd()", "+1", "-x", "@x", "fine", "a,b", "＝1", "\n=1"], "value": [-1.5, 0, 1, 2, 3, None, 4, 5]}
    )
    lines = to_csv(table).splitlines()
    assert lines[0] == "'=name,value"
    assert lines[1:7] == ["'=cmd(),-1.5", "'+1,0.0", "'-x,1.0", "'@x,2.0", "fine,3.0", '"a,b",']
    assert lines[7:] == ["'＝1,4.0", "\"'", '=1",5.0']


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
    assert telling(verdict, names, most=6) == list(names) and telling(verdict, names, most=8) == list(names)
    assert telling(verdict, names, most=1) == ["v0"]
    assert telling(verdict, ["unknown", *names], most=7) == ["unknown", *names]
    assert [most_shown(students) for students in (1, 3, 5, 24, 100)] == [8, 8, 4, 1, 1]
    assert left_out([], 8, "causal", 8) == ""
    assert left_out(["x-2", "x-13"], 100, "causal", 8).endswith("; the others: figures/x-2.svg to x-13.svg.")
    assert left_out(["x-3"], 9, "causal", 4).endswith("leads it most; the others: figures/x-3.svg.")
    assert left_out([], 9, "causal", 1).endswith("the 1 in which causal leads its hardest control least.")


def test_counts_as_small_integers_give_the_same_bits() -> None:
    generator = np.random.default_rng(0)
    counts = {name: generator.integers(low, 9, 400).astype(np.float64) for name, low in (("x", -3), ("n", 1))}
    pairs = {"base": np.arange(400) % 37, "source": np.arange(400) % 41, "resamples": 300, "seed": 1}
    whole = Resampled(counts, **pairs)
    small = Resampled({name: one.astype(np.int16) for name, one in counts.items()}, **pairs)
    assert whole.ratio("x", "n") == small.ratio("x", "n")
    assert whole.difference(("x", "n"), ("n", "n")) == small.difference(("x", "n"), ("n", "n"))
