"""Runs on two sentences a row: a planted copy, what is swapped, and a student that tells no sentences apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

import iit_toolkit as iit
from iit_toolkit import pipeline
from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.examples import read_examples
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import load_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.data.batch import eligible_positions, model_inputs
from iit_toolkit.interchange.engine import InterchangeModel
from iit_toolkit.pipeline.check import validate
from iit_toolkit.pipeline.explanation import explain
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder
from tests.data.conftest import words_of

WORDS = [f"w{index}" for index in range(40)]
SIZES = {"vocab_size": 45, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
BLOCKS = {"num_hidden_layers": 2, "max_position_embeddings": 32}


def tokenizer() -> Any:
    made = words_of(*WORDS)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.model_max_length = 32
    made.init_kwargs["model_input_names"] = made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made


def saved(model: PreTrainedModel, folder: Path) -> str:
    with torch.no_grad():  # so that answers depend on words and on the sentence that they are of
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(15)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of three classes, and rows of a premise, a hypothesis and another hypothesis of as many words."""
    folder = tmp_path_factory.mktemp("sentences")
    torch.manual_seed(0)
    saved(BertForSequenceClassification(BertConfig(**SIZES, **BLOCKS, num_labels=3)), folder / "teacher")
    generator = torch.Generator().manual_seed(0)
    for name, count in (("train", 13), ("held-out", 24)):
        words = torch.randint(len(WORDS), (count, 9), generator=generator).tolist()
        rows = [[WORDS[index] for index in row] for row in words]
        lines = [
            f"{' '.join(row[:4])},{' '.join(row[4:7])},{' '.join([*row[4:6], row[8]])},{index % 3}"
            for index, row in enumerate(rows)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["premise,hypothesis,other,kind", *lines]))
    return folder


def config(place: Path, **data: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "two",
            "task": "sequence_classification",
            "teacher": str(place / "teacher"),
            "data": {
                "path": "csv",
                "data_files": {"train": str(place / "train.csv"), "validation": str(place / "held-out.csv")},
                "text_column": ["premise", "hypothesis"],
                "label_column": "kind",
                "max_length": 24,
                **data,
            },
            "arms": {"plain": {}, "causal": {"alignment": "diito/middle"}},
            "training": {"max_steps": 3, "per_device_train_batch_size": 4},
            "verification": {"pairs": 24, "batch_size": 8, "resamples": 100},
        }
    )


def test_a_run_on_two_sentences(place: Path, tmp_path: Path) -> None:
    out = pipeline.run(config(place), tmp_path / "out")
    document = RunFolder.open(out).read_results()
    assert document["data"]["train"]["sentences"] == ["premise", "hypothesis"]
    assert load_config(out / "config.yaml").data.text_column == ["premise", "hypothesis"]
    assert "two sentences a row: premise, hypothesis" in (out / "report.md").read_text()
    assert "two sentences a row: premise, hypothesis" in (out / "report.html").read_text()
    assert 'tokenizer("The first sentence.", "The second sentence.", return' in (out / "causal/README.md").read_text()
    shown = read_examples(out / "examples.parquet")
    assert shown is not None
    for tokens, places in zip(shown["base_tokens"], shown["swapped"], strict=True):
        assert [token.strip() for token in tokens].count("[SEP]") == 2
        assert all(tokens[place].strip() in WORDS for place in places)


def follows(folder: Path) -> None:
    """The teacher's probabilities move, and the copy's do as they do."""
    outcomes = read_outcomes(folder / "outcomes.parquet")
    assert (outcomes["teacher_effect"] > 1e-6).mean() > 0.9
    assert outcomes["effect_error"].max() < 1e-12


def test_a_copy_follows_in_every_case_and_answers_depend_on_the_sentence(place: Path, tmp_path: Path) -> None:
    """The copy is the teacher, so one that is not asked with the same token types would answer otherwise."""
    out = pipeline.verify(config(place), str(place / "teacher"), "diito/middle", tmp_path / "out")
    follows(out)
    prepared = Prepared(config(place))
    batch = prepared.collator([prepared.eval_rows[index] for index in range(8)])
    inputs = model_inputs(batch)
    with torch.no_grad():
        right = prepared.teacher(**inputs).logits
        alike = prepared.teacher(**{**inputs, "token_type_ids": torch.zeros_like(inputs["token_type_ids"])}).logits
    engine = InterchangeModel(prepared.teacher.eval(), {})
    assert torch.equal(engine.logits(engine.base_run(inputs)), right)
    assert not torch.allclose(right, alike, atol=1e-3)


def test_the_words_that_differ_are_swapped_in_the_second_sentence_alone(place: Path, tmp_path: Path) -> None:
    paired = config(place, source_column=["premise", "other"])
    alignment = Alignment.pairs(last=(0, 0), positions="differing", sources="paired")
    path = tmp_path / "alignment.yaml"
    path.write_text(alignment.to_yaml())
    prepared = Prepared(paired)
    batch = prepared.collator([prepared.eval_rows[index] for index in range(6)])
    places = [row.nonzero().flatten().tolist() for row in batch["swapped"]]
    assert places == [[8]] * 6  # [CLS] four words [SEP] three words [SEP]: the last word
    assert not (batch["swapped"] & ~eligible_positions(batch)).any()
    out = pipeline.verify(paired, str(place / "teacher"), str(path), tmp_path / "out")
    follows(out)


def test_cls_and_what_stands_between_are_never_swapped(place: Path) -> None:
    prepared = Prepared(config(place))
    batch = prepared.collator([prepared.eval_rows[index] for index in range(6)])
    special = [row.nonzero().flatten().tolist() for row in ~eligible_positions(batch)]
    assert special == [[0, 5, 9]] * 6


def test_a_student_that_tells_no_sentences_apart(place: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    sizes = {"vocab_size": 45, "dim": 16, "hidden_dim": 16, "n_heads": 2, "n_layers": 2, "max_position_embeddings": 32}
    student = DistilBertForSequenceClassification(DistilBertConfig(**sizes, num_labels=3))
    folder = saved(student, tmp_path / "student")
    out = pipeline.verify(config(place), folder, "diito/middle", tmp_path / "out")
    assert RunFolder.open(out).read_results()["summary"]["students"]


def test_checks_and_words_before_a_run(place: Path) -> None:
    assert all(check.passed for check in validate(config(place)))
    assert "13 training rows" in explain(config(place))


def test_one_case_is_explored(place: Path) -> None:
    prepared = Prepared(config(place))
    alignment = Alignment.pairs(first=(0, 0))
    found = iit.explore(
        prepared.teacher, prepared.teacher, alignment, tokenizer(), ("w1 w2", "w3"), ("w1 w2", "w4"), swapped=[4]
    )
    assert found.base == ("[CLS]", "w1", "w2", "[SEP]", "w3", "[SEP]") and found.swapped == (4,)
    frame = found.to_frame()
    teacher, student = (frame[frame["model"] == one]["p_after"].tolist() for one in ("teacher", "student"))
    assert teacher == student
    assert (frame["p_before"] - frame["p_after"]).abs().max() > 1e-3
