"""Teachers, students and tokenizers that would give another result than they seem to: told in one line, or right."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from iit_toolkit import pipeline
from iit_toolkit.config.loading import parse_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from tests.downstream.tiny import sentences
from tests.tiny_runs import tiny_run

Change = Callable[[Path, dict[str, Any]], Any]
SIZES: dict[str, Any] = {
    "vocab_size": 38,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
CAUSAL = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def edit(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the weights of a folder, or put others in their place."""
    found = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    changed = change(found) or found
    (folder / "model.safetensors").unlink()
    save_file(changed, folder / "model.safetensors", {"format": "pt"})


def teacher(model: type[Any], config: Any, task: str = "causal_lm") -> Change:
    def change(place: Path, given: dict[str, Any]) -> None:
        torch.manual_seed(0)
        model(config).save_pretrained(place / "teacher")
        given["task"] = task

    return change


def labelled(place: Path, given: dict[str, Any]) -> None:
    """A classifier of two labels, and rows for it."""
    teacher(tf.BertForSequenceClassification, tf.BertConfig(**SIZES), "sequence_classification")(place, given)
    for name, count, seed in (("train", 16, 1), ("held-out", 24, 2)):
        (place / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in sentences(count, seed)))
    files = {"train": str(place / "train.jsonl"), "validation": str(place / "held-out.jsonl")}
    given["data"] = {"path": "json", "data_files": files, "text_column": "sentence", "label_column": "label"}
    given["data"]["max_length"] = 24


def told(place: Path, *changes: Change) -> list[str]:
    """What is wrong with a tiny run once it is changed."""
    given = tiny_run(place)
    for change in changes:
        change(place, given)
    try:
        checks = pipeline.validate(parse_config(RunConfig, given))
    except UserError as error:
        return [str(error)]
    return [f"{check.name}: {check.detail}" for check in checks if not check.passed]


def untied_llama(place: Path, given: dict[str, Any]) -> None:
    teacher(tf.LlamaForCausalLM, tf.LlamaConfig(**CAUSAL, tie_word_embeddings=True))(place, given)
    weights(place / "teacher", lambda found: found.update({"lm_head.weight": torch.randn(38, 32)}))


def long_rope(place: Path, given: dict[str, Any]) -> None:
    """Reads a row otherwise if any row of its batch has over 16 tokens; the first rows all have."""
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 2, 5]}
    sizes = {**CAUSAL, "original_max_position_embeddings": 16, "partial_rotary_factor": 1.0}
    rope |= {"original_max_position_embeddings": 16, "partial_rotary_factor": 1.0}
    teacher(tf.Phi3ForCausalLM, tf.Phi3Config(**sizes, rope_parameters=rope))(place, given)
    lines = (place / "held-out.txt").read_text().splitlines()
    lines[8:] = [" ".join(line.split()[:10]) for line in lines[8:]]
    (place / "held-out.txt").write_text("\n".join(lines))
    given["data"]["shuffle_eval"] = False


def no_text(place: Path, given: dict[str, Any]) -> None:
    labelled(place, given)
    with (place / "train.jsonl").open("a") as file:
        file.write('{"sentence": null, "label": 1}\n')


def no_label(place: Path, given: dict[str, Any]) -> None:
    labelled(place, given)
    with (place / "held-out.jsonl").open("a") as file:
        file.write('{"sentence": "w1 good", "label": null}\n')


def own_student(place: Path, given: dict[str, Any]) -> None:
    shutil.copytree(place / "teacher", place / "student")
    given["student"] = {"checkpoint": str(place / "student")}


def no_unknown(place: Path, _: dict[str, Any]) -> None:
    """A tokenizer of words that says no word for one that it does not know."""
    path = place / "teacher" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = {word.replace("[UNK]", "other"): number for word, number in content["model"]["vocab"].items()}
    content["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[UNK]"]
    path.write_text(json.dumps(content))
    settings = json.loads((place / "teacher" / "tokenizer_config.json").read_text())
    del settings["unk_token"]
    (place / "teacher" / "tokenizer_config.json").write_text(json.dumps(settings))
    lines = (place / "train.txt").read_text().splitlines()
    lines.insert(2, "w1 w2 nobody knows w3")
    (place / "train.txt").write_text("\n".join(lines))


def far_id(place: Path, _: dict[str, Any]) -> None:
    path = place / "teacher" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["w19"] = 999
    path.write_text(json.dumps(content))


def longest(length: Any) -> Change:
    return lambda place, _: edit(place / "teacher" / "tokenizer_config.json", model_max_length=length)


