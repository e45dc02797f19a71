"""Models that cannot be fine-tuned are told in one line before anything is trained, and what stops a training, too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from iit_toolkit.downstream.config import FinetuneConfig
from iit_toolkit.downstream.finetune import finetune, require_finetuning
from iit_toolkit.errors import UserError
from tests.downstream.tiny import save_data, save_tiny_model, sentences


def edit(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def chunks(folder: Path) -> None:
    edit(folder / "config.json", chunk_size_feed_forward=1000)


def no_start(folder: Path) -> None:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    config = tf.T5Config(vocab_size=38, **sizes, pad_token_id=0, eos_token_id=3)
    tf.T5ForConditionalGeneration(config).save_pretrained(folder)


def far_id(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["w19"] = 999
    (folder / "tokenizer.json").write_text(json.dumps(content))


def no_unknown(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {word.replace("[UNK]", "other"): number for word, number in content["model"]["vocab"].items()}
    del vocabulary["good"]
    content["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[UNK]"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["unk_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def overflows(folder: Path) -> None:
    weights = {name: value.clone() for name, value in load_file(folder / "model.safetensors").items()}
    weights["bert.embeddings.word_embeddings.weight"][5:] = 3e38
    weights["bert.embeddings.LayerNorm.weight"][:] = float(torch.finfo(torch.float32).max)
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "chunks of other lengths": (chunks, "tasks.sst2: model .*: BertForSequenceClassification cannot be run"),
    "nothing for the decoder to begin with": (
        no_start,
        "tasks.sst2: model .*T5ForSequenceClassification cannot be run",
    ),
    "an id beyond the embeddings": (far_id, "its tokenizer has ids beyond its embeddings"),
    "no unknown token": (no_unknown, r"example \d+ can't be tokenized \(.*give a tokenizer with an unk_token"),
    "overflow": (overflows, "tasks.sst2: model .*: the loss of its first rows is nan"),
}


def config_of(folder: Path) -> FinetuneConfig:
    (folder / "data").mkdir()
    tasks = {"sst2": {"data": save_data(folder / "data", sentences(16, 0), sentences(8, 1)), "max_length": 24}}
    training = {"max_steps": 1, "per_device_train_batch_size": 4}
    return FinetuneConfig.model_validate(
        {"model": str(folder / "model"), "tasks": tasks, "seeds": [1], "training": training}
    )


@pytest.mark.parametrize(("break_", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_fine_tuned_is_told_before_training(
    tmp_path: Path, break_: Callable[[Path], Any], said: str
) -> None:
    break_(save_tiny_model(tmp_path / "model"))
    config = config_of(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        require_finetuning(config)
    assert len(str(caught.value)) <= 400
    with pytest.raises(UserError, match=said):
        finetune(config, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_what_stops_a_training_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_model(tmp_path / "model")

    def fails(*_: Any, **__: Any) -> None:
        raise IndexError("index out of range")

    monkeypatch.setattr(tf.Trainer, "training_step", fails)
    with pytest.raises(UserError, match=r"tasks.sst2, seed 1: training stopped \(IndexError: index out of range\)"):
        finetune(config_of(tmp_path), tmp_path / "out")
