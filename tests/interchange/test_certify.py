"""Every check of certification holds where it should and fails where it must, and leaves the models as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.distillation.students import student_from_teacher
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.certify import certify
from iit_toolkit.interchange.checks import Check, refuse_failed
from tests.families import FAMILIES, LLAMA_LIKE, as_batch, bert_config, make_batch, make_model, with_large_weights
from tests.model_classes import make_tiny

BLOCK = {"component": "block_output", "layer": 0}
LAYER = "bert.encoder.layer"


def aligned(teacher: dict[str, Any] | None = None, student: dict[str, Any] | None = None, **rest: Any) -> Alignment:
    """One variable, by default the output of both sides' first block."""
    variable = {"name": "v", "teacher": [teacher or BLOCK], "student": [student or BLOCK]}
    return Alignment.from_dict({"name": "x", "variables": [variable], "positions": {"kind": "all"}, **rest})


def frozen(model: Any) -> Any:
    return model.requires_grad_(False).eval()


def teacher_and_student(family: str = "bert") -> tuple[Any, Any]:
    return frozen(make_model(family)), make_model(family, seed=1)


def checked(
    teacher: Any, student: Any, alignment: Alignment | None = None, family: str = "bert", **rest: Any
) -> dict[str, Check]:
    """Certify, and return the checks by name."""
    inputs, eligible = make_batch(family)
    return {check.name: check for check in certify(teacher, student, alignment, as_batch(inputs, eligible), **rest)}


def failed(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.detail for name, check in checks.items() if not check.passed}


@pytest.mark.parametrize("family", FAMILIES)
def test_sound_models_pass_every_check(family: str) -> None:
    checks = checked(*teacher_and_student(family), aligned(), family)
    assert failed(checks) == {}
    names = ("model", "answers", "sites exist", "sites fire once")
    sides = [f"{side}: {name}" for side in ("teacher", "student") for name in names]
    assert {
        "same answers",
        "teacher is frozen",
        "teacher: padding",
        "student: padding",
        "positions",
        *sides,
        "teacher: self-swap of v",
        "student: self-swap of v",
        "student: gradient through the base run of v",
        "student: gradient through the source run of v",
    } == set(checks)


def test_without_an_alignment_only_what_plain_distillation_needs_is_checked() -> None:
    assert list(checked(*teacher_and_student())) == [
        "teacher: model",
        "student: model",
        "same answers",
        "teacher is frozen",
        "teacher: answers",
        "student: answers",
        "teacher: padding",
        "student: padding",
    ]


def test_other_vocabularies_end_the_checks() -> None:
    teacher, _ = teacher_and_student()
    student = type(teacher)(bert_config(vocab_size=7))
    checks = checked(teacher, student, aligned())  # the batch has tokens above 6
    assert list(checks) == ["teacher: model", "student: model", "same answers", "teacher is frozen"]
    assert failed(checks) == {
        "same answers": "teacher has 50 tokens, student 7; make the student from the teacher's config"
    }


def test_other_numbers_of_labels() -> None:
    teacher, student = teacher_and_student("vit")
    student.config.num_labels = 4
    assert "teacher has 5 labels, student 4" in failed(checked(teacher, student, family="vit"))["same answers"]


def test_labels_in_another_order() -> None:
    teacher, student = teacher_and_student("vit")
    names = ["cat", "dog", "cow", "owl", "bee"]
    teacher.config.id2label = dict(enumerate(names))
    assert "same answers" not in failed(checked(teacher, student, family="vit"))  # the student's say nothing
    student.config.id2label = dict(enumerate(name.upper() for name in names))
    assert "same answers" not in failed(checked(teacher, student, family="vit"))
    student.config.id2label = dict(enumerate(names[::-1]))
    assert "give both the same id2label" in failed(checked(teacher, student, family="vit"))["same answers"]


@pytest.mark.parametrize("spoil", [lambda teacher: teacher.train(), lambda teacher: teacher.requires_grad_(True)])
def test_a_teacher_that_trains(spoil: Callable[[Any], Any]) -> None:
    teacher, student = teacher_and_student()
    spoil(teacher)
    before = state(teacher)
    assert "requires_grad_(False).eval()" in failed(checked(teacher, student, aligned()))["teacher is frozen"]
    assert state(teacher) == before


