from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.distillation.students import (
    default_layers,
    student_from_checkpoint,
    student_from_config,
    student_from_teacher,
)
from iit_toolkit.errors import UserError
from tests.families import FAMILIES, LAYERS, bert_config, make_batch, make_model


def logits(model: Any, family: str) -> torch.Tensor:
    inputs, _ = make_batch(family)
    with torch.no_grad():
        return model.eval()(**inputs).logits


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (12, 1, [0]),
        (12, 3, [0, 2, 4]),
        (12, 6, [0, 2, 4, 7, 9, 11]),
        (12, 9, [0, 2, 3, 4, 7, 8, 9, 10, 11]),
        (12, 8, [0, 1, 3, 4, 6, 7, 9, 10]),
        (12, 12, list(range(12))),
        (6, 3, [0, 2, 4]),
        (24, 6, [0, 4, 8, 12, 16, 20]),
        (5, 2, [0, 2]),
        (1, 1, [0]),
    ],
)
def test_default_layers(teacher: int, student: int, expected: list[int]) -> None:
    assert default_layers(teacher, student) == tuple(expected)


@pytest.mark.parametrize("student", [0, -1, 7])
def test_default_layers_refuse_impossible_depths(student: int) -> None:
    with pytest.raises(UserError, match="from 1 to 6 layers"):
        default_layers(6, student)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_all_layers_is_its_teacher_bit_for_bit(family: str) -> None:
    teacher = make_model(family)
    student = student_from_teacher(teacher, range(LAYERS))
    assert type(student) is type(teacher) and student.training
    assert torch.equal(logits(student, family), logits(teacher, family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [(0, 2), (0,), (0, 1, 2, 2)])
def test_a_student_holds_the_chosen_blocks_and_all_the_rest(family: str, layers: Sequence[int]) -> None:
    teacher = make_model(family)
    student = student_from_teacher(teacher, layers)
    assert student.config.num_hidden_layers == len(blocks(student)) == len(layers)
    for block, layer in zip(blocks(student), layers, strict=True):
        assert same(weights_of(block), weights_of(blocks(teacher)[layer]))
    prefix = FAMILIES[family].blocks
    rest = [{k: v for k, v in weights_of(m).items() if not k.startswith(prefix)} for m in (student, teacher)]
    assert rest[0] and same(*rest)
    assert logits(student, family).isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_changing_the_student_leaves_the_teacher_and_tied_weights_stay_tied(family: str) -> None:
    teacher = make_model(family)
    before, answers, depth = weights_of(teacher), logits(teacher, family), teacher.config.num_hidden_layers
    student = student_from_teacher(teacher, (0, 2))
    heads = [model.get_output_embeddings() for model in (teacher, student)]
    if heads[0] is not None:
        tied = [
            head.weight is m.get_input_embeddings().weight for head, m in zip(heads, (teacher, student), strict=True)
        ]
        assert tied[0] == tied[1]
    with torch.no_grad():
        for tensor in student.state_dict().values():
            tensor.zero_()
    assert same(weights_of(teacher), before)
    assert teacher.config.num_hidden_layers == depth
    assert torch.equal(logits(teacher, family), answers)


def test_some_families_have_tied_and_some_have_untied_heads() -> None:
    models = [make_model(family) for family in ("bert", "gpt2", "llama")]
    tied = [model.get_output_embeddings().weight is model.get_input_embeddings().weight for model in models]
    assert tied == [True, True, False]


def test_every_copied_block_keeps_its_kind_of_attention() -> None:
    teacher = make_model("modernbert")
    assert teacher.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]
    assert student_from_teacher(teacher, (0, 2)).config.layer_types == ["full_attention", "full_attention"]


def test_a_copied_block_computes_what_it_did_in_the_teacher() -> None:
    teacher = make_model("qwen3").eval()
    student = student_from_teacher(teacher, (1,)).eval()
    inputs, _ = make_batch("qwen3")
    embedded = teacher.model.embed_tokens(inputs["input_ids"])
    blocks(teacher)[0].register_forward_hook(lambda *_: embedded)
    blocks(teacher)[2].register_forward_hook(lambda *called: called[1][0])
    with torch.no_grad():
        assert torch.equal(student(**inputs).logits, teacher(**inputs).logits)


def test_making_a_student_leaves_the_random_numbers_and_default_type_alone() -> None:
    teacher = make_model("bert", torch.bfloat16)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    student = student_from_teacher(teacher, (0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert student.dtype == torch.float32
    assert student_from_teacher(make_model("bert", torch.float64), (0, 1)).dtype == torch.float64


def test_the_settings_of_generation_are_copied() -> None:
    teacher = make_model("gpt2")
    teacher.generation_config.max_new_tokens = 7
    student = student_from_teacher(teacher, (0,))
    assert student.generation_config.max_new_tokens == 7
    assert student.generation_config is not teacher.generation_config


@pytest.mark.parametrize("layers", [(0, LAYERS), (-1,), ()])
def test_layers_out_of_range_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="BertForMaskedLM has layers 0 to 2"):
        student_from_teacher(make_model("bert"), layers)


@pytest.mark.parametrize("layers", [(1, 2), (0, 0)])
def test_a_block_that_does_not_fit_its_new_place_is_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="attn_norm.*keep block 0"):
        student_from_teacher(make_model("modernbert"), layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_student_has_the_changed_configuration_and_other_weights(family: str) -> None:
    teacher = make_model(family)
    student = student_from_config(teacher, {"hidden_size": 16, "num_hidden_layers": 2})
    assert type(student) is type(teacher)
    assert (student.config.hidden_size, len(blocks(student))) == (16, 2)
    assert (teacher.config.hidden_size, len(blocks(teacher))) == (32, LAYERS)
    assert student.config.num_attention_heads == teacher.config.num_attention_heads
    assert logits(student, family).shape == logits(teacher, family).shape


def test_a_fresh_student_follows_the_seed() -> None:
    teacher = make_model("bert")
    students = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        students.append(weights_of(student_from_config(teacher, {"num_hidden_layers": 1})))
    assert same(students[0], students[1]) and not same(students[0], students[2])


def test_a_fresh_student_can_be_deeper_than_its_teacher() -> None:
    student = student_from_config(make_model("modernbert"), {"num_hidden_layers": 4})
    assert len(student.config.layer_types) == 4


def test_an_unknown_entry_names_the_nearest() -> None:
    with pytest.raises(UserError, match='no entry "num_hiden_layers", did you mean "num_hidden_layers"?'):
        student_from_config(make_model("gpt2"), {"num_hiden_layers": 2})
    with pytest.raises(UserError, match="see the entries of GPT2Config"):
        student_from_config(make_model("gpt2"), {"zzzzzz": 2})


@pytest.mark.parametrize(
    "overrides",
    [
        {"hidden_size": 30},
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"pad_token_id": 99999},
    ],
)
def test_entries_that_make_no_model_are_refused_in_one_line(overrides: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="student configuration") as caught:
        student_from_config(make_model("bert"), overrides)
    assert "\n" not in str(caught.value)


