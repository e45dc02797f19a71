from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import CONTROLS, SHUFFLED, make_controls, make_outcomes, make_results, make_run

FIGURES = {
    "alignment",
    "accuracy",
    "above_floor",
    "effects",
    "cases",
    "controls",
    "by_position",
    "by_frequency",
    "reliability",
    "effect_scatter",
    "training",
    "balance",
    "where_it_holds",
}


@pytest.fixture
def no_figures(monkeypatch):
    """For tests of words and numbers: drawing is by far the slowest part."""
    monkeypatch.setattr("iit_toolkit.analysis.report.report.write_figures", lambda *_: [])


def written(folder):
    return (folder / "report.html").read_text(), (folder / "report.md").read_text()


def test_a_report_needs_no_model(tmp_path):
    make_run(tmp_path)
    program = (
        "import sys, pathlib\n"
        "from iit_toolkit.analysis.report import model_card, report\n"
        "from iit_toolkit.analysis.statistics import comparison\n"
        f"report.write_report(pathlib.Path({str(tmp_path)!r}))\n"
        "sys.exit(sorted({'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)).__repr__() "
        "if {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of a run with its report and all figures; tests take a copy of what they change."""
    folder = make_run(tmp_path_factory.mktemp("reported"))
    assert write_report(folder) == folder / "report.html"
    return folder


def test_all_files_are_written_and_self_contained(reported):
    html, markdown = written(reported)
    assert {path.name for path in (reported / "figures").iterdir()} == {
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
    assert not [path.name for path in reported.rglob(".*")]


@pytest.mark.usefixtures("no_figures")
def test_everything_of_the_user_is_escaped(tmp_path):
    write_report(make_run(tmp_path))
    html, markdown = written(tmp_path)
    assert "synthetic &lt;run&gt; &amp; more" in html
    assert "<run>" not in html + markdown


@pytest.mark.usefixtures("no_figures")
def test_verdict_and_comparison_stand_first_with_their_numbers(tmp_path):
    write_report(make_run(tmp_path, shuffled=make_controls()))
    html, markdown = written(tmp_path)
    assert "| chosen | variable | position | teacher, without and with |" in markdown
    results = json.loads((tmp_path / "results.json").read_text())
    assert re.search(r'class="badge">SUPPORTED<', html)
    assert re.search(r'class="badge">\s*HIGHER THAN plain<', html)
    assert html.index("SUPPORTED</div>") < html.index('id="comparison"') < html.index('id="students"')
    found = results["summary"]["students"]["causal"]["variables"]["middle"]["effect_r2"]["outside"]
    shown = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    assert shown in html
    assert f"| causal | middle | {shown} |" in markdown


@pytest.mark.usefixtures("no_figures")
def test_a_causal_student_that_is_not_better_is_named_in_the_same_place(tmp_path):
    outcomes = make_outcomes({"causal": 0.2, "plain": 0.6, "untrained": 0.0})
    write_report(make_run(tmp_path, outcomes))
    html, markdown = written(tmp_path)
    assert re.search(r'class="finding bad" id="comparison".*?class="badge">\s*LOWER THAN plain<', html, re.S)
    assert "It is LOWER for causal" in html
    assert "**LOWER THAN plain**" in markdown

    write_report(make_run(tmp_path, make_outcomes({"causal": 0.5, "plain": 0.5})))
    html, markdown = written(tmp_path)
    assert re.search(r'class="badge">\s*NOT SEPARATED FROM plain<', html)
    assert "not shown that causal is better" in html
    assert "**NOT SEPARATED FROM plain**" in markdown


@pytest.mark.usefixtures("no_figures")
def test_undefined_cells_say_why(tmp_path):
    outcomes = make_outcomes({"causal": 0.5, "untrained": 0.0}, changed=0.0, bases=30).assign(gold=-100)
    write_report(make_run(tmp_path, outcomes))
    html, markdown = written(tmp_path)
    assert "INCONCLUSIVE</div>" in html
    assert "n/a (no changed cases)" in html and "n/a (no changed cases)" in markdown
    assert "n/a (no gold answers)" in html
    assert "NO BASELINE" in html and "NO BASELINE" in markdown
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r'src="[^"]*"', "", html) + markdown)


@pytest.mark.parametrize("task", ["sequence_classification", "networks"])
def test_classification_and_several_variables(tmp_path, task):
    outcomes = make_outcomes(variables=("early", "late"), classification=True)
    write_report(make_run(tmp_path, outcomes, task=task))
    html, markdown = written(tmp_path)
    assert html.count('<td class="text">early</td>') >= 3
    assert "| plain | late |" in markdown
    assert "inside" not in (tmp_path / "figures" / "accuracy.svg").read_text()
    assert not {"by_position.svg", "by_frequency.svg"} & {path.name for path in (tmp_path / "figures").iterdir()}
    assert ": early: KL" in html and "| chosen | variable | teacher, without and with |" in markdown
    shown = re.sub("<[^>]*>", "", html.partition("<body>")[2]) + markdown
    told = "outside|inside|swapped positions|of bases and|\\w+ finds them"
    assert re.findall(told, shown.replace("swapped positions: span", "")) == ["of bases and", "inputs finds them"] * 2
    assert shown.count("swapped positions: span") == (2 if task == "sequence_classification" else 0)