def ignore_padding(model: Any) -> None:
    """Let a model attend to padding."""

    def drop(_module: nn.Module, args: Any, named: dict[str, Any]) -> Any:
        mask = named.get("attention_mask")
        return args, named | {"attention_mask": None if mask is None else torch.ones_like(mask)}

    model.register_forward_pre_hook(drop, with_kwargs=True)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_a_model_that_reads_padding(side: str) -> None:
    models = dict(zip(("teacher", "student"), teacher_and_student(), strict=True))
    ignore_padding(models[side])
    faults = failed(checked(models["teacher"], models["student"], aligned()))
    assert list(faults) == [f"{side}: padding"]
    assert "must use attention_mask" in faults[f"{side}: padding"]


def test_rows_as_long_as_the_model_reads() -> None:
    models = teacher_and_student()
    length = models[0].config.max_position_embeddings
    inputs = {
        "input_ids": torch.randint(5, 50, (3, length), generator=torch.Generator().manual_seed(0)),
        "attention_mask": torch.ones(3, length, dtype=torch.long),
    }
    eligible = torch.ones(3, length, dtype=torch.bool)
    assert failed({one.name: one for one in certify(*models, aligned(), as_batch(inputs, eligible))}) == {}
    ignore_padding(models[0])
    assert list(failed({one.name: one for one in certify(*models, aligned(), as_batch(inputs, eligible))})) == [
        "teacher: padding"
    ]


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ({"component": "block_output", "layer": 3}, "layer 3"),
        ({"component": f"{LAYER}[0].nowhere.output"}, "nowhere"),
    ],
)
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_a_site_that_does_not_exist(side: str, site: dict[str, Any], said: str) -> None:
    faults = failed(checked(*teacher_and_student(), aligned(**{side: site})))
    assert list(faults) == [f"{side}: sites exist"] and said in faults[f"{side}: sites exist"]


def test_a_site_that_runs_twice() -> None:
    teacher, student = teacher_and_student()
    blocks = student.bert.encoder.layer
    blocks[2].output = blocks[0].output  # a module that two blocks share
    site = {"component": f"{LAYER}[0].output.output"}
    faults = failed(checked(teacher, student, aligned(student=site)))
    assert list(faults) == ["student: sites fire once"]
    assert "ran 2 times" in faults["student: sites fire once"]
    assert "runs exactly once" in faults["student: sites fire once"]


def test_a_site_that_never_runs() -> None:
    site = {"component": f"{LAYER}[0].attention.self.dropout.output"}  # sdpa drops out by itself
    faults = failed(checked(*teacher_and_student(), aligned(teacher=site)))
    assert list(faults) == ["teacher: sites fire once"] and "ran 0 times" in faults["teacher: sites fire once"]


def test_a_site_that_is_no_sequence() -> None:
    teacher, student = teacher_and_student("vit")
    faults = failed(checked(teacher, student, aligned(student={"component": "classifier.output"}), "vit"))
    assert "of shape [4, 5]" in faults["student: sites fire once"]


@pytest.mark.parametrize(("high", "fits"), [(32, True), (33, False)])
def test_ranges_are_held_against_the_measured_width(high: int, fits: bool) -> None:
    faults = failed(checked(*teacher_and_student(), aligned(student={**BLOCK, "neurons": [0, high]})))
    assert (faults == {}) == fits
    if not fits:
        assert "[0, 33) go beyond its width of 32" in faults["student: sites fire once"]


@pytest.mark.parametrize(("read", "fits"), [("block_input", True), ("mlp_activation", False)])
def test_what_is_read_must_be_as_wide_as_what_is_written(read: str, fits: bool) -> None:
    site = {**BLOCK, "read": {"component": read, "layer": 0}}
    checks = checked(*teacher_and_student(), aligned(student=site))
    if fits:
        assert failed(checks) == {}
        assert "no identity" in checks["student: self-swap of v"].detail
    else:
        assert "32 wide but reads" in failed(checks)["student: sites fire once"]


