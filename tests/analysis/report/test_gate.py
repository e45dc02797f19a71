"""The gate on planted results: what passes, what fails, and files that other programs read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.report.gate import gate, to_junit, to_markdown
from iit_toolkit.analysis.statistics.stored_results import StoredResults, read_stored
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import CONTROLS, make_outcomes, make_results


def estimate(
    value: float | None, low: float | None, high: float | None, cases: int = 400, sources: int = 100
) -> dict[str, Any]:
    bases = min(cases, 100)
    return {"value": value, "low": low, "high": high, "cases": cases, "clusters": bases, "sources": min(sources, bases)}


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    return make_results(make_outcomes(variables=("early", "late"), bases=40))


@pytest.fixture
def store(planted: dict[str, Any], tmp_path: Path) -> Any:
    """Writes results with planted estimates of effective IIA outside, by variable, and reads them back."""

    def store(name: str = "results.json", *, changes: dict[str, Any] | None = None, **planted_: Any) -> StoredResults:
        document = json.loads(json.dumps(planted | (changes or {})))
        if planted_:
            document["verdict"]["measure"] = "effective_iia"
        student = document["summary"]["students"][document["verdict"]["student"]]
        for variable, one in planted_.items():
            student["variables"][variable]["effective_iia"]["outside"] = one
        (tmp_path / name).write_text(json.dumps(document))
        return read_stored(tmp_path / name)

    return store


def answers(checked: Any) -> dict[tuple[str, str], bool]:
    return {(check.name, check.variable): check.passed for check in checked.checks}


def test_the_lower_end_decides_not_the_value(store: Any) -> None:
    results = store(early=estimate(0.7, 0.6, 0.8), late=estimate(0.9, 0.59, 0.99))
    checked = gate(results, 0.6)
    assert answers(checked) == {
        ("self-swap", ""): True, ("lower bound", "early"): True, ("lower bound", "late"): False,
    }  # fmt: skip
    assert not checked.passed
    assert gate(results, 0.59).passed
    assert "0.900 [0.590, 0.990] (400 changed cases, 100 base examples): its lower end is below 0.6." in to_markdown(
        checked
    )


@pytest.mark.parametrize("label", ["SUPPORTED", "INCONCLUSIVE", "NOT SUPPORTED"])
def test_a_verdict_can_be_asked_for(planted: dict[str, Any], store: Any, label: str) -> None:
    results = store(changes={"verdict": planted["verdict"] | {"label": label}})
    checked = gate(results, 0.0, measure="effective_iia", supported=True)
    assert answers(checked)["verdict", ""] is (label == "SUPPORTED")
    assert checked.passed is (label == "SUPPORTED") and f"The verdict is {label}." in to_markdown(checked)
    assert gate(results, 0.0, measure="effective_iia").passed


def test_measured_intervals_are_those_of_the_judged_student(planted: dict[str, Any], store: Any) -> None:
    results = store()
    low = min(
        one["effective_iia"]["outside"]["low"] for one in planted["summary"]["students"]["causal"]["variables"].values()
    )
    assert results.judged == "causal" and 0.2 < low < 0.6
    assert gate(results, low, measure="effective_iia").passed
    assert not gate(results, low + 1e-9, measure="effective_iia").passed


@pytest.mark.parametrize(("high", "passed"), [(0.78, True), (0.7799, False)])
def test_the_baseline_is_held_against_the_whole_interval(store: Any, high: float, passed: bool) -> None:
    results = store(early=estimate(0.7, 0.6, high), late=estimate(0.9, 0.8, 0.95))
    baseline = store("baseline.json", early=estimate(0.8, 0.7, 0.9), late=estimate(0.9, 0.8, 0.95))
    checked = gate(results, 0.5, baseline=baseline)
    assert answers(checked)["baseline", "early"] is passed and checked.passed is passed
    assert answers(checked)["baseline", "late"]
    assert gate(results, 0.5, baseline=baseline, margin=0.1).passed


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (estimate(None, None, None, cases=0), "is undefined: no intervention changed the teacher's answer"),
        (estimate(1.0, None, None, cases=1), "(1 changed case, 1 base example): bases and sources from 20 texts"),
        (estimate(0.9, 0.8, 1.0, cases=19), "(19 changed cases, 19 base examples): bases and sources from 20 texts"),
        (estimate(0.9, 0.8, 1.0, sources=19), "base examples, 19 source examples): bases and sources from 20 texts"),
    ],
)
def test_what_is_undefined_fails_with_a_sentence(store: Any, one: dict[str, Any], said: str) -> None:
    results = store(early=one, late=estimate(0.9, 0.8, 0.95))
    baseline = store("baseline.json", early=estimate(0.5, 0.4, 0.6), late=estimate(0.5, 0.4, 0.6))
    checked = gate(results, 0.0, baseline=baseline)
    found = answers(checked)
    assert not found["lower bound", "early"] and not found["baseline", "early"] and found["lower bound", "late"]
    for text in (to_markdown(checked), "".join(ElementTree.fromstring(to_junit(checked)).itertext())):
        assert said in text and "nan" not in text.lower() and "None" not in text


def test_a_failed_self_swap_fails_whatever_the_numbers(store: Any) -> None:
    broken = {"cases": 400, "changed": 1, "max_difference": 0.1}
    checked = gate(store(changes={"controls": {**CONTROLS, "self_swap": broken}}), 0.0)
    assert answers(checked)["self-swap", ""] is False and not checked.passed
    absent = {"cases": 0, "changed": 0, "max_difference": 0.0}
    assert ("self-swap", "") not in answers(gate(store(changes={"controls": {**CONTROLS, "self_swap": absent}}), 0.0))


def test_names_cannot_break_out_of_the_junit_file_or_the_table(planted: dict[str, Any], tmp_path: Path) -> None:
    vicious, named = 'a"<b>&|\x00\x1b]]>\n\ud800ü', 'a"<b>&|]]>\nü'
    document = json.loads(json.dumps(planted).replace('"early"', json.dumps(named))) | {"name": vicious}
    (tmp_path / "results.json").write_text(json.dumps(document))
    checked = gate(read_stored(tmp_path), 0.9)
    suite = ElementTree.fromstring(to_junit(checked).encode())[0]
    names = [case.get("name") for case in suite.iter("testcase")]
    safe = 'a"<b>&|\ufffd\ufffd]]>\n\ufffdü'
    assert names == ["self-swap", f"lower bound, variable {named}", "lower bound, variable late"]
    assert (suite.get("tests"), suite.get("failures"), suite.get("name")) == ("3", "2", f"gate of {safe}")
    assert [case.find("failure") is not None for case in suite.iter("testcase")] == [False, True, True]
    rows = [line for line in to_markdown(checked).splitlines() if line.startswith("|")]
    assert len(rows) == 5 and all(line.replace("\\|", "").count("|") == 5 for line in rows)


@pytest.mark.parametrize("bound", [-0.1, 1.1, float("nan")])
def test_bounds_are_shares(store: Any, bound: float) -> None:
    with pytest.raises(UserError, match="--min-lower is .*from 0 to 1"):
        gate(store(), bound, measure="effective_iia")
    with pytest.raises(UserError, match="--margin is .*from 0 to 1"):
        gate(store(), 0.5, margin=bound)
    if bound != -0.1:
        with pytest.raises(UserError, match="effect R² is at most 1 and may be negative, so give a number up to 1"):
            gate(store(), bound, measure="effect_r2")
    else:
        assert gate(store(), bound, measure="effect_r2").passed


def test_the_gate_asks_what_the_verdict_rests_on(store: Any) -> None:
    results = store()
    assert results.verdict.measure == "effect_r2"
    assert "Effect R² outside is" in to_markdown(gate(results, 0.1))
    assert "Effective IIA outside is" in to_markdown(gate(results, 0.1, measure="effective_iia"))
    with pytest.raises(UserError, match='did you mean "kl_recovered"'):
        gate(results, 0.1, measure="kl_recoverd")


def test_results_without_the_measure_are_one_line_with_their_path(store: Any, planted: dict[str, Any]) -> None:
    earlier = json.loads(json.dumps(planted["summary"]))
    for student in earlier["students"].values():
        for variable in student["variables"].values():
            variable["effect_r2"] = None
    baseline = store("baseline.json", changes={"summary": earlier})
    with pytest.raises(UserError, match="baseline.json: effect R² was not measured in these results; verify"):
        gate(store(), 0.1, baseline=baseline)


def test_a_baseline_without_a_value_is_refused(store: Any) -> None:
    with pytest.raises(UserError, match='causal has no effective IIA outside of variable "late"; give a baseline'):
        gate(store(), 0.1, baseline=store("baseline.json", late=estimate(None, None, None, 0)), measure="effective_iia")


def test_a_baseline_on_other_data_is_refused(planted: dict[str, Any], store: Any) -> None:
    other = planted["data"] | {"validation": planted["data"]["train"]}
    with pytest.raises(UserError, match="can't be compared .*: other held-out data"):
        gate(store(), 0.1, baseline=store("baseline.json", changes={"data": other}))
