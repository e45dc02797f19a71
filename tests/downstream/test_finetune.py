"""Whole fine-tunings of a tiny model on planted data."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from datasets import ClassLabel, Dataset
from seqeval.metrics import f1_score

from iit_toolkit.downstream.config import FinetuneConfig
from iit_toolkit.downstream.finetune import finetune
from iit_toolkit.downstream.folder import FinetuneFolder
from iit_toolkit.downstream.prepared import PreparedTask
from iit_toolkit.errors import UserError
from tests.downstream.tiny import pairs, questions, save_data, save_tiny_model, sentences, tagged, tiny_tokenizer
from tests.families import bert_config

Rows = list[dict[str, Any]]
QUICK = {"learning_rate": 3e-3, "num_train_epochs": 3, "per_device_train_batch_size": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def task(folder: Path, make: Callable[[int, int], Rows], count: int = 96, **rest: Any) -> dict[str, Any]:
    folder.mkdir()
    rest = {"max_length": 24, **rest}
    return {"data": save_data(folder, make(count, 0), make(40, 1)), **rest}


def config_of(model: Path, tasks: dict[str, Any], **rest: Any) -> FinetuneConfig:
    document = {"model": str(model), "tasks": tasks, "seeds": [1], "training": QUICK, **rest}
    return FinetuneConfig.model_validate(document)


def scores_of(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on when and how often the fine-tuning was called."""
    return {
        path.name: {
            key: value for key, value in json.loads(path.read_text()).items() if key in ("score", "scores", "data")
        }
        for path in sorted((folder / "scores").iterdir())
    }


def plain_encoding(folder: Path, *texts: str, **options: Any) -> Any:
    return tf.AutoTokenizer.from_pretrained(folder)(*texts, return_tensors="pt", **options)


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_a_planted_class_is_learnt_and_scored_as_a_plain_loop_scores_it(
    model: Path, tmp_path: Path, strategy: str
) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 320, training={"train_sampling_strategy": strategy})}
    out = finetune(config_of(model, tasks, save_models=True), tmp_path / "out")
    written = json.loads((out / "scores" / "sst2-1.json").read_text())
    assert written["score"] > 90
    saved = out / "models" / "sst2-1"
    student = tf.AutoModelForSequenceClassification.from_pretrained(saved).eval()
    assert student.config.id2label == {0: "negative", 1: "positive"}
    rows = sentences(40, 1)
    with torch.no_grad():
        answers = [int(student(**plain_encoding(saved, row["sentence"])).logits.argmax()) for row in rows]
    right = np.mean([answer == row["label"] for answer, row in zip(answers, rows, strict=True)])
    assert written["scores"] == {"validation": {"accuracy": pytest.approx(100 * right)}}
    assert written["data"]["train"]["examples"] == 320