class Noise(nn.Module):
    """Adds noise in evaluation too."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + torch.randn_like(hidden)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_a_model_that_is_not_deterministic(side: str) -> None:
    models = dict(zip(("teacher", "student"), teacher_and_student(), strict=True))
    models[side].bert.encoder.layer[2].output.dropout = Noise().eval()  # above the site
    faults = failed(checked(models["teacher"], models["student"], aligned()))
    assert list(faults) == [f"{side}: padding"] and "not deterministic" in faults[f"{side}: padding"]


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ({"kind": "fixed", "base": [0]}, "no position can be swapped"),
        ({"kind": "fixed", "base": [30]}, "choose smaller ones"),
        ({"kind": "masked"}, "needs masked tokens"),
    ],
)
def test_positions_that_cannot_be_swapped(positions: dict[str, Any], said: str) -> None:
    faults = failed(checked(*teacher_and_student(), aligned(positions=positions)))
    assert list(faults) == ["positions"] and said in faults["positions"]


def test_a_classifier_that_knows_fewer_tokens_than_its_teacher() -> None:
    teacher, student = (tf.BertForSequenceClassification(bert_config(vocab_size=size)) for size in (60, 59))
    faults = failed(checked(frozen(teacher), student))
    assert faults == {"same answers": "teacher reads 60 tokens, student 59; make the student from the teacher's config"}


def test_predicted_positions_can_be_swapped() -> None:
    inputs, eligible = make_batch("bert")
    batch = {**as_batch(inputs, eligible), "labels": inputs["input_ids"].masked_fill(~eligible, IGNORE_INDEX)}
    checks = {one.name: one for one in certify(*teacher_and_student(), aligned(positions={"kind": "masked"}), batch)}
    assert failed(checks) == {} and "positions" in checks


def test_a_student_that_is_frozen_below_the_site() -> None:
    teacher, student = teacher_and_student()
    student.bert.embeddings.requires_grad_(False)
    student.bert.encoder.layer[:2].requires_grad_(False)
    alignment = aligned(student={"component": "block_output", "layer": 1})
    faults = failed(checked(teacher, student, alignment))
    assert faults == {
        f"student: gradient through the {run} run of v": (
            "none arrives; unfreeze the student below the site, and let none of its dropouts be 1"
        )
        for run in ("base", "source")
    }


def test_a_student_whose_source_run_is_cut_off() -> None:
    """Where the site's output is detached, the base run still learns, around it; the source run does not."""
    teacher, student = teacher_and_student()
    student.bert.encoder.layer[0].attention.output.dropout.register_forward_hook(
        lambda _module, _args, output: output.detach()
    )
    site = {"component": f"{LAYER}[0].attention.output.dropout.output"}
    faults = failed(checked(teacher, student, aligned(student=site)))
    assert list(faults) == ["student: gradient through the source run of v"]


def test_a_student_whose_embeddings_alone_are_frozen() -> None:
    teacher, student = teacher_and_student()
    student.bert.embeddings.requires_grad_(False)
    assert failed(checked(teacher, student, aligned(student={"component": "block_output", "layer": 1}))) == {}


def test_verification_asks_for_no_gradient() -> None:
    teacher, student = teacher_and_student()
    checks = checked(teacher, student.requires_grad_(False), aligned(), trains=False)
    assert failed(checks) == {} and not any("gradient" in name for name in checks)


def tiny(name: str, task: str, alignment: Alignment | None = None, student: Any = None) -> dict[str, str]:
    """The failed checks of a class of models, its teacher and a student with other weights."""
    inputs, eligible = make_batch("bert")
    last = inputs["attention_mask"].sum(1) - 1
    inputs["input_ids"][torch.arange(len(last)), last] = 2
    models = frozen(make_tiny(name)), student or make_tiny(name, seed=1).train()
    found = certify(*models, alignment or aligned(), as_batch(inputs, eligible), task=task)  # pyright: ignore
    return failed({one.name: one for one in found})


@pytest.mark.parametrize("name", ["T5ForSequenceClassification", "BartForSequenceClassification"])
def test_an_encoder_that_has_its_own_embeddings(name: str) -> None:
    """Neither T5 nor BART call their `get_input_embeddings()`."""
    assert tiny(name, "sequence_classification") == {}


def test_a_student_of_blocks_without_attention() -> None:
    student = student_from_teacher(make_tiny("Lfm2ForCausalLM"), (0, 2))
    assert student.config.layer_types == ["conv", "conv"]
    assert tiny("Lfm2ForCausalLM", "causal_lm", student=student) == {}


def test_blocks_that_share_keys() -> None:
    assert tiny("Gemma4ForCausalLM", "causal_lm", aligned({"component": "block_output", "layer": 1})) == {}


def test_a_classifier_without_a_padding_token_ends_the_checks() -> None:
    teacher, student = (make_tiny("GPT2ForSequenceClassification", seed=seed) for seed in (0, 1))
    teacher.config.pad_token_id = student.config.pad_token_id = None
    inputs, eligible = make_batch("bert")
    found = certify(frozen(teacher), student, aligned(), as_batch(inputs, eligible), task="sequence_classification")
    faults = failed({one.name: one for one in found})
    assert list(faults) == ["teacher: padding", "student: padding"] and found[-1].name == "student: padding"
    assert faults["teacher: padding"].endswith("set pad_token_id in the model's config to the tokenizer's, 0")


