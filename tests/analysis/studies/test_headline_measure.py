"""The measure that a study's short table shows: as asked for, or effect R² if the runs have it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iit_toolkit.analysis.studies.comparison import compare_study
from iit_toolkit.analysis.studies.figures import write_figures
from iit_toolkit.analysis.studies.read_suite import read_suite
from iit_toolkit.analysis.studies.rows import EFFECT, EFFECTIVE, RECOVERED
from iit_toolkit.errors import UserError
from tests.analysis.studies.suite_tree import write_tree


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("suite"))


@pytest.mark.parametrize(
    ("measure", "shown"),
    [(None, EFFECT), ("kl_recovered", RECOVERED), ("effective_iia", EFFECTIVE), ("iia", "IIA")],
)
def test_the_short_table_shows_it(root: Path, measure: str | None, shown: str) -> None:
    compared = compare_study(read_suite(root), ["plain"], measure=measure)
    assert any(name.startswith(f"{shown}, mean of") for name in compared.headline)
    assert {EFFECT, RECOVERED, EFFECTIVE} <= set(compared.groups)


def test_the_figure_shows_it(root: Path, tmp_path: Path) -> None:
    write_figures(compare_study(read_suite(root), ["plain"]), tmp_path)
    assert (tmp_path / "effect_r2-perplexity.csv").read_text().startswith("arm,seed,variable,perplexity")


def test_results_of_an_earlier_version_keep_their_tables(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    for file in root.rglob("results.json"):
        document = json.loads(file.read_text())
        for student in document["summary"]["students"].values():
            for variable in student["variables"].values():
                del variable["effect_r2"], variable["kl_recovered"]
        file.write_text(json.dumps(document))
    study = read_suite(root)
    compared = compare_study(study, ["plain"])
    assert compared.measure == "effective_iia" and not {EFFECT, RECOVERED} & set(compared.groups)
    with pytest.raises(UserError, match="effect R² was not measured in these results; verify the runs again"):
        compare_study(study, ["plain"], measure="effect_r2")


def test_an_unknown_measure_is_one_line(root: Path) -> None:
    with pytest.raises(UserError, match='did you mean "effect_r2"'):
        compare_study(read_suite(root), ["plain"], measure="effect_r")