@pytest.mark.parametrize("name", ["sst2", "stsb", "conll2003"])
def test_accumulated_micro_batches_are_one_batch(model: Path, tmp_path: Path, name: str) -> None:
    """The loss of a step is a mean over its micro-batches, not their sum."""
    make = {"sst2": sentences, "stsb": pairs, "conll2003": tagged}[name]
    losses: list[float] = []
    for place, accumulated in enumerate((1, 4)):
        training = {"max_steps": 1, "per_device_train_batch_size": 8 // accumulated}
        tasks = {name: task(tmp_path / f"data-{place}", make, 8, training=training)}
        tasks[name]["training"] |= {"gradient_accumulation_steps": accumulated}
        out = finetune(config_of(model, tasks), tmp_path / f"out-{place}")
        losses.append(json.loads((out / "scores" / f"{name}-1.json").read_text())["training"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.3)  # other dropout; four times as much would be the sum


@pytest.mark.parametrize(
    ("problem", "labels"), [("regression", 1), ("multi_label_classification", 3), ("single_label_classification", 3)]
)
@pytest.mark.parametrize("name", ["sst2", "stsb"])
def test_what_a_model_was_fine_tuned_for_before_does_not_matter(
    model: Path, tmp_path: Path, name: str, problem: str, labels: int
) -> None:
    make = {"sst2": sentences, "stsb": pairs}[name]
    before = tf.AutoModelForSequenceClassification.from_pretrained(model, num_labels=labels, problem_type=problem)
    before.save_pretrained(tmp_path / "before")
    tiny_tokenizer().save_pretrained(tmp_path / "before")
    tasks = {name: task(tmp_path / "data", make, 16, training={"max_steps": 1})}
    written = [
        finetune(config_of(start, tasks), tmp_path / f"{start.name}-out") for start in (tmp_path / "before", model)
    ]
    losses = [json.loads((out / "scores" / f"{name}-1.json").read_text())["training"]["loss"] for out in written]
    assert losses[0] == pytest.approx(losses[1], rel=0.5)


def test_a_planted_value_is_learnt(model: Path, tmp_path: Path) -> None:
    out = finetune(config_of(model, {"stsb": task(tmp_path / "data", pairs, 320)}), tmp_path / "out")
    scores = json.loads((out / "scores" / "stsb-1.json").read_text())
    assert min(scores["scores"]["validation"].values()) > 70
    assert scores["score"] == pytest.approx(np.mean(list(scores["scores"]["validation"].values())))


def test_planted_answers_are_found(model: Path, tmp_path: Path) -> None:
    tasks = {"squad": task(tmp_path / "data", questions, doc_stride=6)}
    out = finetune(config_of(model, tasks), tmp_path / "out")
    written = json.loads((out / "scores" / "squad-1.json").read_text())
    assert written["scores"]["validation"]["exact_match"] > 60
    assert written["score"] == written["scores"]["validation"]["f1"]
    assert written["data"]["train"]["rows"] > written["data"]["train"]["examples"] == 96


def test_planted_entities_are_found_as_a_plain_loop_finds_them(model: Path, tmp_path: Path) -> None:
    out = finetune(config_of(model, {"conll2003": task(tmp_path / "data", tagged)}, save_models=True), tmp_path / "out")
    written = json.loads((out / "scores" / "conll2003-1.json").read_text())["scores"]["validation"]
    assert written["f1"] > 90
    saved = out / "models" / "conll2003-1"
    student = tf.AutoModelForTokenClassification.from_pretrained(saved).eval()
    rows, answers = tagged(40, 1), []
    for row in rows:
        encoded = plain_encoding(saved, row["tokens"], is_split_into_words=True)
        with torch.no_grad():
            best = student(**encoded).logits[0].argmax(-1).tolist()
        first = [encoded.word_to_tokens(word).start for word in range(len(row["tokens"]))]
        answers.append([student.config.id2label[best[position]] for position in first])
    assert written["f1"] == pytest.approx(100 * f1_score([row["ner_tags"] for row in rows], answers))


@pytest.mark.parametrize(("name", "make", "rest"), [("conll2003", tagged, {}), ("squad", questions, {"doc_stride": 6})])
def test_a_tokenizer_that_pads_on_the_left_changes_nothing(
    model: Path, tmp_path: Path, name: str, make: Callable[[int, int], Rows], rest: dict[str, Any]
) -> None:
    shutil.copytree(model, tmp_path / "left")
    settings = tmp_path / "left" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"padding_side": "left"}))
    assert tf.AutoTokenizer.from_pretrained(tmp_path / "left").padding_side == "left"
    tasks = {name: task(tmp_path / "data", make, 48, **rest)}
    right = finetune(config_of(model, tasks), tmp_path / "right-out")
    left = finetune(config_of(tmp_path / "left", tasks), tmp_path / "left-out")
    assert scores_of(left) == scores_of(right)