def test_a_decoder_that_rows_of_text_say_nothing_to() -> None:
    faults = tiny("T5ForConditionalGeneration", "masked_lm")
    assert list(faults) == ["teacher: answers"]
    assert "its decoder" in faults["teacher: answers"] and "\n" not in faults["teacher: answers"]


def state(model: Any) -> list[Any]:
    """All that a check could leave behind in a model."""
    modules = [
        (
            name,
            module.training,
            "forward" in vars(module),
            *(len(vars(module)[hooks]) for hooks in vars(module) if hooks.endswith("_hooks")),
        )
        for name, module in model.named_modules()
    ]
    parameters = [(name, one.requires_grad, one.grad is None) for name, one in model.named_parameters()]
    return [*modules, *parameters]


@pytest.mark.parametrize(
    "alignment",
    [
        aligned(),
        aligned(student={"component": f"{LAYER}[0].attention.self.dropout.output"}),
        aligned(student={**BLOCK, "neurons": [0, 99]}),
        aligned(positions={"kind": "fixed", "base": [0]}),
    ],
    ids=["sound", "never runs", "too wide", "no position"],
)
def test_models_are_left_as_they_were(alignment: Alignment) -> None:
    teacher, student = teacher_and_student()
    student.bert.encoder.layer[1].eval()  # a mixture of modes
    student.bert.encoder.layer[2].requires_grad_(False)
    before = state(teacher), state(student)
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    checked(teacher, student, alignment)
    assert (state(teacher), state(student)) == before
    assert all(torch.equal(value, weights[name]) for name, value in student.state_dict().items())


def test_refuse_failed_raises_for_the_first_failure() -> None:
    refuse_failed([Check("a", True, "fine")])
    with pytest.raises(UserError, match="^b: wrong; do this$"):
        refuse_failed([Check("a", True, "fine"), Check("b", False, "wrong; do this"), Check("c", False, "too")])


def test_a_classifier_of_the_last_token_that_takes_padding_for_it() -> None:
    """Llama and its like read the last token that is not `config.pad_token_id`."""
    config = tf.LlamaConfig(**{**LLAMA_LIKE, "pad_token_id": 0}, num_labels=3)
    teacher = frozen(with_large_weights(tf.LlamaForSequenceClassification(config)))
    student = with_large_weights(tf.LlamaForSequenceClassification(config), seed=1)
    inputs, eligible = make_batch("llama")

    def faults(pad: int) -> dict[str, str]:
        batch = as_batch(inputs, eligible)
        found = certify(teacher, student, None, batch, task="sequence_classification", pad=pad)
        return failed({one.name: one for one in found})

    assert faults(0) == {}
    assert list(faults(2)) == ["teacher: padding", "student: padding"]
    assert "filled with token 2, the model takes 0 for padding; set pad_token_id" in faults(2)["teacher: padding"]
    teacher.config.pad_token_id = None
    assert "a padded batch cannot be run" in faults(0)["teacher: padding"]


def test_a_causal_language_model_that_reads_ahead() -> None:
    faults = failed(checked(*teacher_and_student("bert"), aligned(), task="causal_lm"))
    assert list(faults) == ["teacher: order", "student: order"]
    assert (
        faults["teacher: order"].startswith("BertForMaskedLM reads ahead: ") and "masked_lm" in faults["student: order"]
    )
    assert failed(checked(*teacher_and_student("llama"), aligned(), "llama", task="causal_lm")) == {}
    assert failed(checked(*teacher_and_student("gpt2"), aligned(), "gpt2", task="causal_lm")) == {}


def test_rows_of_one_token_have_no_order() -> None:
    inputs, eligible = make_batch("gpt2", lengths=(1, 1))
    teacher, student = teacher_and_student("gpt2")
    checks = {one.name: one for one in certify(teacher, student, None, as_batch(inputs, eligible), task="causal_lm")}
    assert failed(checks) == {} and checks["teacher: order"].detail == "rows of one token have no order"
    batch = as_batch(*make_batch("gpt2", lengths=(1, 12)))
    assert failed({one.name: one for one in certify(teacher, student, None, batch, task="causal_lm")}) == {}
