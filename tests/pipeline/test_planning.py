"""`verify --plan` on a planted copy: it says how many pairs a lead needs, and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from iit_toolkit.cli import main
from tests.pipeline.test_run import call, sentences
from tests.pipeline.test_search import CONFIG, llama, save, spread

GIVEN = ["verify", "config.yaml", "--student", "student", "--alignment", "own.yaml", "--plan"]
ALIGNMENT = """\
name: own
variables:
  - {name: first, teacher: [{component: block_output, layer: 0}], student: [{component: block_output, layer: 0}]}
  - {name: second, teacher: [{component: block_output, layer: 2}], student: [{component: block_output, layer: 1}]}
positions: {kind: span, fraction: 0.3}
sources: {kind: in_batch}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plan")
    student = llama(3)
    save(student, place / "student")
    save(spread(student), place / "teacher")
    (place / "text.txt").write_text("\n".join(sentences(130)))
    (place / "config.yaml").write_text(CONFIG)
    (place / "own.yaml").write_text(ALIGNMENT)
    return place


@pytest.fixture(autouse=True)
def working_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")


def test_every_variable_has_a_plan_and_nothing_is_written(place: Path) -> None:
    before = {path.name for path in place.iterdir()}
    found = json.loads(call(*GIVEN, "--json"))
    assert {path.name for path in place.iterdir()} - before <= {".cache"}
    assert (found["pairs"], found["measure"], found["level"]) == (64, "effect_r2", pytest.approx(0.975))
    assert set(found["variables"]) == {"first", "second"} and found["held_out_rows"] >= 120
    for one in found["variables"].values():
        assert [needed["lead"] for needed in one["supported"]] == [0.05, 0.1, 0.2]
        assert one["supported"][0]["pairs"] is None and one["supported"][2]["pairs"] >= 20
        assert one["above_zero"][0]["pairs"] >= one["above_zero"][2]["pairs"]
    printed = call(*GIVEN)
    assert "never" in printed and "Pilot: 64 pairs." in printed and 'Variable "second"' in printed


REFUSED = {
    "a folder": (["-o", "somewhere"], "--plan writes nothing"),
    "too few rows": (["data.max_eval_examples=10"], "a pilot needs 20 held-out rows or more, but the data give 10"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_planned_is_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    more, message = REFUSED[case]
    with pytest.raises(SystemExit) as exit_:
        main([*GIVEN, *more])
    told = capsys.readouterr()
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert (exit_.value.code, told.out, len(errors)) == (2, "", 1) and message in errors[0], told.err
