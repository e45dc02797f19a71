"""Questions on minimal pairs, text mixed in and both directions, from a config to its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_toolkit.analysis.report.examples import read_examples
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import load_config
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.check import validate
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder
from tests.made_once import made_once
from tests.pipeline.test_run import call

CONFIG = """\
name: questions
teacher: embedded
student: {layers: 3}
data:
  source: minimal_pairs
  families: [agreement, pronouns]
  pairs_per_family: 40
  eval_split: words+templates
  max_length: 64
mixture:
  text: {source: python_docs, max_length: 32, max_train_tokens: 4000, weight: 0.5, batch_size: 3}
arms:
  causal: {recipe: targeted, alignment: pairs.yaml}
training: {max_steps: 4, per_device_train_batch_size: 4, both_directions: true, save_steps: 2, logging_steps: 1}
verification: {pairs: 48, resamples: 200}
"""
ALIGNMENT = """\
name: on-pairs
variables:
  - {name: middle, teacher: [{layer: 2, component: block_output}], student: [{layer: 1, component: block_output}]}
positions: {kind: differing}
sources: {kind: paired}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The working directory with a config and the folder of its run, which other modules read as well."""

    def make(place: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            (place / "config.yaml").write_text(CONFIG)
            (place / "pairs.yaml").write_text(ALIGNMENT)
            call("run", "config.yaml", "-o", "run")

    place = made_once(tmp_path_factory, "questions", make)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


def test_one_answer_is_read_per_pair_and_families_are_told_apart(place: Path) -> None:
    run = RunFolder(place / "run")
    outcomes, examples = read_outcomes(run.outcomes), read_examples(run.examples)
    assert examples is not None
    families = {f"{name}, {split}" for name in ("agreement", "pronouns") for split in ("words", "templates")}
    assert set(examples["family"]) == families
    of_student = outcomes[outcomes["student"] == "causal"]
    assert not of_student["inside"].any() and of_student["base"].nunique() == len(examples)
    rows = Prepared(load_config(place / "config.yaml")).eval_rows
    known = {row["example_id"]: (row["family"], row["answers"]) for row in rows}  # pyright: ignore
    assert all(known[base][0] == family for base, family in zip(examples["base"], examples["family"], strict=True))
    assert all(place in known[base][1] for base, place in zip(of_student["base"], of_student["position"], strict=True))


def test_what_is_mixed_in_is_logged_counted_and_recorded(place: Path) -> None:
    results = RunFolder(place / "run").read_results()
    trained = results["arms"]["causal"]
    line = trained["history"][0]
    assert {"loss/ce", "loss/causal_ce", "loss/text/ce"} <= set(line) and "loss/text/causal_ce" not in line
    assert line["loss"] == pytest.approx(
        0.5 * line["loss/ce"] + 0.5 * line["loss/causal_ce"] + 0.5 * line["loss/text/ce"], rel=1e-4
    )
    assert results["data"]["mixture.text"]["tokens"] > 1000
    assert (place / "run" / "inputs.yaml").read_text().count("mixed rows text") == 1
    pairs = results["data"]["train"]
    assert trained["tokens"] > 4 * 4 * pairs["tokens"] / pairs["examples"]  # bases, sources and text


def test_another_run_mixes_in_the_same_rows(place: Path) -> None:
    call("train", "config.yaml", "training.max_steps=2", "--arm", "causal", "-o", "half")
    first, again = (
        json.loads((place / name / "causal" / "training.json").read_text())["history"][0] for name in ("run", "half")
    )
    assert first["loss/text/ce"] == again["loss/text/ce"]


def test_kept_pairs_are_those_that_the_teacher_answers_otherwise(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    every, some = (Prepared(load_config(place / "config.yaml", [f"data.keep={keep}"])) for keep in ("all", "changed"))
    with caplog.at_level("INFO"):
        kept = some.train_rows
    changed: list[list[int]] = []
    for row in every.train_rows:  # by hand, one row at a time
        answers = []
        for side in ("", "source_"):
            ids = torch.tensor([row[f"{side}input_ids"]])  # pyright: ignore
            ids[0, row[f"{side}answers"]] = every.tokenizer.mask_token_id  # pyright: ignore
            answers.append(every.teacher(input_ids=ids).logits[0, row[f"{side}answers"]].argmax(-1).tolist())  # pyright: ignore
        if answers[0] != answers[1]:
            changed.append(row["input_ids"])  # pyright: ignore
    assert list(kept["input_ids"]) == changed and 0 < len(kept) < len(every.train_rows)
    assert list(kept["example_id"]) == list(range(len(kept)))
    assert list(kept["source_example_id"]) == list(range(len(kept), 2 * len(kept)))
    told = f"change the teacher's answer in {len(kept)} of {len(every.train_rows)} pairs"
    assert any(told in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.families=[agreemnt]"], 'there is no family of minimal pairs "agreemnt": did you mean "agreement"?'),
        (["data.eval_split=validation"], 'family agreement has no split "validation"'),
        (["mixture.text.positions={kind: spam}"], "mixture.text: `positions"),
        (["data={source: python_docs}"], "arms.causal: training.both_directions needs pairs"),
        (["data={source: minimal_pairs}"], "families and source minimal_pairs need each other: give both, or none"),
        (["data={path: json, source_column: s, keep: changed}"], "keep: changed is of questions: give answer_column"),
        (["data.answer_column=a"], "span, answer, candidates and family columns are of pairs: give source_column, too"),
    ],
)
def test_mistakes_are_one_line(place: Path, overrides: list[str], said: str) -> None:
    del place
    if "python_docs" in overrides[0]:
        overrides = [*overrides, "arms={causal: {recipe: fast}}", "verification.alignment=diito/middle"]
    with pytest.raises(UserError) as caught:
        validate(load_config("config.yaml", overrides))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_other_families_are_held_out_if_asked_for(place: Path) -> None:
    one = Prepared(load_config(place / "config.yaml", ["data.eval_families=[reflexives]"]))
    assert {name.split(", ")[0] for name in one.eval_rows["family"]} == {"reflexives"}
    assert set(one.train_rows["family"]) == {"agreement", "pronouns"}
    with pytest.raises(UserError, match="eval_families are of source minimal_pairs"):
        load_config(place / "config.yaml", ["data={source: python_docs, eval_families: [reflexives]}"])
