"""Stored results: what can be read, and what can be compared."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.analysis.statistics.stored_results import read_stored, refuse_incomparable
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_results

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    return make_results(make_outcomes(bases=30))


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_file_and_its_folder_are_the_same(planted: dict[str, Any], tmp_path: Path) -> None:
    file = written(tmp_path / "results.json", planted)
    assert read_stored(file) == read_stored(tmp_path)
    assert read_stored(file).judged == "causal"
    assert read_stored(file).held_out() == planted["data"]["validation"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(schema="iit_toolkit/results/0"), "this version reads"),
        (lambda d: d.pop("verdict"), "no verdict; verify the run again"),
        (lambda d: d["summary"].pop("students"), "summary.students: field required; another version wrote"),
        (lambda d: d["verdict"].pop("power"), "verdict.power: field required; another version wrote this file"),
        (lambda d: d["verdict"]["variables"]["middle"].pop("level"), "verdict.variables.middle.level: field required"),
        (lambda d: d.pop("controls"), "no controls; verify the run again"),
        (lambda d: d["controls"].pop("self_swap"), "controls.self_swap: field required; another version wrote"),
        (lambda d: d["verdict"].update(leaks=[{"site": "x"}]), "verdict.leaks.0.student: field required"),
        (lambda d: d.update(verdict=None), "results.json: verdict: "),
        (lambda d: d.update(data={}), "data: dictionary should have at least 1 item"),
        (lambda d: d["verdict"].update(student="gone"), 'no student "gone"; there are: causal, plain, untrained'),
    ],
)
def test_what_is_not_whole_is_refused_in_one_line(
    planted: dict[str, Any], tmp_path: Path, change: Change, said: str
) -> None:
    document = copy.deepcopy(planted)
    change(document)
    with pytest.raises(UserError) as caught:
        read_stored(written(tmp_path / "results.json", document))
    assert said in str(caught.value) and "results.json" in str(caught.value) and "\n" not in str(caught.value)


def test_further_entries_are_allowed_everywhere(planted: dict[str, Any], tmp_path: Path) -> None:
    document = copy.deepcopy(planted)
    estimate = document["summary"]["students"]["causal"]["behaviour"]["kl"]
    for entry in (document["verdict"], document["summary"], document["controls"], document["comparison"], estimate):
        entry["a further entry"] = 1
    stored = read_stored(written(tmp_path / "results.json", document))
    assert stored.verdict == Verdict.from_dict(document["verdict"])
    assert model_card(stored.document, "causal") == model_card(planted, "causal")


def test_no_file_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone.json: no such results; give"):
        read_stored(tmp_path / "gone.json")
    with pytest.raises(UserError, match="results.json is missing: the run did not finish"):
        read_stored(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(task="causal_lm"), "other task (causal_lm against masked_lm)"),
        (lambda d: d["teacher"].update(name="other"), "other teacher (other, 22,500,000 parameters against example/"),
        (lambda d: d["teacher"].update(parameters=1), "other teacher"),
        (
            lambda d: d["teacher"].update(weights="sha256:12"),
            "other weights of the teacher (sha256:12... against sha256:",
        ),
        (lambda d: d["data"]["validation"].update(fingerprint="sha256:0"), "other held-out data (sha256:0"),
        (lambda d: d["alignment"]["positions"].update(fraction=0.5), "other alignment (diito/middle against"),
    ],
)
def test_incomparable(planted: dict[str, Any], tmp_path: Path, change: Change, said: str) -> None:
    planted["teacher"]["weights"] = "sha256:34"
    one = read_stored(written(tmp_path / "one.json", planted))
    document = copy.deepcopy(planted)
    change(document)
    with pytest.raises(UserError) as caught:
        refuse_incomparable(one, read_stored(written(tmp_path / "two.json", document)))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_seed_training_data_and_names_may_differ(planted: dict[str, Any], tmp_path: Path) -> None:
    document = copy.deepcopy(planted)
    document |= {"seed": 99, "name": "second"}
    document["teacher"].pop("weights", None)
    document["alignment"] |= {"name": "same sites", "draw": {"middle": 1.0}}
    del document["data"]["train"]  # verified, not trained
    two = read_stored(written(tmp_path / "two.json", document))
    refuse_incomparable(read_stored(written(tmp_path / "one.json", planted)), two)
