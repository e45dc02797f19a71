"""Trainings of twenty steps: each task with each kind of sources, with and without a projection, whole and resumed."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.data.collate import CausalLanguageCollator, ClassificationCollator, MaskedLanguageCollator
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from tests.downstream.tiny import tiny_tokenizer
from tests.families import BERT_LIKE, LLAMA_LIKE

STEPS, MIDDLE = 20, 16
ROWS, BATCH = 24, 4
TASKS = ("masked_lm", "causal_lm", "sequence_classification")
KINDS: dict[str, dict[str, Any]] = {
    "in_batch": {"positions": {"kind": "span", "fraction": 0.4}, "interchanges": 1},
    "dataset": {"positions": {"kind": "random", "fraction": 0.5}, "interchanges": 2},
    "fixed": {"positions": {"kind": "all"}, "gradient_accumulation_steps": 2},
    "paired": {"positions": {"kind": "differing"}, "cost_aware_draw": True},
}
"""Of each kind of sources, the positions and settings that it is trained with."""
EVERY_TERM = {
    name: 0.1 * (1 + index)
    for index, name in enumerate(ObjectiveWeights.model_fields)
    if name not in ("strict", "whole", "boundary")
}
"""`strict` is left out, since whole blocks leave nothing out that it could swap; others, since nothing is learned."""
PROJECTED = {"task": 0.2, "cos": 0.3, "hidden_mse": 0.2, "aligned_mse": 0.4, "causal_ce": 0.5, "causal_cos": 0.3}
CASES = list(itertools.product(TASKS, KINDS, (False, True)))
CLOCKED = ("step_seconds", "train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")


def name_of(task: str, sources: str, projected: bool) -> str:
    """What a case is called in the record."""
    return f"{task}, {sources}" + (", projection" if projected else "")


def model(task: str, layers: int, width: int) -> Any:
    """A model with dropout, whose weights are large enough for swaps to change answers."""
    torch.manual_seed(layers)
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"vocab_size": len(tiny_tokenizer()), "num_labels": 3}
    if task == "causal_lm":
        llama = {"attention_dropout": 0.1, "tie_word_embeddings": False}
        made: Any = tf.LlamaForCausalLM(tf.LlamaConfig(**{**LLAMA_LIKE, **sizes, **llama}))
    else:
        kind = tf.BertForMaskedLM if task == "masked_lm" else tf.BertForSequenceClassification
        made = kind(tf.BertConfig(**{**BERT_LIKE, **sizes, "hidden_dropout_prob": 0.1}))
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return made


def rows(paired: bool) -> list[dict[str, Any]]:
    """Rows of different lengths; of a pair, the source has other words at one to three places."""
    draw = random.Random(0)
    found: list[dict[str, Any]] = []
    for number in range(ROWS):
        ids = [2, *(draw.randrange(5, 38) for _ in range(draw.randint(4, 9))), 3]
        row: dict[str, Any] = {"input_ids": ids, "example_id": number, "text_id": number, "label": draw.randrange(3)}
        if paired:
            places = sorted(draw.sample(range(1, len(ids) - 1), draw.randint(1, 3)))
            source = [5 + (token + 7) % 33 if place in places else token for place, token in enumerate(ids)]
            row |= {"source_input_ids": source, "source_example_id": ROWS + number, "source_text_id": number}
            row |= {"positions": places, "source_positions": places}
        found.append(row)
    return found


def alignment(sources: str, projected: bool) -> Alignment:
    """Two variables: whole block outputs if widths differ, else a range of neurons and a head."""
    whole = {"component": "block_output"}
    part = whole if projected else {**whole, "neurons": [0, 8]}
    head = whole if projected else {"component": "attention_value_output", "heads": [1]}
    variables = [
        {"name": "early", "teacher": [{"layer": 1, **part}], "student": [{"layer": 0, **part}]},
        {"name": "late", "teacher": [{"layer": 2, **head}], "student": [{"layer": 1, **head}]},
    ]
    positions = KINDS[sources]["positions"]
    document = {"name": "x", "variables": variables, "positions": positions, "sources": {"kind": sources}}
    document["draw"] = {"early": 1, "late": 2}
    return Alignment.from_dict(document)


def trainer(folder: Path, task: str, sources: str, projected: bool, **settings: Any) -> CausalDistillationTrainer:
    """The trainer of a case."""
    tokenizer = tiny_tokenizer()
    collator: Any = {
        "masked_lm": lambda: MaskedLanguageCollator(tokenizer, probability=0.3),
        "causal_lm": lambda: CausalLanguageCollator(tokenizer),
        "sequence_classification": lambda: ClassificationCollator(tokenizer),
    }[task]()
    chosen = {name: value for name, value in KINDS[sources].items() if name != "positions"}
    defaults: dict[str, Any] = {
        "task": task,
        "weights": PROJECTED if projected else EVERY_TERM,
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "max_grad_norm": 1.0,
        "weight_decay": 0.01,
        "logging_steps": 1,
        "gradient_shares": projected and sources == "in_batch",
        "save_strategy": "steps",
        "save_steps": MIDDLE,
        "disable_tqdm": True,
        "report_to": "none",
    }
    torch.manual_seed(0)
    return CausalDistillationTrainer(
        model(task, 2, 12 if projected else 16),
        model(task, 4, 16),
        alignment(sources, projected),
        training_config(str(folder), {**defaults, **chosen, **settings}),
        train_dataset=rows(sources == "paired"),
        data_collator=collator,
    )


def trained(folder: Path, case: tuple[str, str, bool], resumed: bool = False, **settings: Any) -> dict[str, Any]:
    """Train a case; return what was logged at each step, and the digest of the weights in the end."""
    one = trainer(folder, *case, **settings)
    one.train(**({"resume_from_checkpoint": str(folder / f"checkpoint-{MIDDLE}")} if resumed else {}))
    lines = [line for line in one.state.log_history if "loss" in line]
    logged = [{key: float(value) for key, value in line.items() if key not in CLOCKED} for line in lines]
    return {"logged": logged, "weights": digest_of(tensors(one))}


def tensors(one: CausalDistillationTrainer) -> Iterator[Tensor]:
    """The weights of the student and of the projection."""
    yield from one.student.state_dict().values()
    if one.projection is not None:
        yield from one.projection.state_dict().values()


def digest_of(values: Iterator[Tensor]) -> str:
    """SHA-256 of the bytes of tensors."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
