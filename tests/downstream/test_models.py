"""What is known of a model before it is fine-tuned."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers as tf

from iit_toolkit.downstream.models import load_base
from tests.downstream.tiny import MAX_LENGTH, tiny_tokenizer
from tests.families import bert_config


@pytest.mark.parametrize(
    ("build", "config", "longest"),
    [(tf.BertModel, tf.BertConfig, MAX_LENGTH), (tf.RobertaModel, tf.RobertaConfig, MAX_LENGTH - 2)],
)
def test_positions_before_the_first_that_is_used_are_not_counted(
    tmp_path: Path, build: type[tf.PreTrainedModel], config: type[tf.PretrainedConfig], longest: int
) -> None:
    tokenizer = tiny_tokenizer()
    sizes = bert_config(vocab_size=len(tokenizer), max_position_embeddings=MAX_LENGTH).to_diff_dict()
    build(config(**{**sizes, "pad_token_id": 1})).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load_base(str(tmp_path)).longest == longest
