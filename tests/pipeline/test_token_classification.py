"""Classifiers of tokens: their numbers equal a loop over words, a copy scores 1 and a stranger does not, verbs work."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    RobertaTokenizerFast,
)

import iit_toolkit as iit
from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.verification.evaluation import evaluate
from iit_toolkit.cli import main
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.pretrained import load_tokenizer
from iit_toolkit.data.tagged import tokenize_tagged
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.students import student_from_checkpoint
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, InterchangeModel, Swap
from iit_toolkit.models.task import task_of
from iit_toolkit.pipeline.prepare import Prepared, tokenizer_settings
from tests.data.test_tagged import by_hand, texts
from tests.taggers import LABELS, numbered, saved, sentences, tagger, tokenizer, written

HALF = Alignment.pairs(half=(0, 0))
GIVEN = numbered(sentences(40, seed=3))
TASK = "token_classification"


def rows() -> Any:
    return tokenize_tagged(texts([row["tokens"] for row in GIVEN], [row["ner"] for row in GIVEN]), tokenizer(), 32)


def plain(model: Any, ids: list[int], swapped: list[int] | None = None, taken: Tensor | None = None) -> Tensor:
    """Log-probabilities (S, C) of one row alone, with what the first block gives replaced at some places."""

    def put(_module: Any, _arguments: Any, output: Any) -> Any:
        changed = output.clone()
        for place, state in zip(swapped or [], taken if taken is not None else [], strict=True):
            changed[0, place] = state
        return changed

    handle = model.bert.encoder.layer[0].register_forward_hook(put)
    try:
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    finally:
        handle.remove()


def first_block(model: Any, ids: list[int]) -> Tensor:
    """What the first block gives (S, D)."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[1][0]