@pytest.mark.usefixtures("no_figures")
def test_failed_controls_and_stale_verdicts_are_loud(tmp_path):
    broken = {
        "self_swap": {"cases": 400, "changed": 3, "max_difference": 0.2},
        "ceiling": {"cases": 100, "same": 98},
        "absent": None,
        "leaks": None,
    }
    write_report(make_run(tmp_path, controls=broken))
    for text in written(tmp_path):
        assert "The self-swap control failed" in text and "The teacher does not agree with itself: runs" in text
        assert "98 of 100 cases the same" in text
    html, markdown = written(tmp_path)
    assert rows_of(html, "controls").count(">FAIL<") == 2 and markdown.count("| FAIL |") == 2

    stale = make_results(make_outcomes(), controls=make_controls())["verdict"] | {"label": "NOT SUPPORTED"}
    write_report(make_run(tmp_path, shuffled=make_controls(), verdict=stale))
    html, _ = written(tmp_path)
    assert "results.json says NOT SUPPORTED; the outcomes table, shown here, gives SUPPORTED" in html
    assert "The self-swap control failed" not in html


@pytest.mark.usefixtures("no_figures")
def test_what_was_done_is_told(tmp_path):
    write_report(make_run(tmp_path))
    for text in written(tmp_path):
        assert "component block_output, layer 3, neurons [0, 64]" in text
        assert "swapped positions: span, fraction 0.3" in text
        assert "20.50" in text and "[19.25, 21.75]" in text
        assert "1 kl + 0.5 mlm + 1 interchange" in text
        assert "torch 2.13.0; transformers 5.23.0" in text
        assert "iit-toolkit run RUN/config.yaml" in text
    assert "cuda none" in written(tmp_path)[0]


@pytest.mark.usefixtures("no_figures")
def test_accuracy_comes_in_a_table_of_its_own(tmp_path):
    outcomes = make_outcomes(classification=True)
    evaluation = make_results(outcomes)["evaluation"]
    accuracy = {"value": 0.875, "low": 0.75, "high": 0.96, "cases": 80, "clusters": 80}
    validation = {"rows": 80, "fingerprint": "sha256:1", "accuracy": {"teacher": accuracy, "causal": accuracy}}
    write_report(make_run(tmp_path, outcomes, evaluation={"validation": validation, **evaluation}))
    html, markdown = written(tmp_path)
    assert rows_of(html, "accuracy").count(">0.875 <span") == 2 and "20.50" not in rows_of(html, "accuracy")
    assert "20.50" in rows_of(html, "perplexity") and "0.88 <span" not in rows_of(html, "perplexity")
    assert "## Accuracy on held-out data" in markdown and "| causal | 0.875 [0.750, 0.960] |" in markdown


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_only_verified_has_a_report_too(tmp_path):
    write_report(make_run(tmp_path, arms={}, comparison=None, evaluation={}))
    for text in written(tmp_path):
        assert "Training and its cost" not in text
        assert "Perplexity on held-out data" not in text
        assert "iit-toolkit verify RUN/config.yaml" in text
        assert "NO BASELINE" in text


def test_the_alignment_stands_beside_the_verdict_of_a_run_that_only_verified(tmp_path):
    """Nothing was trained, so nothing asks for a baseline."""
    write_report(make_run(tmp_path, arms={}, comparison=None, blocks={"teacher": 12, "causal": 4}))
    html, markdown = written(tmp_path)
    assert "NO BASELINE" not in html and "(figures/alignment.svg)" in markdown
    findings = html.partition('<div class="findings">')[2].partition("<details")[0]
    assert 'id="figure-alignment"' in findings and "What is aligned" in findings
    svg = (tmp_path / "figures" / "alignment.svg").read_text()
    assert "Blocks above the highest aligned one" not in findings and svg.count("<path") > 32
    shutil.rmtree(tmp_path / "figures")
    write_report(make_run(tmp_path, arms={}, comparison=None))
    assert "Blocks above the highest aligned one are not drawn." in written(tmp_path)[0]


def test_figures_and_text_are_the_same_each_time(reported, tmp_path):
    again = tmp_path / reported.name
    shutil.copytree(reported, again)
    for name in ("report.html", "report.md"):
        (again / name).unlink()
    write_report(again)
    assert written(again) == written(reported)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "results.json is missing"),
        ("{", "can't be read as JSON"),
        ("[]", "it holds a list"),
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


