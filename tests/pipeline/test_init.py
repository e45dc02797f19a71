"""What `init` writes is a config whose models, data and alignments hold."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import datasets
import pytest
import torch
import transformers as tf

from iit_toolkit.cli import main
from iit_toolkit.cli.init import Kind
from iit_toolkit.config.loading import load_config
from tests.data.conftest import words_of
from tests.families import NO_DROPOUT

WORDS = ("module", "file", "value", "list", "error", "string", "class", "function", "method", "object")
SMALL = ["data.max_eval_examples=80", "verification.pairs=80"]


def call(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny teachers of both kinds that no package brings, and labelled texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")
    tokenizer = words_of(*WORDS)
    tokenizer.model_max_length = 64
    sizes = {"vocab_size": 40, "num_hidden_layers": 6, "num_attention_heads": 2}
    bert = tf.BertConfig(**sizes, hidden_size=16, intermediate_size=16, max_position_embeddings=64, **NO_DROPOUT)
    llama = tf.LlamaConfig(**sizes, hidden_size=16, intermediate_size=16, num_key_value_heads=2, pad_token_id=0)
    torch.manual_seed(0)
    models = {
        "causal": tf.LlamaForCausalLM(llama),
        "classifier": tf.BertForSequenceClassification(bert),
        "tagger": tf.BertForTokenClassification(bert),
    }
    for name, model in models.items():
        model.eval().save_pretrained(name)
        tokenizer.save_pretrained(name)
    for split in ("train", "validation"):
        drawn = torch.randint(len(WORDS), (120, 14), generator=torch.Generator().manual_seed(len(split))).tolist()
        rows = [
            {
                "sentence": " ".join(WORDS[word] for word in row),
                "label": row[0] % 2,
                "tokens": [WORDS[word] for word in row],
                "ner_tags": [word % 2 for word in row],
            }
            for row in drawn
        ]
        Path(f"{split}.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


FILES = "data_files={train: train.json, validation: validation.json}"
OWN = {
    Kind.mlm: SMALL,
    Kind.pairs: [*SMALL, "data.pairs_per_family=40"],
    Kind.causal_lm: [
        "teacher=causal",
        f"data={{path: json, text_column: sentence, max_length: 64, {FILES.replace('=', ': ')}}}",
    ],
    Kind.symbolic: ["training.steps=2", "training.batch_size=16"],
    Kind.classification: ["teacher=classifier", "data.path=json", f"data.{FILES}"],
    Kind.token_classification: ["teacher=tagger", "data.path=json", f"data.{FILES}", "data.max_length=64"],
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_written_once_and_validates(kind: Kind) -> None:
    code, printed, said = call("init", kind.value)
    files = [f"{kind.value}.yaml", *(["symbolic.py"] if kind == Kind.symbolic else [])]
    assert (code, printed) == (
        0,
        "".join(f"{file}\n" for file in files),
    ) and said == f"next: iit-toolkit validate {kind.value}.yaml\n"
    text = Path(f"{kind.value}.yaml").read_text()
    assert text.count("#") >= 8 and f"{kind.value}.yaml" in text.partition("name:")[0]
    load_config(f"{kind.value}.yaml")
    code, printed, said = call("validate", f"{kind.value}.yaml", *OWN[kind])
    assert code == 0, printed + said
    assert "FAIL" not in printed and printed.count("ok ") > 8
    code, _, said = call("init", kind.value)
    assert code == 2 and f"{kind.value}.yaml exists" in said
