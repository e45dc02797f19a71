"""What models answer among candidates, against a softmax over the candidates' logits of hand-hooked runs."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.statistics.outcomes import read_outcomes, write_outcomes
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.verification.verify import verify
from iit_toolkit.config.loading import load_config
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder
from tests.pipeline.test_questions import ALIGNMENT, CONFIG
from tests.pipeline.test_questions import place as place

LAYER = 2
SAME_BLOCK = ALIGNMENT.replace("layer: 1", f"layer: {LAYER}")


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "pairs.yaml").write_text(ALIGNMENT)
    return Prepared(load_config(tmp_path / "config.yaml"))


@torch.no_grad()
def by_hand(model: Any, row: Any, mask: int) -> tuple[Tensor, Tensor]:
    """The probabilities of a row's candidates, without and with the swap, in float64."""
    ids, source = (torch.tensor([row[f"{side}input_ids"]]) for side in ("", "source_"))
    ids[0, row["answers"]] = mask
    source[0, row["source_answers"]] = mask
    block, taken = model.bert.encoder.layer[LAYER], list[Tensor]()

    def answer(tokens: Tensor, hook: Any) -> Tensor:
        handle = block.register_forward_hook(hook)
        try:
            logits = model(input_ids=tokens).logits[0, row["answers"][0]].double()
        finally:
            handle.remove()
        return logits[row["candidates"]].softmax(0)

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        taken.append((output[0] if isinstance(output, tuple) else output).clone())

    def put(_module: Any, _inputs: Any, output: Any) -> Any:
        state = (output[0] if isinstance(output, tuple) else output).clone()
        state[0, row["positions"]] = taken[0][0, row["source_positions"]]
        return (state, *output[1:]) if isinstance(output, tuple) else state

    def leave(_module: Any, _inputs: Any, _output: Any) -> None:
        pass

    answer(source, keep)
    return answer(ids, leave), answer(ids, put)


def test_choices_are_those_of_a_softmax_over_the_candidates(prepared: Prepared) -> None:
    teacher: Any = prepared.teacher.eval()
    student = copy.deepcopy(teacher)
    generator = torch.Generator().manual_seed(0)
    for weight in student.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, generator=generator)
    further = prepared.tokenizer.convert_tokens_to_ids("the")
    rows: Any = [  # some with another candidate, so that others are padded
        {**row, "candidates": [*row["candidates"], *([further] if number % 3 == 0 else [])]}  # pyright: ignore
        for number, row in enumerate(prepared.eval_rows)
    ]
    found = verify(
        teacher,
        {"near": student},
        Alignment.from_dict(yaml.safe_load(SAME_BLOCK)),
        rows,
        prepared.collator,
        task="masked_lm",
        pairs=40,
    )
    assert found.choices is not None and len(found.choices) == len(found.outcomes) == 40
    known, mask = {row["example_id"]: row for row in rows}, prepared.tokenizer.mask_token_id
    assert isinstance(mask, int)
    size = error = 0.0
    for case in found.choices.to_dict("records"):
        row = known[case["base"]]
        (one, one_cf), (two, two_cf) = (by_hand(model, row, mask) for model in (teacher, student))
        assert case["gold"] == row["candidates"].index(row["input_ids"][row["answers"][0]])
        chosen = [case[name] for name in ("teacher_base", "teacher_cf", "student_base", "student_cf")]
        assert chosen == [int(each.argmax()) for each in (one, one_cf, two, two_cf)]
        assert case["teacher_effect"] == pytest.approx(float((one_cf - one).square().sum()), rel=1e-3, abs=1e-7)
        assert case["kl_cf"] == pytest.approx(float((one_cf * (one_cf / two_cf).log()).sum()), rel=1e-3, abs=1e-6)
        size += float((one_cf - one).square().sum())
        error += float(((one_cf - one) - (two_cf - two)).square().sum())
    summary = summarise(found.choices, resamples=100).students["near"].variables["middle"]
    assert summary.estimate("effect_r2").value == pytest.approx(1 - error / size, abs=1e-3)
    assert 1 - error / size < 0.999  # so that the numbers are of two models


def test_questions_without_a_choice_are_told(
    tmp_path: Path, prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(prepared.eval_rows) and "candidates" not in caplog.text
    pairs = [
        {"text": f"the {one} of the method is used.", "source": f"the {two} of the method is used.", "answer": "is"}
        for one, two in (("module", "modules"), ("object", "objects"), ("class", "file"))
    ]
    for row, choices in zip(pairs, (["is", "are"], ["is"], ["are", "was"]), strict=True):
        row |= {"choices": choices}
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    columns = "source_column: source, answer_column: answer, candidates_column: choices"
    data = f"data={{path: json, data_files: {{validation: some.jsonl}}, {columns}}}"
    rows = Prepared(load_config(tmp_path / "config.yaml", [data, "mixture={}"])).eval_rows
    assert len(rows) == 3
    assert [message for message in caplog.messages if "candidates" in message] == [
        "data, split validation: 1 of 3 questions are asked without candidates: they need two or more, each a known "
        "token of its own",
        "data, split validation: 1 of 3 questions have an answer that is none of their candidates",
    ]


def test_a_run_tells_them_and_a_run_without_candidates_does_not(
    place: Path, prepared: Prepared, tmp_path: Path
) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    stored = run.read_results()["choices"]["students"]["causal"]["variables"]["middle"]["iia"]["all"]
    again = summarise(read_outcomes(run.choices), resamples=100).students["causal"].variables["middle"]
    assert stored["value"] == again.estimate("iia", "all").value
    for page in (run.report_html, tmp_path / "run" / "report.md"):
        assert "Among the candidates" in page.read_text()
    choices = read_outcomes(run.choices)
    write_outcomes(choices[choices["student"] != "causal"], run.choices)
    with pytest.raises(UserError, match="choices.parquet: other students or variables than"):
        write_report(run.path)
    none = [{name: value for name, value in row.items() if name != "candidates"} for row in prepared.eval_rows]  # pyright: ignore
    alignment = Alignment.from_dict(yaml.safe_load(SAME_BLOCK))
    teacher: Any = prepared.teacher
    assert verify(teacher, {"same": teacher}, alignment, none, prepared.collator, pairs=8).choices is None