def test_every_case_equals_a_loop_over_words_with_plain_hooks() -> None:
    teacher, student = tagger(0), tagger(1)
    check = iit.verify(teacher, student, HALF, rows(), tokenizer=tokenizer(), pairs=40, batch_size=7)
    doubles = [BertForTokenClassification(one.config).eval() for one in (teacher, student)]
    for double, one in zip(doubles, (teacher, student), strict=True):
        double.load_state_dict(one.state_dict())
        double.double()
    outcomes, examples = check.outcomes, check.examples.set_index("base")
    made = [by_hand(row["tokens"], row["ner"], 32) for row in GIVEN]
    seen = 0
    for base, cases in outcomes.groupby("base"):
        example = examples.loc[base]
        ids, tags = made[int(base)]  # pyright: ignore[reportArgumentType]
        assert (
            example["base_tokens"].tolist() == ids and example["source_tokens"].tolist() == made[example["source"]][0]
        )
        asked = [place for place, tag in enumerate(tags) if tag != -100]
        cases = cases.sort_values("position")
        assert cases["position"].tolist() == asked and cases["gold"].tolist() == [tags[place] for place in asked]
        assert cases["inside"].tolist() == [place in example["swapped"] for place in asked]
        found: list[tuple[Tensor, Tensor]] = []
        for model in doubles:
            taken = first_block(model, made[example["source"]][0])[list(example["taken"])]
            found.append((plain(model, ids)[asked], plain(model, ids, list(example["swapped"]), taken)[asked]))
        (t_base, t_cf), (s_base, s_cf) = found
        for name, answers in (
            ("teacher_base", t_base),
            ("teacher_cf", t_cf),
            ("student_base", s_base),
            ("student_cf", s_cf),
        ):
            assert cases[name].tolist() == answers.argmax(-1).tolist()
        moved, own = t_cf.exp() - t_base.exp(), s_cf.exp() - s_base.exp()
        expected = {
            "kl_cf": (t_cf.exp() * (t_cf - s_cf)).sum(-1),
            "teacher_effect": moved.square().sum(-1),
            "effect_error": (own - moved).square().sum(-1),
            "student_nll": -s_base[range(len(asked)), [tags[place] for place in asked]],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(cases[name], values.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)
        seen += len(asked)
    assert seen == len(outcomes) > 100


def test_the_accuracy_is_that_of_a_loop_over_words() -> None:
    model, made = tagger(2), [by_hand(row["tokens"], row["ner"], 32) for row in GIVEN]
    right = [
        int(plain(model, ids)[place].argmax()) == tag
        for ids, tags in made
        for place, tag in enumerate(tags)
        if tag != -100
    ]
    found = evaluate(model, rows(), collator_for(TASK, tokenizer()), TASK)["accuracy"]
    assert found.value == pytest.approx(np.mean(right)) and found.cases == len(right)
    assert found.low is not None and found.low < np.mean(right)


def test_the_terms_equal_a_loop_over_words() -> None:
    teacher, student = tagger(0).double(), tagger(1).double()
    made = [by_hand(row["tokens"], row["ner"], 32) for row in GIVEN[:4]]
    batch = collator_for(TASK, tokenizer())([dict(row) for row in rows().select(range(4))])
    mask = torch.zeros_like(batch["labels"], dtype=torch.bool)
    mask[:, 1:3] = True
    taken = torch.arange(mask.shape[1]).expand(mask.shape).where(mask, torch.tensor(0))
    swap = Swap(torch.tensor([1, 2, 3, 0]), mask, taken)
    sides = [
        InterchangeModel(model, resolve(HALF, model, side))
        for side, model in (("teacher", teacher), ("student", student))
    ]
    weights = ObjectiveWeights(task=1.0, ce=1.0, causal_ce=1.0)
    objective = Objective(
        *sides, weights, TASK, temperature=2.0, base_tokens="labelled", counterfactual_tokens="labelled"
    )
    terms = objective(batch, [Interchange("half", swap, None, 1.0)]).terms
    task: list[float] = []
    ce: list[float] = []
    causal: list[float] = []
    for number, (ids, tags) in enumerate(made):
        other = made[(number + 1) % 4][0]
        states = [first_block(model, other)[[1, 2]] for model in (teacher, student)]
        for place in (place for place, tag in enumerate(tags) if tag != -100):
            one, two = (plain(model, ids)[place] for model in (teacher, student))
            task.append(float(-two[tags[place]]))
            ce.append(divergence(one, two))
            changed = [
                plain(model, ids, [1, 2], state)[place] for model, state in zip((teacher, student), states, strict=True)
            ]
            causal.append(divergence(*changed))
    expected = {"task": np.mean(task), "ce": np.mean(ce), "causal_ce": np.mean(causal)}
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(expected, rel=1e-9)


def divergence(teacher: Tensor, student: Tensor) -> float:
    """KL of answers at temperature 2, times its square."""
    one, two = ((answer / 2).log_softmax(-1) for answer in (teacher, student))
    return float(4 * (one.exp() * (one - two)).sum())


def test_a_copy_scores_1_and_a_stranger_does_not() -> None:
    teacher = tagger(0)
    settings: dict[str, Any] = {"tokenizer": tokenizer(), "pairs": 40}
    copy, stranger = (iit.verify(teacher, one, HALF, rows(), **settings) for one in (tagger(0), tagger(1)))
    assert (copy.outcomes["teacher_effect"] > 1e-6).mean() > 0.5
    assert copy.measures["half"]["effect_r2"].value == pytest.approx(1, abs=1e-6)
    assert copy.measures["half"]["kl_recovered"].value == pytest.approx(1, abs=1e-4)
    of_stranger = stranger.measures["half"]["effect_r2"].value
    assert of_stranger is not None and of_stranger < 0.2
    assert task_of(teacher) == TASK


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags")
    saved(tagger(0, blocks=4), folder / "teacher")
    saved(tagger(1), folder / "stranger")
    written(sentences(24, seed=1), folder / "train.json")
    written(sentences(60, seed=2), folder / "validation.json")
    return folder


def document(place: Path, **changed: Any) -> dict[str, Any]:
    files = {split: str(place / f"{split}.json") for split in ("train", "validation")}
    columns = {"text_column": "tokens", "tags_column": "ner", "max_length": 32, "max_eval_examples": 24}
    return {
        "name": "tags",
        "task": TASK,
        "teacher": str(place / "teacher"),
        "data": {"path": "json", "data_files": files, **columns},
        "arms": {"plain": {"recipe": "fast"}, "causal": {"alignment": "diito/middle", "recipe": "targeted"}},
        "training": {"max_steps": 2, "per_device_train_batch_size": 4},
        "verification": {"pairs": 24, "batch_size": 8, "resamples": 100},
        **changed,
    }


@pytest.fixture(scope="module")
def config(place: Path) -> str:
    (place / "tags.yaml").write_text(json.dumps(document(place)))
    return str(place / "tags.yaml")


@pytest.fixture(scope="module")
def out(place: Path, config: str) -> Path:
    """The folder of a finished run."""
    code, printed, said = call("run", config, "-o", str(place / "out"))
    assert code == 0 and "accuracy" in printed, printed + said
    return place / "out"


def call(*arguments: str) -> tuple[int, str, str]:
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), printed.getvalue(), said.getvalue()


def cases(folder: Path, student: str) -> pd.DataFrame:
    found = pd.read_parquet(folder / "outcomes.parquet")
    return found[found["student"] == student].reset_index(drop=True)  # pyright: ignore[reportReturnType]


