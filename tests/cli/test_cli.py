from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import iit_toolkit
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.variable_verdict import Control, VariableVerdict
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.cli import app, main
from iit_toolkit.config import loading as config_module
from iit_toolkit.errors import UserError
from iit_toolkit.runs.finetuned import SUMMARY_SCHEMA
from tests.analysis.synthetic import make_outcomes, make_run

CONFIG = """\
name: quickstart
teacher: embedded
data: {source: python_docs}
arms: {plain: {}, causal: {alignment: diito/middle}}
"""
VERBS = {command.callback.__name__: command.callback for command in app.registered_commands if command.callback}
WITHOUT_PIPELINE = {"compare", "gate", "init", "ls", "schema"}


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    detail: str


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1, 50, 30)


def make_search(folder: Path) -> None:
    """The document of a search of twelve student layers, as the command line reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    cell = {"teacher_layer": 0, "moved": 30, "outside": {"counted": 50, "above_floor": 0.25}}
    cells = [{**cell, "student_layer": layer} for layer in range(12)]
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    variable = {"effective_iia": {"outside": share}, "effective_floor": {"outside": share}, "margin": share}
    floor = Control("no-intervention floor", estimate(0.1), estimate(0.4), True, "It follows.")
    judged = VariableVerdict("SUPPORTED", estimate(0.5), [floor], 0.95, 0.1, "It holds.")
    verdict = Verdict("student", "effective_iia", "SUPPORTED", 0.05, {"layer-0": judged}, "It holds.", "", "").to_dict()
    document = {
        "note": "Exploratory.",
        "matrix": {
            "measure": "effective_iia",
            "teacher_layers": 1,
            "student_layers": 12,
            "minimum_bases": 20,
            "cells": cells,
        },
        "map": [{"teacher_layer": 0, "student_layer": 0}],
        "confirmation": {
            "summary": {"students": {"student": {"variables": {"layer-0": variable}}}},
            "verdict": verdict,
        },
    }
    (folder / "search.json").write_text(json.dumps(document))


def make_trace(folder: Path) -> None:
    """The document of a trace of two layers, as the command line reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = [
        {"positions": positions, "component": component, "head": None, "layer": layer, "changed": 0.25 - 0.1 * layer}
        for positions in ("span", "answer")
        for component in ("block_output", "mlp_output")
        for layer in range(2)
    ]
    document = {"trace": {"layers": 2, "cells": cells}, "place": "Swap block 1.", "neurons": None}
    document["alignment"] = {"name": "traced"}
    (folder / "trace.json").write_text(json.dumps(document))


