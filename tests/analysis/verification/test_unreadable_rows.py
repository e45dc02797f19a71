"""Rows that a model cannot read, or answers otherwise for their padding, are refused wherever it runs, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification

import iit_toolkit as iit
from iit_toolkit.data.readable import readable
from iit_toolkit.errors import UserError
from tests.families import make_model

ROWS = [
    {"input_ids": torch.randint(5, 50, (length,), generator=torch.Generator().manual_seed(length)).tolist()}
    for length in (9, 6, 8, 11, 7, 10)
]
HOW = iit.Alignment(
    name="one", variables=(iit.Variable(name="v", teacher=(iit.Site.block(1),), student=(iit.Site.block(0),)),)
)


def collate(rows: Sequence[Mapping[str, Any]], left: bool) -> dict[str, Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    ids, real = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        count = len(row["input_ids"])
        place = slice(longest - count, None) if left else slice(count)
        ids[index, place], real[index, place] = torch.tensor(row["input_ids"]), 1
    batch = {"input_ids": ids, "attention_mask": real, "special_tokens_mask": real == 0}
    if "example_id" in rows[0]:
        batch["example_id"] = torch.tensor([row["example_id"] for row in rows])
    return {**batch, "labels": ids.masked_fill(real == 0, -100)}


def verified(folder: Path, left: bool, size: int, rows: Any = ROWS) -> Any:
    del folder
    teacher, student = make_model("gpt2").eval(), make_model("gpt2").eval()
    return iit.verify(teacher, student, HOW, rows, lambda some: collate(some, left), pairs=6, batch_size=size)


def traced(folder: Path, left: bool, size: int, rows: Any = ROWS) -> Any:
    del folder
    return iit.trace(make_model("gpt2"), rows, lambda some: collate(some, left), pairs=6, batch_size=size, resamples=9)


def trained(folder: Path, left: bool, size: int, rows: Any = ROWS) -> Any:
    settings: dict[str, Any] = {"max_steps": 1, "per_device_train_batch_size": size, "report_to": "none"}
    trainer = iit.CausalDistillationTrainer(
        make_model("gpt2"),
        make_model("gpt2"),
        HOW,
        iit.CausalDistillationConfig(str(folder), task="causal_lm", disable_tqdm=True, use_cpu=True, **settings),
        train_dataset=rows,
        data_collator=lambda some: collate(some, left),
    )
    return trainer.train()


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("measured", [verified, traced, trained])
def test_rows_padded_on_the_left_are_refused_of_a_model_that_counts_places(
    measured: Any, size: int, tmp_path: Path
) -> None:
    measured(tmp_path, False, size)
    with pytest.raises(UserError, match="^teacher: padding changes a row's logits by .* pad on the right, or give"):
        measured(tmp_path, True, size)


LIMITS = make_model("gpt2").config


@pytest.mark.parametrize("measured", [verified, traced, trained])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([5, LIMITS.vocab_size], f"a row holds the token {LIMITS.vocab_size}, but its embeddings are of 0 to "),
        ([-1, 5], "a row holds the token -1, but its embeddings are of 0 to .*; give rows of its own tokenizer"),
        ([5] * (LIMITS.max_position_embeddings + 1), "a row has .* tokens, but it reads .* at most; cut rows there"),
    ],
    ids=["beyond", "negative", "long"],
)
def test_rows_that_a_model_cannot_read_are_refused(measured: Any, ids: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^teacher: {message}"):
        measured(tmp_path, False, 6, [*ROWS[:5], {"input_ids": ids}])
    most = {"input_ids": [LIMITS.vocab_size - 1] * LIMITS.max_position_embeddings}
    measured(tmp_path, False, 6, [*ROWS[:5], most])


def test_sources_and_all_models_are_looked_at() -> None:
    """The model that reads least is named; one without embeddings of tokens reads anything."""
    small, images = make_model("gpt2"), torch.nn.Linear(2, 2)
    small.resize_token_embeddings(20)
    collator = readable(lambda rows: dict(rows[0]), {"teacher": make_model("gpt2"), "small": small, "images": images})
    for name in ("input_ids", "source_input_ids"):
        assert collator([{name: torch.tensor([[19]])}])
        with pytest.raises(UserError, match="^small: a row holds the token 20, but its embeddings are of 0 to 19"):
            collator([{name: torch.tensor([[20]])}])
    assert collator([{"pixel_values": torch.zeros(1, 3)}])


def limits(model: Any) -> Any:
    """What is refused of a model: tokens from so many on, and rows longer than this."""
    reading: Any = readable(collate, {"model": model})
    return reading.models.get("model")


def test_only_a_table_of_positions_ends() -> None:
    """Rotary positions, those that a program computes, and those that the batch gives itself have no last one."""
    assert limits(make_model("gpt2")) == (LIMITS.vocab_size, LIMITS.max_position_embeddings)
    for family in ("llama", "modernbert", "qwen3"):
        model = make_model(family)
        assert limits(model) == (model.config.vocab_size, None) and model.config.max_position_embeddings > 0
    for family in ("bert", "roberta", "distilbert"):
        model = make_model(family)
        offset = model.config.pad_token_id + 1 if family == "roberta" else 0
        assert limits(model) == (model.config.vocab_size, model.config.max_position_embeddings - offset)
    ids = torch.full((1, LIMITS.max_position_embeddings + 1), 5)
    collator = readable(lambda rows: dict(rows[0]), {"gpt2": make_model("gpt2")})
    with pytest.raises(UserError, match="^gpt2: a row has .* tokens, but it reads"):
        collator([{"input_ids": ids}])
    assert collator([{"input_ids": ids, "position_ids": torch.arange(ids.shape[1])[None] % 7}])


def test_modules_without_a_table_of_tokens_read_anything() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(9, 2)

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.table

    resnet = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]))
    assert limits(Own()) == (9, None)
    assert limits(resnet) is limits(torch.nn.Linear(2, 2)) is None


@pytest.mark.parametrize("measured", [verified, traced, trained])
def test_batches_need_labels(measured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = collate
    monkeypatch.setattr(
        f"{__name__}.collate", lambda *given: {name: one for name, one in whole(*given).items() if name != "labels"}
    )
    with pytest.raises(UserError, match="batches have no labels; give the tokenizer .processing_class., or a collator"):
        measured(tmp_path, False, 2)


@pytest.mark.parametrize("measured", [verified, trained])
def test_labels_that_a_language_model_does_not_answer_by_may_differ(
    measured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, made = make_model, list[Any]()

    def differing(family: str) -> Any:
        made.append(plain(family))
        made[-1].config.num_labels = 1 + len(made)
        return made[-1]

    monkeypatch.setattr(f"{__name__}.make_model", differing)
    measured(tmp_path, False, 2)