def test_a_run_measures_every_tagged_token(place: Path, out: Path) -> None:
    measured = json.loads((out / "results.json").read_text())["evaluation"]["validation"]
    assert {"teacher", "plain", "causal"} <= set(measured["accuracy"])
    rows = Prepared(RunConfig.model_validate(document(place))).eval_rows
    tagged = sum(tag != -100 for tags in rows["tags"] for tag in tags)
    assert measured["accuracy"]["teacher"]["cases"] == tagged == len(cases(out, "causal")) > 80
    own = cases(out, "causal")
    assert (own["teacher_base"] == own["gold"]).mean() == pytest.approx(measured["accuracy"]["teacher"]["value"])


def test_card_report_and_texts_are_of_tags(out: Path) -> None:
    card = (out / "causal/README.md").read_text()
    assert "pipeline_tag: token-classification" in card and "AutoModelForTokenClassification" in card
    assert set(pd.read_parquet(out / "answers.parquet")["text"]) <= set(LABELS)
    assert re.search(r"Accuracy on held-out rows: 0\.\d+", card)
    report = (out / "report.md").read_text()
    assert "| KL | accuracy | changed cases |" in report and "## Accuracy on held-out data" in report
    assert "B-PER" in (out / "report.html").read_text()


def test_checks_and_words_before_a_run(config: str) -> None:
    code, printed, said = call("validate", config)
    assert code == 0 and "FAIL" not in printed, printed + said
    code, printed, said = call("explain", config)
    assert code == 0 and f"task      {TASK}" in printed and "BertForTokenClassification" in printed, said


def test_a_gate_passes_and_fails(out: Path) -> None:
    assert call("gate", str(out), "--min-lower", "-1e9")[0] == 0
    assert call("gate", str(out), "--min-lower", "0.99")[0] == 1


def test_the_exported_student_is_verified_again_with_equal_answers(out: Path, tmp_path: Path) -> None:
    code, printed, said = call("export", str(out), "--arm", "causal", "-o", str(tmp_path / "exported"))
    assert code == 0, printed + said
    code, printed, said = call("verify", "--from", str(tmp_path / "exported"), "-o", str(tmp_path / "again"))
    assert code == 0, printed + said
    pd.testing.assert_frame_equal(cases(out, "causal"), cases(tmp_path / "again", "causal"))


def test_a_trace_swaps_the_tagged_words(config: str, tmp_path: Path) -> None:
    code, printed, said = call("trace", config, "--pairs", "16", "-o", str(tmp_path / "trace"))
    assert code == 0 and "answer" in printed, printed + said


@pytest.mark.parametrize(("student", "supported"), [("teacher", True), ("stranger", False)])
def test_finished_models_are_verified_by_their_names(
    place: Path, tmp_path: Path, student: str, supported: bool
) -> None:
    alignment = Alignment.pairs(early=(0, 0))
    (tmp_path / "alignment.yaml").write_text(alignment.to_yaml())
    code, printed, said = call(
        "verify",
        *("--teacher", str(place / "teacher")),
        *("--student", str(place / student)),
        *("--alignment", str(tmp_path / "alignment.yaml")),
        *("--data", str(place / "validation.json")),
        *("data.text_column=tokens", "data.tags_column=ner", "data.max_length=32"),
        *("-o", str(tmp_path / "out")),
    )
    assert code == 0, printed + said
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["task"] == TASK
    assert ("NOT SUPPORTED" not in printed and "SUPPORTED" in printed) == supported, printed


def test_one_token_is_explored() -> None:
    teacher, made = tagger(0), tokenizer()
    found = iit.explore(teacher, teacher, HALF, made, "w1 w2s w5", "w1 w7s w5", asked=4)
    assert found.swapped == (2,) and set(found.to_frame()["before"]) <= set(LABELS)
    top = found.to_frame()
    (ids, _), (other, _) = (by_hand(text.split(), [0, 0, 0], 32) for text in ("w1 w2s w5", "w1 w7s w5"))
    first, after = plain(teacher, ids)[4], plain(teacher, ids, [2], first_block(teacher, other)[[2]])[4]
    assert top["p_before"][0] == pytest.approx(float(first.exp().max()), abs=1e-5)
    assert top["after"][0] == LABELS[int(after.argmax())]
    with pytest.raises(UserError, match="asked 9: give a position of the base, 0 to 5"):
        iit.explore(teacher, teacher, HALF, made, "w1 w2s w5", "w1 w7s w5", asked=9)


def test_a_student_that_says_o_everywhere_has_collapsed() -> None:
    teacher, student = tagger(0), tagger(1)
    with torch.no_grad():
        student.classifier.bias[0] += 1000
    check = iit.verify(teacher, student, HALF, rows(), tokenizer=tokenizer(), pairs=40)
    assert any("has collapsed: it gives one answer in 100.0% of cases" in note for note in check.verdict.notes)