def test_a_model_that_cannot_pad_is_refused(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "unpadded")
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "unpadded")
    with pytest.raises(UserError, match="its tokenizer has no token to pad with; give an encoder"):
        finetune(config_of(tmp_path / "unpadded", {"sst2": task(tmp_path / "data", sentences, 8)}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_words_of_byte_level_tokenizers_keep_their_space(tmp_path: Path) -> None:
    (saved := tmp_path / "roberta").mkdir()
    tokens = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "a", "b", "Ġ", "ab", "Ġab"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = tf.RobertaTokenizer(vocab=vocabulary, merges=[("a", "b"), ("Ġ", "ab")], model_max_length=16)
    tokenizer.save_pretrained(saved)
    config = bert_config(vocab_size=len(tokens), max_position_embeddings=20, num_hidden_layers=1)
    tf.RobertaForMaskedLM(tf.RobertaConfig(**{**config.to_diff_dict(), "pad_token_id": 0})).save_pretrained(saved)
    assert "Ġab" not in tf.AutoTokenizer.from_pretrained(saved)(["ab"], is_split_into_words=True).tokens()

    def rows(_count: int, _seed: int) -> Rows:
        return [{"tokens": ["ab", "ab"], "ner_tags": ["O", "B-PER"]}] * 2

    tasks = {"conll2003": task(tmp_path / "data", rows, max_length=16)}
    out = finetune(config_of(saved, tasks, training={"max_steps": 1}, save_models=True), tmp_path / "out")
    again = tf.AutoTokenizer.from_pretrained(out / "models" / "conll2003-1")
    assert again(["ab", "ab"], is_split_into_words=True).tokens() == ["<s>", "Ġab", "Ġab", "</s>"]


def test_a_run_that_was_killed_goes_on_to_the_same_scores(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 24), "conll2003": task(tmp_path / "tags", tagged, 24)}
    config = config_of(model, tasks, seeds=[3, 1], training={**QUICK, "num_train_epochs": 1})
    whole = finetune(config, tmp_path / "whole")
    write, calls = FinetuneFolder.write_scores, []

    def killed_at_the_third(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(FinetuneFolder, "write_scores", killed_at_the_third)
        finetune(config, tmp_path / "killed")
    killed = tmp_path / "killed"
    done = {path: path.read_bytes() for path in (killed / "scores").iterdir()}
    assert len(done) == 2 and not (killed / "finetune.json").exists()
    finetune(config, killed)
    assert all(path.read_bytes() == content for path, content in done.items())  # not made again
    assert scores_of(killed) == scores_of(whole) and len(scores_of(whole)) == 4
    summaries = [json.loads((folder / "finetune.json").read_text())["tasks"] for folder in (killed, whole)]
    assert summaries[0] == summaries[1]
    losses = [json.loads((whole / "scores" / f"sst2-{seed}.json").read_text())["training"]["loss"] for seed in (1, 3)]
    assert losses[0] != losses[1]


def test_the_summary_is_of_all_seeds_and_seeds_can_be_added(model: Path, tmp_path: Path) -> None:
    tasks = {"rte": task(tmp_path / "data", lambda n, seed: pairs_with_classes(n, seed), 24)}
    few = {**QUICK, "num_train_epochs": 1}
    finetune(config_of(model, tasks, training=few), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "finetune.json").read_text())["tasks"]["rte"]["score"]["std"] is None
    finetune(config_of(model, tasks, training=few, seeds=[1, 2, 5]), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "finetune.json").read_text())
    values = [json.loads((tmp_path / "out" / "scores" / f"rte-{seed}.json").read_text())["score"] for seed in (1, 2, 5)]
    assert summary["tasks"]["rte"]["seeds"] == [1, 2, 5]
    assert summary["tasks"]["rte"]["score"] == {
        "mean": pytest.approx(np.mean(values)),
        "median": sorted(values)[1],
        "std": pytest.approx(np.std(values, ddof=1)),
        "values": values,
    }


def pairs_with_classes(count: int, seed: int) -> Rows:
    return [{**row, "label": int(row["label"] > 0)} for row in pairs(count, seed)]


def test_a_model_that_is_wanted_later_is_made_later(model: Path, tmp_path: Path) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    few = {"max_steps": 1}
    finetune(config_of(model, tasks, training=few), tmp_path / "out")
    assert not (tmp_path / "out" / "models").exists()
    finetune(config_of(model, tasks, training=few, save_models=True), tmp_path / "out")
    assert (tmp_path / "out" / "models" / "sst2-1" / "model.safetensors").is_file()


def test_a_head_for_other_classes_is_drawn_anew_and_one_that_fits_is_kept(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    for classes, kept in ((3, False), (2, True)):
        head = tf.AutoModelForSequenceClassification.from_pretrained(model, num_labels=classes)
        with torch.no_grad():
            head.classifier.weight.fill_(7)
        start = tmp_path / f"head-{classes}"
        head.save_pretrained(start)
        tiny_tokenizer().save_pretrained(start)
        still = {"max_steps": 1, "learning_rate": 0.0}
        out = finetune(config_of(start, tasks, training=still, save_models=True), tmp_path / f"out-{classes}")
        tuned = tf.AutoModelForSequenceClassification.from_pretrained(out / "models" / "sst2-1")
        assert tuned.config.num_labels == 2 and bool((tuned.classifier.weight == 7).all()) == kept
        assert (f"model {start} has a head of this size already" in caplog.text) == kept


def test_limits_take_examples_from_everywhere(model: Path, tmp_path: Path) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, max_train_examples=10, max_eval_examples=7)}
    out = finetune(config_of(model, tasks, training={"max_steps": 1}), tmp_path / "out")
    data = json.loads((out / "scores" / "sst2-1.json").read_text())["data"]
    assert {split: one["examples"] for split, one in data.items()} == {"train": 10, "validation": 7}


