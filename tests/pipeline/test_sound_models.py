"""Whole runs with models that are spoilt, rewrite themselves, or ask for other outputs."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    RwkvConfig,
    RwkvForCausalLM,
)

from iit_toolkit import pipeline
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.pipeline.check import certify_answers, certify_saving, validate_prepared
from iit_toolkit.pipeline.prepare import Prepared

SIZES: dict[str, Any] = {
    "vocab_size": 5000,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
WORDS = ["module", "file", "value", "list", "error", "string", "class", "function", "method", "object"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")


def saved(model: PreTrainedModel, target: Path, **entries: Any) -> str:
    """Save a model with the embedded teacher's tokenizer, and change its config.json."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.3, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(ASSETS / "teacher", model_max_length=32).save_pretrained(target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return str(target)


def config(folder: Path, task: str, teacher: str, rare: str = "", **rest: Any) -> RunConfig:
    """A config over 12 rows to train on and 12 held-out ones, of which the last two hold a rare word."""
    chosen = torch.randint(len(WORDS), (24, 14), generator=torch.Generator().manual_seed(0)).tolist()
    texts = [" ".join(WORDS[index] for index in row) for row in chosen]
    texts[-2:] = [f"{text} {rare}" for text in texts[-2:]]
    for name, lines in (("text", texts[:12]), ("held-out", texts[12:])):
        (folder / f"{name}.txt").write_text("\n".join(lines))
    files = {"train": str(folder / "text.txt"), "validation": str(folder / "held-out.txt")}
    return RunConfig.model_validate(
        {
            "name": "sound",
            "task": task,
            "teacher": teacher,
            "student": {"layers": 2},
            "data": {"path": "text", "data_files": files, "max_length": 24, "packing": False},
            "arms": {"causal": {"alignment": "diito/middle"}},
            "training": {"max_steps": 1, "per_device_train_batch_size": 4},
            "verification": {"pairs": 12, "batch_size": 4, "resamples": 100},
            **rest,
        }
    )


def test_a_teacher_whose_weight_is_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = BertForMaskedLM(BertConfig(**SIZES))
    teacher = saved(model, tmp_path / "teacher")
    model.get_input_embeddings().weight.data[7] = math.nan
    model.save_pretrained(teacher)
    said = r"16 of 80,000 values of bert.embeddings.word_embeddings.weight are NaN or infinite"
    given = config(tmp_path, "masked_lm", teacher)
    with pytest.raises(UserError, match=said):
        validate_prepared(Prepared(given))
    with pytest.raises(UserError, match=said):
        pipeline.run(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_overflow_in_a_teacher_are_counted_before_training(tmp_path: Path) -> None:
    """Its weights are finite: only what they do to one rare word is not."""
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=1))
    teacher = saved(model, tmp_path / "teacher")
    prepared = Prepared(config(tmp_path, "causal_lm", teacher, rare="exception"))
    tokens = prepared.tokenizer("exception", add_special_tokens=False)["input_ids"]
    assert certify_answers(prepared).passed
    prepared.teacher.get_input_embeddings().weight.data[tokens[0]] = 3e38  # pyright: ignore
    prepared.teacher.model.layers[0].mlp.down_proj.weight.data *= 1e30  # pyright: ignore
    prepared.teacher.model.layers[0].input_layernorm.weight.data[:] = 1e38  # pyright: ignore
    found = certify_answers(prepared)
    assert not found.passed and "of 12 held-out rows, e.g. in row" in found.detail