def save(model: Any, path: Path) -> Path:
    model.save_pretrained(path)
    return path


def test_a_checkpoint_of_another_architecture_is_loaded_for_the_teachers_task(tmp_path: Path) -> None:
    saved = make_model("distilbert", torch.bfloat16)
    student = student_from_checkpoint(make_model("bert"), save(saved, tmp_path))
    assert isinstance(student, tf.DistilBertForMaskedLM)
    assert student.training and student.dtype == torch.float32
    assert same(weights_of(student), weights_of(saved.float()))


def test_a_classifier_gets_the_labels_of_its_teacher(tmp_path: Path) -> None:
    names = {0: "no", 1: "maybe", 2: "yes"}
    ids = {name: i for i, name in names.items()}
    teacher = tf.BertForSequenceClassification(bert_config(id2label=names, label2id=ids))
    student = student_from_checkpoint(teacher, save(make_model("distilbert"), tmp_path), new_head=True)
    assert isinstance(student, tf.DistilBertForSequenceClassification)
    assert student.config.id2label == names and student.classifier.out_features == 3


def classifier(*names: str) -> Any:
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return tf.BertForSequenceClassification(bert_config(**labels))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_without_a_head_is_refused_unless_a_new_one_is_wanted(family: str, tmp_path: Path) -> None:
    teacher = make_model(family)
    assert same(weights_of(student_from_checkpoint(teacher, save(teacher, tmp_path / "whole"))), weights_of(teacher))
    encoder = save(teacher.base_model, tmp_path / "encoder")
    if family == "gpt2":  # its head is its embeddings
        assert same(weights_of(student_from_checkpoint(teacher, encoder)), weights_of(teacher))
        return
    with pytest.raises(
        UserError, match=f"student checkpoint {encoder}: lacks .* weights for the task of the teacher, .* give"
    ):
        student_from_checkpoint(teacher, encoder)
    torch.manual_seed(0)
    student = student_from_checkpoint(teacher, encoder, new_head=True)
    assert same(weights_of(student.base_model), weights_of(teacher.base_model))


def test_a_language_model_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lacks 4 weights for the task of the teacher, BertForSequenceClassification"):
        student_from_checkpoint(classifier("no", "yes"), save(make_model("bert"), tmp_path))


@pytest.mark.parametrize("new_head", [False, True])
def test_classes_in_another_order_are_refused(tmp_path: Path, new_head: bool) -> None:
    path = save(classifier("negative", "positive"), tmp_path)
    with pytest.raises(UserError, match="class negative is number 0, the teacher's 1") as caught:
        student_from_checkpoint(classifier("positive", "negative"), path, new_head=new_head)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", [("Positive", "NEGATIVE"), ("pos", "neg"), ("LABEL_0", "LABEL_1"), ("0", "1")])
def test_classes_are_compared_by_their_names_where_they_have_any(names: tuple[str, str], tmp_path: Path) -> None:
    teacher = classifier("positive", "negative")
    student = student_from_checkpoint(teacher, save(classifier(*names), tmp_path))
    assert student.config.id2label == teacher.config.id2label


def test_the_names_of_a_head_that_is_made_new_do_not_matter(tmp_path: Path) -> None:
    path = save(classifier("negative", "positive").bert, tmp_path)
    teacher = classifier("positive", "negative")
    assert student_from_checkpoint(teacher, path, new_head=True).config.id2label == teacher.config.id2label


def break_missing(path: Path) -> None:
    (path / "model.safetensors").unlink()


def break_truncated(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def break_cut_in_the_header(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:20])


def break_empty(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def break_config(path: Path) -> None:
    file = path / "config.json"
    file.write_text(file.read_text()[:-30])


def break_width(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))


def break_blocks(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(kept, path / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "damage",
    [
        break_missing,
        break_truncated,
        break_cut_in_the_header,
        break_empty,
        break_config,
        break_width,
        break_blocks,
    ],
)
def test_damaged_checkpoints_are_refused_in_one_line(damage: Any, tmp_path: Path) -> None:
    teacher = make_model("bert")
    damage(save(teacher, tmp_path))
    with pytest.raises(UserError, match="student checkpoint") as caught:
        student_from_checkpoint(teacher, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        student_from_checkpoint(make_model("bert"), tmp_path / "nothing")


def test_a_teacher_without_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="teacher BertModel"):
        student_from_checkpoint(tf.BertModel(bert_config()), tmp_path)