def opt(place: Path, given: dict[str, Any]) -> None:
    sizes = {**SIZES, "word_embed_proj_dim": 32, "ffn_dim": 48, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    del sizes["intermediate_size"]
    teacher(tf.OPTForCausalLM, tf.OPTConfig(**sizes, layerdrop=0.5))(place, given)


def bart(**entries: Any) -> Change:
    """A classifier of two classes, where the configuration class takes three for default."""
    sizes = {name: 2 for name in ("encoder_layers", "decoder_layers", "encoder_attention_heads")}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 16}
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    config = tf.BartConfig(vocab_size=38, max_position_embeddings=64, **sizes, **tokens, **entries)
    config.forced_eos_token_id = None

    def change(place: Path, given: dict[str, Any]) -> None:
        labelled(place, given)
        teacher(tf.BartForSequenceClassification, config, "sequence_classification")(place, given)
        edit(place / "teacher" / "config.json", id2label=config.id2label, label2id=config.label2id)

    return change


def settings(section: str, **entries: Any) -> Change:
    return lambda _, given: given.setdefault(section, {}).update(entries)


def added(**weights_: Any) -> Change:
    return lambda place, _: weights(place / "teacher", lambda found: found.update(weights_))


def three_classes(place: Path, given: dict[str, Any]) -> None:
    labelled(place, given)
    tf.BertForSequenceClassification(tf.BertConfig(**SIZES, num_labels=3)).save_pretrained(place / "student")
    given["student"] = {"checkpoint": str(place / "student")}


def stale_index(place: Path, _: dict[str, Any]) -> None:
    content = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}
    (place / "teacher" / "pytorch_model.bin.index.json").write_text(json.dumps(content))


def of_config(**entries: Any) -> Change:
    return lambda place, _: edit(place / "teacher" / "config.json", **entries)


def student_of(**entries: Any) -> Change:
    return settings("student", config=entries, layers=None)


INSIDE = "bert.encoder.layer.0.attention.self."
WRONG: dict[str, tuple[tuple[Change, ...], str]] = {
    "rows read by the longest of the batch": ((long_rope,), "teacher: padding: .* change"),
    "no text": ((no_text,), r"^data, split train: row 16 has no text .null.* leave it out"),
    "no label": ((no_label,), "^data, split validation: row 24 has the label None"),
    "damaged tokenizer": (
        (own_student, lambda place, _: (place / "student" / "tokenizer.json").write_text("{")),
        "^same tokenizer: .*student has files of a tokenizer, but no tokenizer",
    ),
    "no unknown token": ((no_unknown,), "^text 2 can't be tokenized .* give a tokenizer with an unk_token"),
    "an id beyond the embeddings": ((far_id,), "its tokenizer has ids up to 999, but its embeddings only 38 rows"),
    "blocks left out": ((opt,), "^arms.causal: layerdrop in the student's config.json is 0.5.* set layerdrop to 0"),
    "blocks of an encoder left out": ((bart(encoder_layerdrop=0.1, num_labels=3),), "encoder_layerdrop .* is 0.1"),
    "classes that are not saved": (
        (bart(num_labels=2),),
        "^student: saving: .* read with num_labels 3, not 2; give its classes other names than LABEL_0",
    ),
    "a student of another kind": (
        (settings("student", config={"model_type": "gpt2"}, layers=None),),
        "student configuration: model_type is the teacher's, bert; leave it out",
    ),
    "smoothing of a million": ((settings("mlm", smoothing=1e6),), "mlm.smoothing: .* less than or equal to 10"),
    "no temperature": (
        (lambda _, given: given["arms"]["causal"].update(temperature=1e-300),),
        "arms.causal.temperature: .* greater than or equal to 0.001",
    ),
    "endless temperature": (
        (lambda _, given: given["arms"]["causal"].update(temperature=1e300),),
        "arms.causal.temperature: .* less than or equal to 1000",
    ),
    "endless weight": (
        (lambda _, given: given["arms"]["causal"].update(weights={"ce": 1e300}),),
        "arms.causal.weights.ce: .* less than or equal to 1000000",
    ),
    "banned token": (
        (
            lambda place, _: weights(
                place / "teacher", lambda found: found["cls.predictions.bias"][7:8].fill_(-torch.inf) and None
            ),
        ),
        "cls.predictions.bias are -inf .banned tokens or classes.* use a large negative number, such as -1e9",
    ),
    "adapter in its base model": (
        (added(**{f"{INSIDE}query.lora_A.weight": torch.zeros(2, 2)}),),
        "it holds weights of an adapter besides its own, e.g. .*lora_A.weight; merge it",
    ),
    "blocks that the config leaves out": ((of_config(num_hidden_layers=1),), "config.json has fewer layers than the"),
    "blocks that the weights lack": (
        (of_config(num_hidden_layers=3),),
        r"^teacher .*: lacks 16 weights of its blocks, e.g. bert.encoder.layer.2\..*; give a complete checkpoint",
    ),
    "names of another wrapper": (
        (lambda place, _: weights(place / "teacher", lambda found: {f"module.{key}": found[key] for key in found}),),
        "lacks 32 weights .* and has others that are not used, e.g. module.bert",
    ),
    "another model_type": (
        (of_config(model_type="roberta"),),
        "lacks 32 weights .*, e.g. roberta.encoder.* and has others that are not used, e.g. bert",
    ),
    "another task": (
        (labelled, lambda _, given: given.update(task="masked_lm", data={**given["data"], "label_column": None})),
        "lacks 6 weights for task masked_lm, e.g. cls.pred.* others that are not used, e.g. bert.pooler.* trained for",
    ),
    "labels of another task": (
        (labelled, lambda _, given: given.update(task="masked_lm")),
        "data: label_column is for task sequence_classification",
    ),
    "classes of another number": (
        (three_classes,),
        "^student checkpoint .*: it has 3 classes, the teacher 2 .`classifier.bias` does not fit",
    ),
    "a file": (
        (lambda place, given: given.update(teacher=str(place / "teacher" / "config.json")),),
        "config.json: is a file; give its folder, .*teacher, if",
    ),
    "safetensors by another name": (
        (lambda place, _: (place / "teacher" / "model.safetensors").rename(place / "teacher" / "pytorch_model.bin"),),
        "pytorch_model.bin holds safetensors; rename it to model.safetensors",
    ),
    "dropout of all": ((student_of(hidden_dropout_prob=1.0),), "none arrives; .* let none of its dropouts be 1"),
    "a number that is none": (
        (student_of(layer_norm_eps=float("nan")),),
        "student.config: 'layer_norm_eps' is nan; models are built of finite numbers",
    ),
    "a pattern of no file": (
        (lambda place, given: given["data"]["data_files"].update(train=str(place / "*.none")),),
        r"split train can't be loaded: no file matches .*\*.none; correct data_files",
    ),
    "an arm's own alignment": (
        (lambda _, given: given["arms"]["causal"].update(alignment={"name": "x", "variables": []}),),
        "^arms.causal.alignment: `variables`: ",
    ),
    "layers of a model without a list of them": (
        (teacher(tf.AlbertForMaskedLM, tf.AlbertConfig(**SIZES, embedding_size=16), "masked_lm"),),
        "^no student can be made of the teacher's layers .AlbertForMaskedLM: no list of 2 blocks .* student.config",
    ),
    "longest text in words": ((longest("64"),), "model_max_length in its tokenizer_config.json is '64'; give"),
    "longest text negative": ((longest(-1),), "model_max_length in its tokenizer_config.json is -1; give"),
}