def make_finetuned(folder: Path) -> None:
    """The summary of a fine-tuning with two seeds, as the command line reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    spread = {"mean": 61.25, "median": 61.5, "std": None, "values": [61.0, 61.5]}
    tasks = {"rte": {"seeds": [1, 2], "score": spread, "splits": {"validation": {"accuracy": spread}}}}
    (folder / "finetune.json").write_text(json.dumps({"schema": SUMMARY_SCHEMA, "model": {}, "tasks": tasks}))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A pipeline that notes its calls and writes synthetic results, the config `quickstart`, an empty directory."""
    noted: list[tuple[Any, ...]] = []

    def reverified(output: Path | None, _: list[str]) -> SimpleNamespace:
        folder = make_run(output or Path("runs/default"))
        return SimpleNamespace(folder=folder, same=True, sentence="REPRODUCED: so it is.")

    def note(verb: str, answer: Any) -> Any:
        def called(config: Any, *arguments: Any, **options: Any) -> Any:
            noted.append((verb, config, *arguments, options))
            return answer(*arguments, **options) if callable(answer) else answer

        return called

    def make_demo(output: Path) -> dict[str, Path]:
        noted.append(("demo", output))
        return {name: make_run(output / name) for name in ("copy", "stranger")}

    pipeline = SimpleNamespace(
        demo=make_demo,
        finished_config=lambda *given: config_module.load_config("quickstart", [f"name={given[1]}", *given[3]]),
        validate=note("validate", [Check("data", True, "512 rows"), Check("arm causal", True, "certified")]),
        explain=note("explain", "The teacher has 6 layers."),
        run=note("run", make_run),
        train=note("train", None),
        verify=note("verify", lambda output, **_: make_run(output)),
        search=note("search", lambda output, **_: make_search(output)),
        trace=note("trace", lambda output, **_: make_trace(output)),
        verify_export=note("verify_export", reverified),
        export=note("export", lambda output, _: output),
        push_to_hub=note("push_to_hub", "https://hub.example/me/mine"),
    )
    monkeypatch.setattr(iit_toolkit, "pipeline", pipeline, raising=False)
    downstream = SimpleNamespace(finetune=note("finetune", make_finetuned))
    monkeypatch.setitem(sys.modules, "iit_toolkit.downstream.finetune", downstream)
    report = SimpleNamespace(write_report=note("report", None))
    monkeypatch.setitem(sys.modules, "iit_toolkit.analysis.report.report", report)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "quickstart.yaml").write_text(CONFIG)
    shutil.copytree(config_module.ASSETS / "init", tmp_path / "assets" / "init")
    monkeypatch.setattr(config_module, "ASSETS", tmp_path / "assets")
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    (tmp_path / "runs" / "quickstart" / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return noted


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


def make_runs() -> list[str]:
    """Three synthetic runs, `runs/seed-42` to `-44`."""
    folders = [f"runs/seed-{seed}" for seed in (42, 43, 44)]
    for place, folder in enumerate(folders):
        follows = {"causal": 0.6, "plain": 0.2 + 0.05 * place, "untrained": 0.0}
        make_run(Path(folder), make_outcomes(follows, bases=40, seed=place), seed=42 + place)
    return folders


def test_help_names_every_verb() -> None:
    answer = CliRunner().invoke(app, ["--help"])
    assert answer.exit_code == 0
    assert {"validate", "explain", "run", "train", "verify", "report", "compare", "gate", "export", "schema"} <= set(
        VERBS
    )
    for verb in VERBS:
        assert f"\n  {verb}" in answer.output
    assert "..." not in answer.output.partition("Commands:")[2]  # every summary is whole


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_in_the_help_of_each_verb_runs(verb: str, calls: list[Any]) -> None:
    if verb == "gate":
        make_run(Path("runs/quickstart"))
    if verb == "compare":
        make_runs()
    example = next(line for line in (VERBS[verb].__doc__ or "").splitlines() if "Example:" in line)
    program, *arguments = shlex.split(example.partition("Example:")[2].partition(" > ")[0])
    assert (program, arguments[0]) == ("iit-toolkit", verb)
    assert run(*arguments) == 0
    assert [call[0] for call in calls] == ([] if verb in WITHOUT_PIPELINE else [verb])
    assert example.partition("Example: ")[2].split()[-1] in CliRunner().invoke(app, [verb, "--help"]).output


def test_the_form_of_a_report_is_passed_on(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("report", "runs/quickstart") == 0
    assert run("report", "runs/quickstart", "--format", "latex") == 0
    folder = Path("runs/quickstart")
    assert calls == [("report", folder, {}), ("report", folder, "latex", {})]
    assert run("report", "runs/quickstart", "--format", "docx") == 2
    assert "docx" in capsys.readouterr().err and len(calls) == 2


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, iit_toolkit.cli\n"
        "try: iit_toolkit.cli.main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pyvene', 'datasets', 'pandas', 'numpy', 'matplotlib'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "iit_toolkit", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, iit_toolkit.__version__)


def test_overrides_and_output_reach_the_pipeline(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "quickstart", "training.learning_rate=3e-4", "-o", "out", "seed=7", "--json") == 0
    [(verb, config, output, _)] = calls
    assert (verb, config.seed, config.training, output) == ("run", 7, {"learning_rate": 3e-4}, Path("out"))
    document, results = json.loads(capsys.readouterr().out), json.loads(Path("out/results.json").read_text())
    assert document["folder"] == "out" and document["verdict"] == results["verdict"]
    assert document["summary"] == results["summary"] and "arms" not in document


def test_the_folder_is_named_after_the_config(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "quickstart", "name=second") == 0
    assert calls[0][2] == Path("runs/second")
    assert capsys.readouterr().out.endswith(f"report: {Path('runs/second/report.html')}\n")


@pytest.mark.usefixtures("calls")
def test_the_summary_gives_verdict_table_comparison_and_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", "quickstart") == 0
    printed = capsys.readouterr().out
    results = json.loads(Path("runs/quickstart/results.json").read_text())
    words = " ".join(printed.split())
    score = results["verdict"]["variables"]["middle"]["score"]["value"]
    assert (
        f"{results['verdict']['label']} for causal {results['verdict']['label']} middle effect R² {score:.3f}" in words
    )
    assert f"causal against plain: {results['comparison']['outcome']}" in words
    for student, measured in results["summary"]["students"].items():
        effective = measured["variables"]["middle"]["effective_iia"]["outside"]
        assert re.search(rf"{student} +{effective['value']:.3f} ", printed)
        assert f"[{effective['low']:.3f}, {effective['high']:.3f}]" in printed
    assert printed.splitlines()[-1] == f"report: {Path('runs/quickstart/report.html')}"


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("width", [60, 100])
def test_the_summary_fits_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert run("run", "quickstart") == 0
    printed = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= width
    assert ("effective IIA" in printed.partition("causal")[0]) == (width > 60) and "effect R²" in printed


@pytest.mark.usefixtures("calls")
def test_the_demo_prints_both_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "-o", "out") == 0
    told = capsys.readouterr()
    assert told.out.count(" for causal\n") == 2 and "less than a minute" in told.err
    for name in ("copy", "stranger"):
        assert f"\n{name}: a " in told.out and f"report: {Path('out') / name / 'report.html'}\n" in told.out
    assert run("demo", "-o", "out", "--json") == 0
    label = json.loads(Path("out/copy/results.json").read_text())["verdict"]["label"]
    document = json.loads(capsys.readouterr().out)
    assert document["copy"] == {"verdict": label, "folder": str(Path("out/copy"))} and set(document) == {
        "copy",
        "stranger",
    }


def test_train_needs_an_arm_that_exists(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "quickstart") == 2
    assert "choose with --arm: plain, causal" in capsys.readouterr().err
    assert run("train", "quickstart", "--arm", "casual") == 2
    assert 'did you mean "causal"?' in capsys.readouterr().err
    assert calls == []
    assert run("train", "quickstart", "arms={}") == 2
    assert "has no arms, so there is nothing to train" in capsys.readouterr().err
    Path("one.yaml").write_text(CONFIG.replace("plain: {}, ", ""))
    assert run("train", "one.yaml") == 0
    assert calls[0][3] == "causal"


def test_verify_hands_everything_over(calls: list[Any]) -> None:
    assert run("verify", "quickstart", "--student", "s", "--alignment", "a.yaml", "-o", "out") == 0
    assert calls[0][2] == {"student": "s", "alignment": "a.yaml", "output": Path("out")}
    assert run("verify", "quickstart", "--student", "s") == 2


@pytest.mark.usefixtures("calls")
def test_ls_prints_a_line_per_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ls", "assets") == 0
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("no runs in assets; write some with")
    [folder, *_] = make_runs()
    label = json.loads(Path(folder, "results.json").read_text())["verdict"]["label"]
    assert run("ls") == 0
    assert re.search(rf"seed-42 +causal +{label} +effect R² 0\.\d+ +\d\.\d+ +2026-01-02", capsys.readouterr().out)
    assert run("ls", "--json") == 0
    assert {one["folder"] for one in json.loads(capsys.readouterr().out)} >= {"runs/seed-42", "runs/quickstart"}
    assert run("ls", "runs/nowhere") == 2


@pytest.mark.parametrize("verb", ["", "run", "suite"])
def test_h_is_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*filter(None, [verb, "-h"])) == 0
    assert "Usage: " in capsys.readouterr().out