@pytest.mark.usefixtures("no_figures")
def test_the_cost_of_a_step_stands_beside_a_plain_one(tmp_path):
    page = write_report(make_run(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert "| 3 GFLOP | 1.50 times | 0.04 s |" in text
    assert "| 2 GFLOP | 1.00 times | 0.04 s |" in text
    assert "<td>1.50 times</td><td>0.04 s</td>" in page.read_text()


def rows_of(html, table):
    """The body of a table."""
    return re.search(rf'id="{table}".*?<tbody>(.*?)</tbody>', html, re.S)[1]


@pytest.mark.usefixtures("no_figures")
def test_controls_decide_the_verdict_of_the_report_as_they_did_in_the_run(tmp_path):
    passed = make_run(tmp_path / "passed", shuffled=make_controls())
    failed = make_run(tmp_path / "failed", shuffled=make_controls(SHUFFLED | {"wrong layer": 0.6}))
    for run, label, marks in ((passed, "SUPPORTED", 6), (failed, "NOT SUPPORTED", 5)):
        stored = json.loads((run / "results.json").read_text())["verdict"]
        assert json.loads(write_report(run, "json").read_text())["verdict"] == stored
        write_report(run)
        html, markdown = written(run)
        assert stored["label"] == label and f"{label}</div>" in html and "stale" not in markdown
        assert rows_of(html, "controls").count(">PASS<") == marks
    assert "does not single out the aligned layer" in rows_of(html, "controls")


@pytest.mark.usefixtures("no_figures")
def test_the_report_says_of_each_control_what_passing_and_failing_means(tmp_path):
    write_report(make_run(tmp_path, shuffled=make_controls()))
    html, markdown = written(tmp_path)
    names = re.findall(r'<th scope="row">(.*?)</th>', rows_of(html, "controls"))
    tested = [name for name in names if name not in ("random neurons", "plain student")]
    legend = re.search(r'<dl id="legend">(.*?)</dl>', html, re.S)[1]
    assert re.findall("<dt>(.*?)</dt>", legend) == tested and len(tested) == 6
    assert legend.count(">PASS<") == legend.count(">FAIL<") == 6
    assert markdown.count("PASS: ") == markdown.count("FAIL: ") == 7  # and of the leak check
    assert "random neurons | middle | none | NOT AVAILABLE | It swaps whole layers." in markdown
    assert "| plain student | middle | reaches" in markdown and "| COMPARISON |" in markdown
    assert html.index('id="students"') < html.index('id="controls"') < html.index('id="leaks"')


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("leak", "mark", "said"), [(False, "PASS", "no leak found here"), (True, "FAIL", "leaves out")]
)
def test_the_leak_check_of_blocks_is_shown_and_decides_nothing(tmp_path, leak, mark, said):
    write_report(make_run(tmp_path, shuffled=make_controls(leak=leak)))
    html, markdown = written(tmp_path)
    assert f">{mark}<" in rows_of(html, "leaks") and said in rows_of(html, "leaks")
    assert "| block 0 (in the teacher: block 1) |" in markdown and "cannot show that nothing bypasses" in markdown
    assert "SUPPORTED</div>" in html and "NOT SUPPORTED" not in html


def test_a_table_of_controls_that_is_gone_is_missed(tmp_path):
    run = make_run(tmp_path, shuffled=make_controls())
    (run / "controls.parquet").unlink()
    with pytest.raises(UserError, match="controls.parquet: no outcomes table there") as caught:
        write_report(run)
    assert "\n" not in str(caught.value) and not (run / "report.html").exists()


@pytest.mark.usefixtures("no_figures")
def test_results_of_a_student_whose_controls_were_not_run_say_so(tmp_path):
    write_report(make_run(tmp_path, controls=CONTROLS))
    for text in written(tmp_path):
        assert "They were not run for causal; verify it again to have them." in text
        assert "Leak check" not in text


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        (None, "controls: "),
        ({}, "controls.self_swap: field required"),
        ({"self_swap": {"cases": 1}}, "controls.self_swap.changed: field required"),
        ({name: one for name, one in CONTROLS.items() if name != "ceiling"}, "controls.ceiling: field required"),
        ({"self_swap": {"cases": 1, "changed": 2, "max_difference": 0.0}}, "controls.self_swap: value error, 2 of 1 "),
    ],
)
def test_controls_of_an_unknown_layout_are_refused_in_one_line(tmp_path, controls, said):
    with pytest.raises(UserError) as caught:
        write_report(make_run(tmp_path, controls=controls))
    assert said in str(caught.value) and "another version wrote this file" in str(caught.value)
    assert "\n" not in str(caught.value) and not (tmp_path / "report.html").exists()
