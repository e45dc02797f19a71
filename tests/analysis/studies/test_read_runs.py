"""Runs of one config over seeds: what is read of them, and which are refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.statistics.outcomes import write_outcomes
from iit_toolkit.analysis.studies.paired import Row
from iit_toolkit.analysis.studies.read_runs import read_runs
from iit_toolkit.analysis.studies.rows import COST, study_rows
from iit_toolkit.analysis.studies.study import Study
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_results, make_run

CONFIG = """\
name: {name}
seed: {seed}
teacher: {teacher}
data: {{source: python_docs}}
arms: {{plain: {{}}, causal: {{alignment: diito/middle}}}}
training: {{learning_rate: {rate}}}
verification: {{margin: {margin}}}
"""


def rows_of(study: Study) -> dict[str, Row]:
    groups = study_rows(study, list(study.records), list(study.first.student.variables))
    return {row.measure.name: row for group, rows in groups.items() if group != COST for row in rows}


def test_without_evaluation_sets_the_perplexity_is_that_of_the_verified_pairs(tmp_path: Path) -> None:
    make_run(tmp_path, make_outcomes(bases=20), evaluation={})
    rows = rows_of(read_runs([tmp_path]))
    assert rows["perplexity"].values["plain"] == pytest.approx((8.0 - 4 * 0.2,))


@pytest.fixture(scope="module")
def planted() -> dict[str, Any]:
    return make_results(make_outcomes(bases=20))


@pytest.fixture
def two(planted: dict[str, Any], tmp_path: Path) -> Callable[..., list[Path]]:
    """Two runs of seeds 7 and 8; the second's results changed."""

    def two(change: Callable[[dict[str, Any]], Any] = lambda _: None) -> list[Path]:
        folders = []
        for seed in (7, 8):
            document = copy.deepcopy(planted) | {"seed": seed}
            if seed == 8:
                change(document)
            folder = tmp_path / f"seed-{seed}"
            folder.mkdir()
            (folder / "results.json").write_text(json.dumps(document))
            write_outcomes(make_outcomes(bases=20, seed=seed), folder / "outcomes.parquet")
            folders.append(folder)
        return folders

    return two


def test_runs_come_in_the_order_of_their_seeds_with_the_numbers_of_their_outcomes(
    two: Callable[..., list[Path]], planted: dict[str, Any]
) -> None:
    study = read_runs(two()[::-1])
    assert study.seeds == (7, 8) and list(study.records) == ["causal", "plain"]
    rows = rows_of(study)
    assert list(rows) == [
        "perplexity, encyclopedia",
        "top-1 agreement",
        "KL to the teacher (nats)",
        "effect R² outside, middle",
        "KL recovered outside, middle",
        "effective IIA outside, middle",
        "no-intervention floor outside, middle",
        "effective IIA outside, above floor, middle",
        "IIA, middle",
        "effect correlation outside, middle",
    ]
    for place, seed in enumerate((7, 8)):  # planted outcomes, counted by hand; results.json holds other numbers
        table = make_outcomes(bases=20, seed=seed)
        for arm in ("causal", "plain"):
            cases = table[(table["student"] == arm)]
            hit = cases["student_cf"] == cases["teacher_cf"]
            chosen = (cases["teacher_cf"] != cases["teacher_base"]) & ~cases["inside"]
            assert rows["IIA, middle"].values[arm][place] == pytest.approx(hit.mean())
            assert rows["effective IIA outside, middle"].values[arm][place] == pytest.approx(hit[chosen].mean())
    assert rows["KL to the teacher (nats)"].values["plain"] == pytest.approx((1.5 - 0.2,) * 2)
    assert rows["perplexity, encyclopedia"].values["plain"] == (20.5, 20.5)
    stale = planted["summary"]["students"]["causal"]["variables"]["middle"]["effective_iia"]["outside"]["value"]
    assert stale not in rows["effective IIA outside, middle"].values["causal"]


def test_accuracies_on_held_out_sets_are_compared(tmp_path: Path) -> None:
    evaluation = {
        "validation": {
            "rows": 8,
            "fingerprint": "sha256:1",
            "accuracy": {
                arm: {"value": value, "low": None, "high": None, "cases": 8, "clusters": 8}
                for arm, value in (("causal", 0.75), ("plain", 0.5), ("teacher", 0.875))
            },
        }
    }
    make_run(
        tmp_path, make_outcomes(classification=True, bases=8), task="sequence_classification", evaluation=evaluation
    )
    row = rows_of(read_runs([tmp_path]))["accuracy, validation"]
    assert row.measure.higher_is_better and row.values == {"causal": (0.75,), "plain": (0.5,)}