@pytest.mark.parametrize(("changes", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_before_training(tmp_path: Path, changes: tuple[Change, ...], said: str) -> None:
    found = told(tmp_path, *changes)
    assert found and re.search(said, found[0]), found
    assert all("\n" not in one and len(one) <= 500 for one in found)


RIGHT: dict[str, tuple[Change, ...]] = {
    "as it is": (),
    "untied head under a config that ties": (untied_llama,),
    "student without a tokenizer": (
        own_student,
        lambda place, _: [path.unlink() for path in (place / "student").glob("tokenizer*")],
    ),
    "classifier": (labelled,),
    "index of other files": (stale_index,),
    "weights that are not used": (added(**{f"{INSIDE}rotary_emb.inv_freq": torch.zeros(2)}),),
    "classes that are saved": (bart(id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}),),
    "strongest smoothing": (settings("mlm", smoothing=10.0),),
}


@pytest.mark.parametrize("changes", RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_certified(tmp_path: Path, changes: tuple[Change, ...]) -> None:
    assert told(tmp_path, *changes) == []


def test_a_student_has_the_head_and_the_embeddings_that_were_loaded(tmp_path: Path) -> None:
    given = tiny_run(tmp_path)
    untied_llama(tmp_path, given)
    stored = load_file(tmp_path / "teacher" / "model.safetensors")
    student: Any = Prepared(parse_config(RunConfig, given)).new_student()
    student.save_pretrained(tmp_path / "saved")
    again: Any = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    for model in (student, again):
        assert torch.equal(model.get_input_embeddings().weight, stored["model.embed_tokens.weight"])
        assert torch.equal(model.lm_head.weight, stored["lm_head.weight"])


def test_a_long_name_is_told_short_and_without_control_characters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(tmp_path, added(**{"x" * 3000 + "\n\x1b[2J": torch.zeros(2)})) == []
    [line] = [record.message for record in caplog.records if "not used by BertForMaskedLM" in record.message]
    assert line.isprintable() and len(line) <= 400


def test_a_config_that_cannot_be_read_is_told_and_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [found] = told(tmp_path, of_config(use_return_dict=True))
    assert "use_return_dict" in found and "attention_probs_dropout_prob" not in capfd.readouterr().err