def test_answers_that_become_nan_stop_the_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student can spoil rows that training never showed: none of its cases may stand in a table."""
    teacher = saved(BertForMaskedLM(BertConfig(**SIZES)), tmp_path / "teacher")
    given = config(tmp_path, "masked_lm", teacher, rare="exception")
    module = importlib.import_module("iit_toolkit.pipeline.run")
    trained = module.train_arm

    def spoilt(prepared: Prepared, *given: Any) -> Any:
        student, record = trained(prepared, *given)
        token = prepared.tokenizer("exception", add_special_tokens=False)["input_ids"][0]
        student.get_input_embeddings().weight.data[token] = math.nan
        return student, record

    monkeypatch.setattr(module, "train_arm", spoilt)
    with pytest.raises(
        UserError, match=r"student causal.*: answers are NaN or infinite in \d+ of \d+ rows, e.g. in row"
    ):
        pipeline.run(given, tmp_path / "out")
    assert not (tmp_path / "out" / "outcomes.parquet").exists()
    assert not (tmp_path / "out" / "results.json").exists()
    assert (tmp_path / "out" / "causal" / "model.safetensors").is_file()


def test_an_update_that_spoils_every_weight_ends_in_an_error_and_saves_no_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.data.fill_(math.nan)

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    teacher = saved(BertForMaskedLM(BertConfig(**SIZES)), tmp_path / "teacher")
    training = {"max_steps": 1, "per_device_train_batch_size": 4}
    with pytest.raises(UserError, match="student after 1 steps: .*NaN or infinite.*lower learning_rate"):
        pipeline.run(config(tmp_path, "masked_lm", teacher, training=training), tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_student_that_starts_with_nan_is_refused(tmp_path: Path) -> None:
    teacher = saved(BertForMaskedLM(BertConfig(**SIZES)), tmp_path / "teacher")
    given = config(tmp_path, "masked_lm", teacher, student={"config": {"initializer_range": 1e39}})
    with pytest.raises(UserError, match=r"student: .* are NaN or infinite.*initializer_range"):
        validate_prepared(Prepared(given))


def rwkv(folder: Path, rescale_every: int) -> str:
    sizes = {"vocab_size": 5000, "hidden_size": 16, "attention_hidden_size": 16, "context_length": 32}
    return saved(RwkvForCausalLM(RwkvConfig(**sizes, num_hidden_layers=4, rescale_every=rescale_every)), folder)


def test_a_teacher_that_rewrites_its_weights_is_refused(tmp_path: Path) -> None:
    given = config(tmp_path, "causal_lm", rwkv(tmp_path / "teacher", 2))
    with pytest.raises(
        UserError, match=r"teacher: answers: .*attention.output.weight is no longer.*set rescale_every to 0"
    ):
        pipeline.run(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_that_does_not_gives_its_own_weights_to_the_student(tmp_path: Path) -> None:
    prepared = Prepared(config(tmp_path, "causal_lm", rwkv(tmp_path / "teacher", 0)))
    assert certify_answers(prepared).passed  # so that it has run
    teacher, student = load_file(tmp_path / "teacher" / "model.safetensors"), prepared.new_student().state_dict()
    for block, copied in enumerate((0, 2)):
        name = "rwkv.blocks.{}.attention.output.weight"
        assert torch.equal(student[name.format(block)], teacher[name.format(copied)])


def test_a_teacher_that_was_changed_is_neither_copied_nor_reported(tmp_path: Path) -> None:
    prepared = Prepared(
        config(tmp_path, "masked_lm", saved(BertForMaskedLM(BertConfig(**SIZES)), tmp_path / "teacher"))
    )
    assert prepared.new_student().num_parameters()
    prepared.teacher.get_parameter("bert.encoder.layer.2.output.dense.bias").data[0] += 1
    with pytest.raises(UserError, match=r"teacher .*: bert.encoder.layer.2.output.dense.bias is no longer what it was"):
        prepared.new_student()


def test_a_config_that_asks_for_other_outputs_is_trained_verified_and_saved_without(tmp_path: Path) -> None:
    asked = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
    teacher = saved(BertForMaskedLM(BertConfig(**SIZES)), tmp_path / "teacher", **asked)
    out = pipeline.run(config(tmp_path, "masked_lm", teacher), tmp_path / "out")
    before, student = (json.loads((folder / "config.json").read_text()) for folder in (Path(teacher), out / "causal"))
    assert {key: before[key] for key in asked} == asked  # the teacher's own stays
    assert not student.get("output_attentions") and not student.get("output_hidden_states")
    assert read_outcomes(out / "outcomes.parquet")["teacher_nll"].notna().all()


def test_a_generation_config_that_cannot_be_saved_is_told_before_training(tmp_path: Path) -> None:
    teacher = saved(LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=1)), tmp_path / "teacher")
    prepared = Prepared(config(tmp_path, "causal_lm", teacher))
    student = prepared.new_student()
    assert certify_saving(prepared, student).passed
    student.generation_config.max_new_tokens = -5  # pyright: ignore[reportOptionalMemberAccess]
    found = certify_saving(prepared, student)
    assert not found.passed and "its generation_config.json cannot be saved" in found.detail


@pytest.mark.parametrize(
    ("entries", "labels", "said"),
    [({"problem_type": "multi_label_classification"}, 3, "problem_type"), ({}, 1, "it has 1 label")],
)
def test_a_teacher_of_another_problem_is_refused(
    tmp_path: Path, entries: dict[str, Any], labels: int, said: str
) -> None:
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=labels))
    teacher = saved(model, tmp_path / "teacher", **entries)
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(f"the module,{index % 2}" for index in range(8)))
    data = {"path": "csv", "data_files": str(tmp_path / "rows.csv"), "label_column": "label", "max_length": 24}
    data |= {"train_split": "train[:50%]", "eval_split": "train[50%:]"}
    with pytest.raises(UserError, match=said):
        refuse_failed(validate_prepared(Prepared(config(tmp_path, "sequence_classification", teacher, data=data))))