def test_a_trainer_that_cannot_be_made_is_told_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    with pytest.raises(UserError, match=r"^tasks.sst2.training: .*bitsandbytes"):
        finetune(config_of(model, tasks, training={"optim": "adamw_8bit"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_of_other_settings_or_another_model_are_not_mixed(model: Path, tmp_path: Path) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    finetune(config_of(model, tasks, training={"max_steps": 1}), tmp_path / "out")
    with pytest.raises(UserError, match=r"sst2-1.json was made with another training; choose another --output"):
        finetune(config_of(model, tasks, training={"max_steps": 2}), tmp_path / "out")
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"sst2-1.json was made with another weights; "):
        finetune(config_of(other, tasks, training={"max_steps": 1}), tmp_path / "out")
    moved = tmp_path / "moved"
    model_again = save_tiny_model(moved)
    finetune(config_of(model_again, tasks, training={"max_steps": 1}), tmp_path / "out")


def test_scores_of_other_data_at_the_same_place_are_not_mixed(model: Path, tmp_path: Path) -> None:
    tasks, few = {"sst2": task(tmp_path / "data", sentences, 8)}, {"max_steps": 1}
    finetune(config_of(model, tasks, training=few), tmp_path / "out")
    save_data(tmp_path / "data", sentences(8, 5), sentences(40, 1))
    with pytest.raises(UserError, match=r"sst2-1.json was made with other data \(train\); choose another --output"):
        finetune(config_of(model, tasks, training=few, seeds=[1, 2]), tmp_path / "out")
    assert not (tmp_path / "out" / "scores" / "sst2-2.json").exists()


@pytest.mark.parametrize(("name", "make"), [("sst2", sentences), ("squad", questions), ("conll2003", tagged)])
def test_scores_of_other_answers_are_not_mixed(
    model: Path, tmp_path: Path, name: str, make: Callable[[int, int], Rows]
) -> None:
    def other(row: dict[str, Any]) -> dict[str, Any]:
        changes = {
            "sst2": lambda: {"label": 1 - row["label"]},
            "squad": lambda: {"answers": {"text": [row["context"][:1]], "answer_start": [0]}},
            "conll2003": lambda: {"ner_tags": ["O"] * len(row["tokens"])},
        }
        return row | changes[name]()

    more = {"doc_stride": 6} if name == "squad" else {}
    tasks, few = {name: task(tmp_path / "data", make, 8, **more)}, {"max_steps": 1}
    finetune(config_of(model, tasks, training=few), tmp_path / "out")
    scored = [other(row) for row in make(40, 1)]
    save_data(tmp_path / "data", make(8, 0), scored)
    with pytest.raises(UserError, match=rf"{name}-1.json was made with other data \(validation\)"):
        finetune(config_of(model, tasks, training=few, seeds=[1, 2]), tmp_path / "out")


def test_classes_in_another_order_than_the_tasks_are_refused(model: Path, tmp_path: Path) -> None:
    tasks = {"mrpc": task(tmp_path / "data", pairs, 8)}
    for names in (["not_equivalent", "equivalent"], ["equivalent", "not_equivalent"]):
        rows = {"label": [0, 1] * 4, "sentence1": ["w1"] * 8, "sentence2": ["w2"] * 8}
        data = Dataset.from_dict(rows).cast_column("label", ClassLabel(names=names))
        for split in ("train", "validation"):
            data.to_parquet(tmp_path / "data" / f"{split}.parquet")
        if names[0] == "equivalent":
            with pytest.raises(UserError, match="numbers the class equivalent 0, the task 1; give data with"):
                finetune(config_of(model, tasks), tmp_path / "wrong")
        else:
            finetune(config_of(model, tasks, training={"max_steps": 1}), tmp_path / "right")
    assert not (tmp_path / "wrong").exists()


def no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def unlabelled(count: int, seed: int) -> Rows:
    return [{**row, "label": -1} for row in sentences(count, seed)]


def without_answer(count: int, seed: int) -> Rows:
    rows = questions(count, seed)
    rows[3]["answers"] = {"text": [], "answer_start": []}
    return rows


def moved_answer(count: int, seed: int) -> Rows:
    rows = questions(count, seed)
    rows[2]["answers"]["answer_start"][0] += 1
    return rows


def no_question(count: int, seed: int) -> Rows:
    rows = questions(count, seed)
    rows[1]["question"] = None
    return rows


def no_start(count: int, seed: int) -> Rows:
    rows = questions(count, seed)
    rows[2]["answers"]["answer_start"] = []
    return rows


def no_word(count: int, seed: int) -> Rows:
    rows = tagged(count, seed)
    rows[2]["tokens"][0] = None
    return rows


def no_tags(count: int, seed: int) -> Rows:
    rows = tagged(count, seed)
    rows[2]["ner_tags"] = None
    return rows


def short_tags(count: int, seed: int) -> Rows:
    rows = tagged(count, seed)
    rows[1]["ner_tags"].pop()
    return rows


@pytest.mark.parametrize(
    ("name", "make", "changes", "message"),
    [
        (
            "sst2",
            sentences,
            {"training": {"learning_rat": 1}},
            'tasks.sst2.training.learning_rat: unknown.*"learning_rate"',
        ),
        ("sst2", sentences, {"training": {"seed": 1}}, "tasks.sst2.training.seed: this is set"),
        ("sst2", sentences, {"training": {"save_strategy": "never"}}, "tasks.sst2.training: .*never"),
        *(
            ("sst2", sentences, {"training": {key: value}}, f"tasks.sst2.training.{key}: must be {not value}".lower())
            for key, value in {
                "dataloader_drop_last": True,
                "eval_do_concat_batches": False,
                "prediction_loss_only": True,
                "remove_unused_columns": False,
            }.items()
        ),
        ("sst2", sentences, {"max_length": 65}, "tasks.sst2.max_length is 65, but the model reads at most 64"),
        ("cola", pairs, {}, 'no column "sentence"; it has: sentence1, sentence2, label'),
        ("sst2", unlabelled, {}, "split train: example 0 has the label -1; the task has 0 to 1"),
        ("rte", pairs, {}, 'column "label" holds .*float64.*, not integers'),
        ("squad", without_answer, {}, "split train: example 3 has no answer"),
        ("squad", moved_answer, {}, "split train: example 2 has the answer '.*' where its context has '.*'"),
        ("squad", questions, {"max_length": 24, "doc_stride": 21}, "tasks.squad: max_length 24 leaves"),
        ("squad", no_question, {}, 'split train: example 1 lacks its "question", or a part of it'),
        ("squad", no_start, {}, r"split train: example 2 has the answers \['.*'\] at \[\]: each needs its start"),
        ("conll2003", no_word, {}, 'split train: example 2 lacks its "tokens", or a part of it'),
        ("conll2003", no_tags, {}, "split train: example 2 has the tags None: every word needs one"),
        ("conll2003", short_tags, {}, r"split train: example 1 has \d words and \d tags"),
        ("conll2003", sentences, {}, 'no column "tokens"'),
    ],
)
def test_mistakes_are_told_in_one_line_before_anything_is_written(
    model: Path, tmp_path: Path, name: str, make: Callable[[int, int], Rows], changes: dict[str, Any], message: str
) -> None:
    tasks = {name: task(tmp_path / "data", make, 8, **changes)}
    with pytest.raises(UserError, match=message) as caught:
        finetune(config_of(model, tasks), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"), [(no_tokenizer, "no tokenizer"), (no_weights, "the folder holds no weights")]
)
def test_models_that_cannot_be_used_are_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    damaged = save_tiny_model(tmp_path / "model")
    damage(damaged)
    with pytest.raises(UserError, match=f"model {damaged}: {message}.*give (a folder|one)") as caught:
        finetune(config_of(damaged, {"sst2": task(tmp_path / "data", sentences, 8)}), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_folders_of_something_else_are_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no fine-tuning"):
        finetune(config_of(model, {"sst2": {}}), tmp_path / "out")
    with pytest.raises(UserError, match="is a file"):
        finetune(config_of(model, {"sst2": {}}), tmp_path / "out" / "notes.txt")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_scores_that_were_damaged_are_told(model: Path, tmp_path: Path) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    finetune(config_of(model, tasks, training={"max_steps": 1}), tmp_path / "out")
    (tmp_path / "out" / "scores" / "sst2-1.json").write_text("[")
    with pytest.raises(UserError, match=r"sst2-1.json can't be read as JSON"):
        finetune(config_of(model, tasks, training={"max_steps": 1}), tmp_path / "out")


@pytest.mark.parametrize("entry", ["output_hidden_states", "output_attentions"])
@pytest.mark.parametrize("make", [pairs, tagged, questions])
def test_only_logits_are_scored_whatever_the_config_asks_for(
    tmp_path: Path, entry: str, make: Callable[[int, int], Rows]
) -> None:
    name = {"pairs": "stsb", "tagged": "conll2003", "questions": "squad"}[make.__name__]
    scores: list[Any] = []
    for asked in (False, True):
        folder = save_tiny_model(tmp_path / f"model-{asked}")
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), entry: asked}))
        rest = {"doc_stride": 6} if name == "squad" else {}
        tasks = {name: task(tmp_path / f"data-{asked}", make, 8, max_length=64, **rest)}
        out = finetune(config_of(folder, tasks, training={**QUICK, "num_train_epochs": 1}), tmp_path / f"out-{asked}")
        scores.append(json.loads((out / "scores" / f"{name}-1.json").read_text())["scores"])
    assert scores[0] == scores[1]


