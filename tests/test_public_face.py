"""`import iit_toolkit as iit`: light, complete, and helpful about mistakes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import BertForMaskedLM, TrainerCallback

import iit_toolkit as iit
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.errors import UserError
from iit_toolkit.models.task import task_of
from tests.downstream.tiny import tiny_tokenizer
from tests.golden.trajectories import model, rows

HERE = Path(iit.__file__)


def test_it_imports_nothing_heavy_and_names_what_it_has() -> None:
    code = (
        "import sys, iit_toolkit as iit\n"
        "print(sorted({'torch', 'transformers', 'pyvene', 'datasets', 'numpy', 'pydantic'} & set(sys.modules)))\n"
        "print(set(iit.__all__) <= set(dir(iit)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parents[1])
    assert done.stdout.split() == ["[]", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'verfy'"):
        _ = iit.verfy  # pyright: ignore


def test_editors_see_the_names_where_they_live() -> None:
    [branch] = [node for node in ast.parse(HERE.read_text()).body if isinstance(node, ast.If)]
    seen = {
        alias.name: f"{node.module}" for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    homes = iit._HOMES  # pyright: ignore
    assert seen == {name: f"iit_toolkit.{home}" for name, home in homes.items()} and sorted(seen) == sorted(iit.__all__)
    for name, home in seen.items():
        assert getattr(iit, name) is getattr(sys.modules[home], name)


def test_pairs_say_what_a_file_says() -> None:
    block = {"component": "block_output"}
    variables = [
        {"name": "middle", "teacher": [{"layer": 3, **block}], "student": [{"layer": 1, **block}]},
        {
            "name": "parts",
            "teacher": [{"layer": 2, **block, "neurons": [0, 96]}, {"layer": 4, **block}],
            "student": [{"layer": 1, "component": "attention_value_output", "heads": [0, 1]}],
        },
    ]
    content = {"name": "mine", "variables": variables, "positions": {"kind": "all"}, "sources": {"kind": "dataset"}}
    expected = iit.Alignment.from_dict({**content, "draw": {"middle": 1.0, "parts": 2.0}})
    made = iit.Alignment.pairs(
        "mine",
        positions="all",
        sources="dataset",
        draw={"middle": 1.0, "parts": 2.0},
        middle=(3, 1),
        parts=([iit.Site.neurons(2, 0, 96), 4], iit.Site.heads(1, [0, 1])),
    )
    assert made == expected
    assert made == iit.Alignment.from_dict(made.to_dict())
    assert made.to_dict()["variables"][1]["teacher"][0]["neurons"] == [0, 96]
    assert iit.Alignment.pairs(middle=(iit.Site.block(3), 1)) == iit.Alignment.pairs(middle=(3, 1))


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: iit.Alignment.pairs(), "needs a variable; give one, such as middle"),
    (lambda: iit.Alignment.pairs(middle=3), r"variable middle: give a pair, \(teacher, student\)"),  # pyright: ignore
    (lambda: iit.Alignment.pairs(middle=(3, "1")), "variable middle: '1' is neither the number of a block nor a Site"),
    (lambda: iit.Alignment.pairs(middle=([], 1)), "alignment: `variables.0.teacher`"),
    (lambda: iit.Alignment.pairs(middle=(3, 1), positions="spam"), "alignment: `positions`"),
    (lambda: iit.Alignment.pairs(middle=(3, 1), sources="elsewhere"), "alignment: `sources.kind`"),
    (lambda: iit.Alignment.pairs(middle=(3, 1), draw={"midle": 1.0}), "draw"),
    (lambda: iit.Alignment.pairs(middle=(3, 1), positions="differing"), "needs `sources: {kind: paired}`"),
    (lambda: iit.Site.neurons(3, 9, 9), r"site: neurons \[9, 9\] is empty"),
    (lambda: iit.Site.heads(3, []), "site: `heads` must name at least one head"),
    (lambda: iit.Site.block("three"), "site: `layer`"),  # pyright: ignore
    (lambda: iit.Site.heads(3, "ab"), "site: `heads"),  # pyright: ignore
    (lambda: iit.Alignment.pairs(middle=(3, 1), draw=[0.5]), "`draw`: give `uniform`"),  # pyright: ignore
    (lambda: iit.preset("diito/middle", "bert", 3), "preset diito/middle: str does not say how many blocks"),  # pyright: ignore
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES)
def test_a_mistake_is_one_line(mistake: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        mistake()
    assert "\n" not in str(error.value) and "pydantic" not in str(error.value)


@pytest.mark.parametrize("task", ["masked_lm", "causal_lm", "sequence_classification"])
def test_task_and_batches_follow_from_model_and_tokenizer(task: str, tmp_path: Path) -> None:
    teacher = model(task, 4, 16)
    student = iit.student(teacher, layers=2)
    data, tokenizer = Dataset.from_list(rows(paired=False)), tiny_tokenizer()
    alignment = iit.Alignment.pairs(middle=(1, 0), positions="all")
    args = iit.CausalDistillationConfig(str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True)
    settings: dict[str, Any] = {"train_dataset": data, "processing_class": tokenizer}
    trainer = iit.CausalDistillationTrainer(student, teacher, alignment, args, **settings)
    assert trainer.objective.task == task
    trainer.train()
    assert trainer.student is student and trainer.state.global_step == 2
    verification = iit.verify(teacher, student, alignment, data, tokenizer=tokenizer)
    assert set(verification.outcomes["student"]) == {"student"} and verification.judged == "student"
    assert len(verification.outcomes) and str(iit.judge(verification)).startswith(iit.judge(verification).label)


def test_rows_without_numbers_are_numbered_and_one_student_is_judged() -> None:
    teacher, tokenizer = model("masked_lm", 4, 16), tiny_tokenizer()
    student = iit.student(teacher, [0, 2])
    numbered = rows(paired=False)
    alone = [{"input_ids": row["input_ids"], "text": "of no matter"} for row in numbered]
    alignment = iit.Alignment.pairs(middle=(1, 0))
    found = iit.verify(teacher, student, alignment, Dataset.from_list(alone), tokenizer=tokenizer, seed=3)
    collator = MaskedLanguageCollator(tokenizer, seed=3)
    given: dict[str, Any] = {"task": "masked_lm", "seed": 3, "judged": "student"}
    expected = iit.verify(teacher, {"student": student}, alignment, numbered, collator, **given)
    assert found.outcomes.equals(expected.outcomes)
    verdict = iit.judge(found, resamples=100)
    assert verdict == iit.judge(expected.outcomes, "student", controls=expected.controls, resamples=100)


def test_what_verify_and_judge_lack_is_said() -> None:
    teacher = model("masked_lm", 4, 16)
    student, alignment = iit.student(teacher, 2), iit.Alignment.pairs(middle=(1, 0))
    with pytest.raises(UserError, match="verify needs the tokenizer that made the rows, or a collator"):
        iit.verify(teacher, student, alignment, rows(paired=False))
    with pytest.raises(UserError, match="BertModel is neither a masked nor a causal language model"):
        iit.verify(teacher.bert, student, alignment, rows(paired=False), tokenizer=tiny_tokenizer())
    found = iit.verify(teacher, {"a": student}, alignment, rows(paired=False), tokenizer=tiny_tokenizer())
    with pytest.raises(UserError, match="judge needs the student's name; give one of a"):
        iit.judge(found)
    assert iit.preset("diito/middle", teacher, student) == iit.preset("diito/middle", 4, 2)


def test_other_things_than_models_and_rows_are_refused_in_a_line(tmp_path: Path) -> None:
    teacher, tokenizer = model("masked_lm", 4, 16), tiny_tokenizer()
    student, alignment, data = iit.student(teacher, 2), iit.Alignment.pairs(middle=(1, 0)), rows(paired=False)

    def verify(students: Any = student, given: Any = data, **more: Any) -> Any:
        return iit.verify(teacher, students, alignment, given, tokenizer=tokenizer, **more)

    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: verify([student]), "students are a list; give one model, or models by name"),
        (lambda: verify({"a": "some/path"}), "a is a str; give a loaded model of transformers"),
        (lambda: verify(given={"train": data}), "rows are a mapping of train; give one split of it"),
        (lambda: verify(given=iter(data)), "rows are a list_iterator; give a list of rows, or a datasets.Dataset"),
        (lambda: verify(given=["a text", "another"]), "rows need `input_ids`; tokenize them"),
        (lambda: verify(given=Dataset.from_list([{"text": "a"}] * 3)), "rows need `input_ids`; tokenize them"),
        (lambda: verify(task="masked"), "task 'masked' is no task, did you mean"),
        (lambda: iit.student(teacher, "2"), "layers '2': give how many"),  # pyright: ignore
        (lambda: iit.student(teacher, True), "layers True: give how many"),
        (lambda: iit.student(teacher, [0, 1.5]), "give how many, such as 3"),  # pyright: ignore
    ]
    for call, said in refused:
        with pytest.raises(UserError, match=said) as error:
            call()
        assert "\n" not in str(error.value)
    args = iit.CausalDistillationConfig(str(tmp_path), task="mlm", use_cpu=True)  # pyright: ignore
    with pytest.raises(UserError, match=r"args.task 'mlm' is no task"):
        iit.CausalDistillationTrainer(student, teacher, alignment, args)
    assert iit.Site.heads(3, 0) == iit.Site.heads(3, [0])


def test_a_model_derived_from_one_of_transformers_has_its_task() -> None:
    class Mine(BertForMaskedLM):
        pass

    assert task_of(Mine(model("masked_lm", 2, 16).config)) == "masked_lm"


def test_a_stream_of_rows_trains_with_sources_of_its_own_batches(tmp_path: Path) -> None:
    teacher = model("masked_lm", 4, 16)
    stream = Dataset.from_list(rows(paired=False)).to_iterable_dataset()
    args = iit.CausalDistillationConfig(str(tmp_path), max_steps=2, report_to="none", use_cpu=True, disable_tqdm=True)
    settings: dict[str, Any] = {"train_dataset": stream, "processing_class": tiny_tokenizer()}
    student, alignment = iit.student(teacher, 2), iit.Alignment.pairs(middle=(1, 0))
    seen: list[Any] = []

    class Looking(TrainerCallback):
        def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
            seen.append(model)

    trainer = iit.CausalDistillationTrainer(student, teacher, alignment, args, callbacks=[Looking()], **settings)
    trainer.train()
    assert seen == [student, student]
    with pytest.raises(UserError, match="evaluation needs batches with labels"):
        trainer.prediction_step(trainer.model, {"input_ids": None}, prediction_loss_only=False)
