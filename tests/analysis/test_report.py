from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from iit_toolkit.analysis.report import write_report
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_results, make_run

FIGURES = {
    "accuracy",
    "above_floor",
    "effects",
    "cases",
    "by_position",
    "by_frequency",
    "reliability",
    "effect_scatter",
    "training",
    "balance",
}


@pytest.fixture
def no_figures(monkeypatch):
    """For tests of words and numbers: drawing is by far the slowest part."""
    monkeypatch.setattr("iit_toolkit.analysis.report.write_figures", lambda *_: [])


def written(folder):
    return (folder / "report.html").read_text(), (folder / "report.md").read_text()


def test_a_report_needs_no_model(tmp_path):
    make_run(tmp_path)
    program = (
        "import sys, pathlib\n"
        "from iit_toolkit.analysis import card, comparison, report\n"
        f"report.write_report(pathlib.Path({str(tmp_path)!r}))\n"
        "sys.exit(sorted({'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)).__repr__() "
        "if {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_files_are_written_and_self_contained(tmp_path):
    assert write_report(make_run(tmp_path)) == tmp_path / "report.html"
    html, markdown = written(tmp_path)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png", "csv")
    }
    assert html.count('<svg role="img" aria-label=') == len(FIGURES)
    assert html.count("<script") == html.count("<script>") == 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) > len(FIGURES)
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', html)) <= {(one, "") for one in ids} | {
        ("", one) for one in ids
    }
    assert len(html.encode()) <= 2 * 2**20
    assert all(f"(figures/{name}.svg)" in markdown for name in FIGURES)
    assert not [path.name for path in tmp_path.rglob(".*")]


@pytest.mark.usefixtures("no_figures")
def test_everything_of_the_user_is_escaped(tmp_path):
    write_report(make_run(tmp_path))
    html, markdown = written(tmp_path)
    assert "synthetic &lt;run&gt; &amp; more" in html
    assert "<run>" not in html + markdown


@pytest.mark.usefixtures("no_figures")
def test_verdict_and_comparison_stand_first_with_their_numbers(tmp_path):
    write_report(make_run(tmp_path))
    html, markdown = written(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert re.search(r'class="badge">SUPPORTED<', html)
    assert re.search(r'class="badge">\s*HIGHER THAN plain<', html)
    assert html.index("SUPPORTED</div>") < html.index('id="comparison"') < html.index('id="students"')
    found = results["summary"]["students"]["causal"]["variables"]["middle"]["effective_iia"]["outside"]
    shown = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    assert shown in html
    assert f"| causal | middle | {shown} |" in markdown


@pytest.mark.usefixtures("no_figures")
def test_a_causal_student_that_is_not_better_is_named_in_the_same_place(tmp_path):
    outcomes = make_outcomes({"causal": 0.2, "plain": 0.6, "untrained": 0.0})
    write_report(make_run(tmp_path, outcomes))
    html, markdown = written(tmp_path)
    assert re.search(r'class="finding bad" id="comparison".*?class="badge">\s*LOWER THAN plain<', html, re.S)
    assert "causal is LOWER than plain" in html
    assert "**LOWER THAN plain**" in markdown

    write_report(make_run(tmp_path, make_outcomes({"causal": 0.5, "plain": 0.5})))
    html, markdown = written(tmp_path)
    assert re.search(r'class="badge">\s*NOT SEPARATED FROM plain<', html)
    assert "not shown to be better" in html
    assert "**NOT SEPARATED FROM plain**" in markdown


def test_undefined_cells_say_why(tmp_path):
    outcomes = make_outcomes({"causal": 0.5, "untrained": 0.0}, changed=0.0, bases=30).assign(gold=-100)
    write_report(make_run(tmp_path, outcomes))
    html, markdown = written(tmp_path)
    assert "INCONCLUSIVE</div>" in html
    assert "n/a (no changed cases)" in html and "n/a (no changed cases)" in markdown
    assert "n/a (no gold answers)" in html
    assert "NO BASELINE" in html and "NO BASELINE" in markdown
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r'src="[^"]*"', "", html) + markdown)


def test_classification_and_several_variables(tmp_path):
    outcomes = make_outcomes(variables=("early", "late"), classification=True)
    write_report(make_run(tmp_path, outcomes))
    html, markdown = written(tmp_path)
    assert html.count('<td class="text">early</td>') >= 3
    assert "| plain | late |" in markdown
    assert "inside" not in (tmp_path / "figures" / "accuracy.svg").read_text()
    assert not {"by_position.svg", "by_frequency.svg"} & {path.name for path in (tmp_path / "figures").iterdir()}
    assert "early, outside: KL" in html


@pytest.mark.usefixtures("no_figures")
def test_failed_controls_and_stale_verdicts_are_loud(tmp_path):
    broken = {"self_swap": {"cases": 400, "changed": 3, "max_difference": 0.2}}
    write_report(make_run(tmp_path, controls=broken))
    html, markdown = written(tmp_path)
    assert "The self-swap control failed" in html and "The self-swap control failed" in markdown
    assert ">FAIL<" in html

    stale = make_results(make_outcomes())["verdict"] | {"label": "NOT SUPPORTED"}
    write_report(make_run(tmp_path, verdict=stale))
    html, _ = written(tmp_path)
    assert "results.json says NOT SUPPORTED; the outcomes table, shown here, gives SUPPORTED" in html
    assert "The self-swap control failed" not in html


@pytest.mark.usefixtures("no_figures")
def test_what_was_done_is_told(tmp_path):
    write_report(make_run(tmp_path))
    for text in written(tmp_path):
        assert "component block_output, layer 3, neurons [0, 64]" in text
        assert "swapped positions: kind span, fraction 0.3" in text
        assert "20.50" in text and "[19.25, 21.75]" in text
        assert "1 kl + 0.5 mlm + 1 interchange" in text
        assert "torch 2.13.0; transformers 5.23.0" in text
        assert "iit-toolkit run config.yaml" in text
    assert "cuda none" in written(tmp_path)[0]


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_only_verified_has_a_report_too(tmp_path):
    write_report(make_run(tmp_path, arms={}, comparison=None, evaluation={}))
    for text in written(tmp_path):
        assert "Training and its cost" not in text
        assert "Perplexity on held-out data" not in text
        assert "iit-toolkit verify config.yaml" in text
        assert "NO BASELINE" in text


def test_figures_and_text_are_the_same_each_time(tmp_path):
    make_run(tmp_path)
    write_report(tmp_path)
    first = written(tmp_path)
    write_report(tmp_path)
    assert written(tmp_path) == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "results.json is missing"),
        ("{", "can't be read as JSON"),
        ("[]", "has the schema None"),
        ('{"schema": "iit_toolkit/results/1", "name": "x"}', "no created, provenance"),
    ],
)
def test_a_broken_run_folder_is_refused_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_the_cost_of_a_step_stands_beside_a_plain_one_and_its_floor(tmp_path):
    page = write_report(make_run(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert "| 3 GFLOP | 1.50 times | 0.04 s | 75% |" in text
    assert "| 2 GFLOP | 1.00 times | 0.04 s | 75% |" in text
    assert "<td>1.50 times</td><td>0.04 s</td><td>75%</td>" in page.read_text()


def test_a_run_without_counted_cost_still_has_a_report(tmp_path):
    outcomes = make_outcomes()
    arms = make_results(outcomes)["arms"]
    for arm in arms.values():
        del arm["cost"]
    write_report(make_run(tmp_path, outcomes, arms=arms))
    assert "| n/a | n/a | n/a | n/a |" in (tmp_path / "report.md").read_text()