def test_classification_has_an_accuracy(tmp_path: Path) -> None:
    outcomes = make_outcomes(classification=True, bases=40)
    wrong = (outcomes["student"] == "plain") & (outcomes["base"] < 10)
    outcomes.loc[wrong, "student_base"] = 999
    make_run(tmp_path, outcomes, task="sequence_classification", evaluation={})
    rows = rows_of(read_runs([tmp_path]))
    assert next(iter(rows)) == "accuracy"
    with_gold = [base for base in range(40) if base % 4 != 3]
    assert rows["accuracy"].values["causal"] == (1.0,)
    assert rows["accuracy"].values["plain"][0] == pytest.approx(sum(b >= 10 for b in with_gold) / len(with_gold))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(seed=7), "have the same seed 7; give every seed once"),
        (lambda d: d["teacher"].update(name="other"), "other teacher"),
        (lambda d: d["data"]["validation"].update(fingerprint="sha256:0"), "other held-out data"),
        (lambda d: d["data"]["train"].update(fingerprint="sha256:0"), "data.train is sha256:0, not sha256:00"),
        (lambda d: d["alignment"]["positions"].update(fraction=0.1), "other alignment"),
        (lambda d: d["arms"].pop("plain"), "arms is causal, not causal, plain"),
        (lambda d: d["arms"]["plain"].update(objective={"kl": 2.0}), "arms.plain.objective is {'kl': 2.0}, not {"),
        (lambda d: d["evaluation"].clear(), "evaluation.encyclopedia is None, not sha256:"),
        (
            lambda d: d["evaluation"]["encyclopedia"].pop("fingerprint"),
            "evaluation.encyclopedia.fingerprint: field required",
        ),
        (
            lambda d: d["evaluation"]["encyclopedia"].update(perplexity=None),
            "evaluation.encyclopedia, its measures is , not perplexity",
        ),
        (
            lambda d: d["alignment"]["variables"][0].update(name="late"),
            "summary.students.causal.variables: other variables",
        ),
        (lambda d: d.update(schema="iit_toolkit/results/0"), "this version reads"),
        (lambda d: d.update(arms={}), "no trained arms; give folders that `iit-toolkit run` wrote"),
        (lambda d: d["arms"]["plain"].pop("steps"), "arms.plain.steps: field required; another version"),
    ],
)
def test_runs_that_cannot_be_compared(
    two: Callable[..., list[Path]], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        read_runs(two(change))
    assert said in str(caught.value) and "seed-8" in str(caught.value) and "\n" not in str(caught.value)


def test_outcomes_of_another_schema(two: Callable[..., list[Path]]) -> None:
    folders = two()
    make_outcomes(bases=3).to_parquet(folders[1] / "outcomes.parquet")
    with pytest.raises(UserError, match="seed-8/outcomes.parquet: the schema is none"):
        read_runs(folders)


@pytest.mark.parametrize("name", ["results.json", "outcomes.parquet", "config.yaml"])
def test_links_that_lead_out_are_not_followed(two: Callable[..., list[Path]], name: str) -> None:
    folders = two()
    (folders[0] / name).unlink(missing_ok=True)
    (folders[0] / name).symlink_to(folders[1] / name)
    with pytest.raises(UserError, match=f"{name}: a symbolic link leads out of"):
        read_runs(folders)


def test_outcomes_of_other_variables(two: Callable[..., list[Path]]) -> None:
    folders = two()
    write_outcomes(make_outcomes(bases=20, variables=("late",)), folders[1] / "outcomes.parquet")
    with pytest.raises(UserError, match="outcomes.parquet: other students or variables than"):
        read_runs(folders)


def test_a_file_is_no_run(two: Callable[..., list[Path]]) -> None:
    with pytest.raises(UserError, match="results.json is a file; give the folder of a finished run"):
        read_runs([two()[0] / "results.json"])


def test_configs_may_differ_in_name_seed_paths_and_margin_only(two: Callable[..., list[Path]]) -> None:
    folders = two()
    (folders[0] / "config.yaml").write_text(CONFIG.format(name="a", seed=7, teacher="t", rate=1e-3, margin=0.05))
    read_runs(folders)  # where only one has a config, there is nothing to compare
    (folders[1] / "config.yaml").write_text(CONFIG.format(name="b", seed=8, teacher="/t", rate=1e-3, margin=0.1))
    read_runs(folders)
    (folders[1] / "config.yaml").write_text(CONFIG.format(name="a", seed=8, teacher="t", rate=2e-3, margin=0.05))
    with pytest.raises(UserError, match=r"config.training.learning_rate is 0.002, not 0.001; give runs of one config"):
        read_runs(folders)


def test_an_evaluation_without_the_teacher_is_refused(two: Callable[..., list[Path]]) -> None:
    folders = two(lambda d: d["evaluation"]["encyclopedia"]["perplexity"].pop("teacher"))
    with pytest.raises(UserError, match="encyclopedia.perplexity is not of every arm and the teacher; run it again"):
        read_runs(folders)