def test_verify_needs_no_config(calls: list[Any]) -> None:
    given = ("--teacher", "t", "--student", "s", "--alignment", "a.yaml", "--data", "d.txt")
    assert run("verify", *given, "seed=7") == 0
    assert run("verify", "seed=8", *given) == 0
    assert [config.seed for _, config, _ in calls] == [7, 8]
    assert calls[0][2] == {"student": "s", "alignment": "a.yaml", "output": Path("runs/s")}


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_a_search_of_many_layers_stays_within_the_terminal(
    calls: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run("search", "quickstart", "--student", "s", "-o", "out") == 0
    printed = capsys.readouterr().out
    assert len(calls) == 1 and max(map(len, printed.splitlines())) <= columns
    assert printed.count("+0.250") == 12 and printed.count("teacher") == {60: 4, 100: 2, 200: 1}[columns] + 1


def test_search_hands_everything_over_and_prints_what_was_found(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("search", "quickstart", "seed=7", "--student", "s", "-o", "out") == 0
    [(_, config, options)] = calls
    assert (config.seed, options) == (7, {"student": "s", "output": Path("out")})
    printed = capsys.readouterr().out
    assert printed.count("+0.250*") == 1 and printed.count("+0.250") == 12 and "layer 11" in printed
    assert "[0.400, 0.600]" in printed and "SUPPORTED for student" in printed and "lead +0.400" in printed
    assert printed.splitlines()[-1] == f"alignment: {Path('out/alignment.yaml')}"
    assert run("search", "quickstart", "--student", "s", "-o", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "out"
    assert run("search", "quickstart") == 2


def test_trace_hands_everything_over_and_prints_a_line_per_block(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--pairs",
        "9",
        "--components",
        "block_output, mlp_output",
        "--heads",
        "--neurons",
        "--student-layers",
        "3",
    )
    assert run("trace", "quickstart", "seed=7", *options, "-o", "out") == 0
    printed = capsys.readouterr().out
    assert run("trace", "quickstart", "--propose", "-o", "out", "--json") == 0
    (_, config, given), (_, _, defaults) = calls
    folder = {"output": Path("out")}
    named = {"components": ["block_output", "mlp_output"], "student_layers": 3}
    assert config.seed == 7 and given == {
        **folder,
        **{"pairs": 9, "heads": True, "neurons": True, "propose": False},
        **named,
    }
    assert defaults == {
        **folder,
        **{"pairs": 256, "heads": False, "neurons": False, "propose": True, "student_layers": None},
    }
    assert json.loads(capsys.readouterr().out)["folder"] == "out"
    assert re.search(r"^ +0 +25.0% +25.0% *$", printed, re.MULTILINE) and re.search(
        r"^ +1 +15.0%", printed, re.MULTILINE
    )
    ending = ["Swap block 1.", f"alignment: {Path('out/alignment.yaml')}", f"report: {Path('out/README.md')}"]
    assert printed.splitlines()[-3:] == ending


def test_finetune_takes_a_config_or_a_model_and_prints_a_table(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("tasks.yaml").write_text("name: mine\nmodel: m\ntasks: {rte: {}, squad: {}}\n")
    assert run("finetune", "tasks.yaml", "seeds=[1, 2]") == 0
    printed = capsys.readouterr().out
    assert re.search(r"rte +validation +accuracy +61\.25 +61\.50 +n/a +2", printed)
    assert printed.splitlines()[-1] == f"scores: {Path('runs/mine/finetune.json')}"
    arguments = ("--model", "m", "--task", "rte", "--task", "squad", "name=mine", "seeds=[1, 2]")
    assert run("finetune", *arguments, "-o", "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "out"
    (_, config, output, _), (_, same, other, _) = calls
    assert config == same and config.seeds == [1, 2] and (output, other) == (Path("runs/mine"), Path("out"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("tasks.yaml", "--model", "m"),
        ("--model", "m"),
        ("--task", "rte"),
        ("tasks.yaml", "--task", "rte"),
        ("seeds=[1]",),
    ],
)
def test_finetune_refuses_half_a_choice(
    calls: list[Any], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run("finetune", *arguments) == 2
    assert "error: give a CONFIG; or --model and --task" in capsys.readouterr().err
    assert calls == []


@pytest.mark.usefixtures("calls")
def test_a_failed_check_gives_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", "quickstart") == 0
    assert capsys.readouterr().out.splitlines() == ["ok    data: 512 rows", "ok    arm causal: certified"]
    checks = [Check("data", True, "x"), Check("teacher", False, "y")]
    monkeypatch.setattr(iit_toolkit.pipeline, "validate", lambda _: checks)
    assert run("validate", "quickstart") == 1
    assert "FAIL  teacher: y" in capsys.readouterr().out
    assert run("validate", "quickstart", "--json") == 1
    assert json.loads(capsys.readouterr().out)[1] == {"name": "teacher", "passed": False, "detail": "y"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "quikstart"],
            'error: no config file and no bundled config "quikstart": did you mean "quickstart"?',
        ),
        (["run", "quickstart", "sed=1"], 'error: config quickstart: sed: unknown key, did you mean "seed"?'),
        (["explain", "quickstart", "seed"], 'error: override "seed"'),
        (["report", "assets"], "error: assets is no run folder"),
        (["run", "quickstart", "--outptu", "x"], "No such option"),
        (["rum", "quickstart"], "No such command"),
    ],
)
def test_wrong_usage_gives_two_and_no_traceback(
    calls: list[Any], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert calls == []


def test_errors_of_the_pipeline(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: BaseException) -> Any:
        def failing(*_: Any, **__: Any) -> None:
            raise error

        return failing

    monkeypatch.setattr(iit_toolkit.pipeline, "run", fail(UserError("the data are empty")))
    assert run("run", "quickstart") == 2
    assert capsys.readouterr().err == "error: the data are empty\n"
    monkeypatch.setattr(iit_toolkit.pipeline, "run", fail(KeyboardInterrupt()))
    assert run("run", "quickstart") == 130
    monkeypatch.setattr(iit_toolkit.pipeline, "run", fail(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):  # a bug keeps its traceback
        main(["run", "quickstart"])
    assert calls == []


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"config": "arms", "alignment": "variables", "suite": "seeds", "tasks": "tasks"}
    for arguments, key in [((), "arms"), *(((file,), key) for file, key in keys.items())]:
        assert run("schema", *arguments) == 0
        assert key in json.loads(capsys.readouterr().out)["properties"]
    assert run("schema", "report") == 2


@pytest.mark.usefixtures("calls")
def test_the_gate_exits_with_one_and_writes_junit(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("run"))
    assert run("gate", "run", "--min-lower", "0.1", "--baseline", "run/results.json") == 0
    assert capsys.readouterr().out.startswith("### Gate passed: causal of synthetic &lt;run> & more\n")
    assert run("gate", "run", "--min-lower", "0.99", "--junit", "ci/gate.xml") == 1
    told = capsys.readouterr()
    assert told.out.startswith("### Gate FAILED (1 check of 2): causal of") and told.err == ""
    assert [case.get("name") for case in ElementTree.parse("ci/gate.xml").iter("testcase")] == [
        "self-swap",
        "lower bound, variable middle",
    ]


@pytest.mark.usefixtures("calls")
def test_compare_prints_a_table_or_json_and_writes_a_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = make_runs()
    with monkeypatch.context() as patch:
        patch.setenv("COLUMNS", "60")
        assert run("compare", *folders) == 0
    narrow = capsys.readouterr().out.splitlines()
    assert max(map(len, narrow)) <= 60 and any("] " in line and "BEATS" in line for line in narrow)
    assert run("compare", *folders, "-o", "over-seeds") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "causal against plain, at equal steps: causal and plain each made 130 steps;" in printed
    assert "causal against its baseline, at equal compute: n/a" in printed
    assert re.search(r"effective IIA outside, middle \+0\.\d+ \[\+0\.\d+, \+0\.\d+\] BEATS", printed)
    assert re.search(r"KL to the teacher \(nats\) \(lower is .*?-0\.", printed)
    suffixes = ("csv", "json", "md", "png", "svg", "tex")
    assert sorted(path.name for path in Path("over-seeds").iterdir()) == [f"compare.{suffix}" for suffix in suffixes]
    assert run("compare", *folders, "--json", "--treatment", "causal", "--baseline", "plain") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(Path("over-seeds/compare.json").read_text())
    assert (document["schema"], document["seeds"]) == ("iit_toolkit/study/1", [42, 43, 44])
    assert run("compare", *folders[:2], "--json") == 0
    outcomes = {one["outcome"] for one in json.loads(capsys.readouterr().out)["comparisons"][0]["basis"]["measures"]}
    assert outcomes == {"INCONCLUSIVE"}


def test_verify_from_an_export_takes_nothing_else_but_overrides(
    calls: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", "--from", "mine", "teacher=here", "data.path=there", "-o", "out") == 0
    assert calls[-1] == ("verify_export", Path("mine"), Path("out"), ["teacher=here", "data.path=there"], {})
    assert capsys.readouterr().out.splitlines()[-1] == "REPRODUCED: so it is."
    assert run("verify", "--from", "mine", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["folder"], document["reproduced"]) == ("runs/default", True) and "label" in document["verdict"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "mine", "quickstart"], "error: --from gives config, models, alignment and data; leave them out"),
        (["--from", "mine", "--student", "x"], "error: --from gives config, models, alignment and data"),
        (
            ["quickstart", "--student", "x"],
            "error: give CONFIG or --teacher and --data",
        ),
        (["--from", "mine", "--teacher", "x"], "error: --from gives config, models, alignment and data"),
        (
            ["quickstart", "--teacher", "t", "--data", "d", "--student", "x", "--alignment", "y"],
            "error: give CONFIG or",
        ),
        (["--teacher", "t", "--student", "x", "--alignment", "y"], "error: give CONFIG or --teacher and --data"),
        (["--data", "d", "--student", "x", "--alignment", "y"], "error: give CONFIG or --teacher and --data"),
        (
            ["--student", "x", "--alignment", "y"],
            "error: give CONFIG or --teacher and --data",
        ),
    ],
)
def test_verify_needs_one_way_and_not_two(
    calls: list[Any], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run("verify", *arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith(message) and told.err.count("\n") == 1 and told.out == ""
    assert calls == []


def test_export_prints_the_folder_and_the_address(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "runs/first", "-o", "out", "--push-to-hub", "me/mine") == 0
    assert calls == [
        ("export", Path("runs/first"), Path("out"), None, {}),
        ("push_to_hub", Path("out"), "me/mine", {}),
    ]
    assert capsys.readouterr().out == "out\nhttps://hub.example/me/mine\n"


def test_the_help_of_gate_names_every_judged_measure(capsys: pytest.CaptureFixture[str]) -> None:
    from iit_toolkit.analysis.statistics.measures import JUDGED

    assert run("gate", "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(name in printed for name in JUDGED) and "[default: what the verdict rests on]" in printed