def test_words_of_a_tokenizer_that_reads_spaces_begin_with_one(tmp_path: Path) -> None:
    known = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120a", "ab"]
    vocabulary = {token: number for number, token in enumerate(known)}
    made = Tokenizer(models.BPE(vocabulary, [("\u0120", "a"), ("a", "b")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    RobertaTokenizerFast(tokenizer_object=made, model_max_length=16).save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), **tokenizer_settings(TASK))
    row: Any = tokenize_tagged(texts([["a", "ab"]], [[1, 2]]), loaded, 16)[0]
    assert loaded.convert_ids_to_tokens(row["input_ids"]) == ["<s>", "\u0120a", "\u0120a", "b", "</s>"]
    assert row["tags"] == [-100, 1, 2, -100, -100]


def no_tags(place: Path) -> None:
    rows = [{"tokens": row["tokens"]} for row in sentences(24, seed=1)]
    written(rows, place / "train.json")


def uneven(place: Path) -> None:
    rows = sentences(24, seed=1)
    rows[7]["ner"].pop()
    written(rows, place / "train.json")


def unknown(place: Path) -> None:
    rows = sentences(24, seed=1)
    rows[3]["ner"][0] = "B-ORG"
    written(rows, place / "train.json")


def too_large(place: Path) -> None:
    rows = numbered(sentences(24, seed=1))
    rows[3]["ner"][0] = 5
    written(rows, place / "train.json")


def strings(place: Path) -> None:
    rows = [{**row, "tokens": " ".join(row["tokens"])} for row in sentences(24, seed=1)]
    written(rows, place / "train.json")


def of_sequences(place: Path) -> None:
    config = BertConfig.from_dict({**tagger(0, blocks=4).config.to_dict(), "architectures": None})
    BertForSequenceClassification(config).save_pretrained(place / "teacher")


def of_text(place: Path) -> None:
    saved(BertForMaskedLM(BertConfig.from_dict(tagger(0, blocks=4).config.to_dict())), place / "teacher")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (no_tags, 'has no column "ner" (data.tags_column); it has: tokens'),
        (uneven, "data.tags_column ner: split train: row 7 has"),
        (unknown, "row 3 has the tag B-ORG, but the teacher's labels are O, B-PER, I-PER, B-LOC, I-LOC; give"),
        (too_large, "row 3 has the tag 5, but the teacher only knows 0 to 4; give the data that it was trained for"),
        (strings, 'column "tokens" (data.text_column) holds string, not lists of words'),
        (of_sequences, "its config.json says BertForSequenceClassification, which is for task sequence_classification"),
        (of_text, "lacks 2 weights for task token_classification, e.g. classifier.bias"),
    ],
)
def test_bad_input_is_told_in_one_line(place: Path, tmp_path: Path, change: Any, expected: str) -> None:
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("out"))
    change(tmp_path / "copy")
    (tmp_path / "c.yaml").write_text(json.dumps(document(tmp_path / "copy")))
    code, printed, said = call("validate", str(tmp_path / "c.yaml"))
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and not printed and "Traceback" not in said
    assert len(errors) == 1 and expected in errors[0], said


def test_a_student_with_other_labels_is_refused(place: Path, tmp_path: Path) -> None:
    prepared = Prepared(RunConfig.model_validate(document(place)))
    more = saved(tagger(1, (*LABELS, "B-ORG")), tmp_path / "more")
    with pytest.raises(UserError, match="it has 6 classes, the teacher 5"):
        student_from_checkpoint(prepared.teacher, more)
    turned = saved(tagger(1, LABELS[::-1]), tmp_path / "turned")
    with pytest.raises(UserError, match="class i-loc is number 0, the teacher's 4"):
        student_from_checkpoint(prepared.teacher, turned)
    of_sequences(tmp_path)
    with pytest.raises(UserError, match="says BertForSequenceClassification, which is for task sequence_class"):
        student_from_checkpoint(prepared.teacher, tmp_path / "teacher")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"tags_column": None}, "task token_classification needs data.tags_column"),
        ({"label_column": "label"}, "give label_column or tags_column, not both"),
        ({"detokenize": "wikitext"}, "a labelled row takes no detokenize"),
        ({"text_column": ["tokens", "others"]}, "two sentences"),
    ],
)
def test_configs_that_say_two_things(place: Path, changed: dict[str, Any], expected: str) -> None:
    given = document(place)
    with pytest.raises(ValueError, match=expected):
        RunConfig.model_validate({**given, "data": {**given["data"], **changed}})
    with pytest.raises(ValueError, match="data: tags_column is for task token_classification"):
        RunConfig.model_validate({**given, "task": "masked_lm"})