def test_what_a_model_returns_beside_logits_is_left_out() -> None:
    prepared = PreparedTask(None, Dataset.from_dict({}), {}, tiny_tokenizer(), list)
    assert prepared.only_logits(("logits", "hidden")) == prepared.only_logits("logits") == "logits"
    spans = PreparedTask(None, Dataset.from_dict({}), {}, tiny_tokenizer(), list, logits=2)
    assert spans.only_logits(("starts", "ends", "hidden")) == ("starts", "ends")


def test_a_fine_tuning_that_diverged_is_told_and_not_scored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tf.Trainer.train

    def diverging(self: tf.Trainer, *arguments: Any, **named: Any) -> Any:
        trained = train(self, *arguments, **named)
        next(self.model.parameters()).data[0] = torch.nan  # pyright: ignore
        return trained

    monkeypatch.setattr(tf.Trainer, "train", diverging)
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    diverged = config_of(model, tasks, training={**QUICK, "max_steps": 1})
    said = r"fine-tuned on sst2 with seed 1: .* are NaN or infinite.*lower tasks.sst2.training.learning_rate"
    with pytest.raises(UserError, match=said):
        finetune(diverged, tmp_path / "out")
    assert not list((tmp_path / "out").glob("scores/*"))


def test_answers_that_are_nan_are_not_scored(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_nan(_trainer: Any, rows: Any) -> Any:
        logits = np.zeros((len(rows), 2), dtype=np.float32)
        logits[3:5] = np.nan
        return SimpleNamespace(predictions=logits)

    monkeypatch.setattr(tf.Trainer, "predict", with_nan)
    tasks = {"sst2": task(tmp_path / "data", sentences, 8)}
    with pytest.raises(UserError, match="sst2 with seed 1, on validation: answers are NaN or infinite in 2 of 40 rows"):
        finetune(config_of(model, tasks), tmp_path / "out")


def test_phases_and_steps_are_named_with_task_and_seed(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = {"sst2": task(tmp_path / "data", sentences, 24)}
    few = {**QUICK, "num_train_epochs": 1, "logging_steps": 2}
    with caplog.at_level(logging.INFO, "iit_toolkit"):
        finetune(config_of(model, tasks, training=few, seeds=[1, 2]), tmp_path / "out")
    said = [str(record.progress) for record in caplog.records if hasattr(record, "progress")]
    assert said[:4] == [f"loading model {model}", "loading data of sst2", "trying the model on sst2", "tokenizing sst2"]
    for seed, lines in ((1, said[4:7]), (2, said[7:])):
        assert lines[0] == f"training on sst2 (seed {seed}): 24 rows"
        assert re.fullmatch(rf"sst2 · seed {seed} · step 2/3 · loss [\d.]+ · [\d.]+ s left", lines[1])
        assert lines[2] == f"scoring sst2 (seed {seed}) on validation: 40 rows"
