"""Transformers whose weights are set by hand, so that it is known which block computes what.

They read four digits and a question mark, and answer whether the first two digits are alike (both odd or both even)
just if the last two are. A circuit has three steps, each in a block of its own; the blocks between them do nothing.
`search` is given two such models, and has to find which blocks belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2ForSequenceClassification

import iit_toolkit as iit
from iit_toolkit.alignment.positions import DifferingPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.verification.search import answer_layers, choose_map, layer_matrix, mapped_alignment
from iit_toolkit.data.batch import Row

WIDTH, HEADS, BLOCKS, STEPS = 32, 4, 6, 3
QUESTION, PAD, TOKENS = 10, 11, 5
ROWS = 500
"""Half of them choose the map of blocks, and half confirm it."""
ARMS = ("planted", "other-circuit", "untrained")
FEATURES = (
    *("odd", "before", "alike", "left", "right", "same", "first", "second", "third", "fourth"),
    *(f"place {place}" for place in range(TOKENS)),
)
"""What the residual stream can say. A feature has two neurons of opposite sign, so that LayerNorm only scales it."""
_SHARP = 10.0
"""Of queries and keys: a head looks at one place, to within rounding. A place has one neuron of a head's eight."""


@dataclass(frozen=True)
class Look:
    """What a head does: places look at others, or else at themselves, and write what they see there."""

    places: dict[int, int]
    reads: str
    writes: str


@dataclass(frozen=True)
class Compare:
    """What four neurons do: they write whether two features have the same sign."""

    one: str
    other: str
    writes: str


Step = Sequence[Look | Compare]
PAIRS: Sequence[Step] = (
    (Look({1: 0, 3: 2}, "odd", "before"), Compare("odd", "before", "alike")),
    (Look({4: 1}, "alike", "left"),),
    (Look({4: 3}, "alike", "right"), Compare("left", "right", "same")),
)
"""The second digit of a pair is compared with the first where it stands, and the question looks at what came out."""
AT_ONCE: Sequence[Step] = (
    (Look({4: 0}, "odd", "first"), Look({4: 1}, "odd", "second"), Compare("first", "second", "left")),
    (Look({4: 2}, "odd", "third"), Look({4: 3}, "odd", "fourth"), Compare("third", "fourth", "right")),
    (Compare("left", "right", "same"),),
)
"""The same answers, from another circuit: the question looks at every digit, and compares them itself."""


def model(blocks: int) -> GPT2ForSequenceClassification:
    """Return an untrained model of so many blocks."""
    config = GPT2Config(
        vocab_size=PAD + 1, n_positions=TOKENS, n_embd=WIDTH, n_layer=blocks, n_head=HEADS, n_inner=8,
        activation_function="relu", num_labels=2, pad_token_id=PAD, bos_token_id=PAD, eos_token_id=PAD,
    )  # fmt: skip
    return GPT2ForSequenceClassification(config).eval()


@torch.no_grad()
def circuit(steps: Sequence[Step], places: Sequence[int], blocks: int, seed: int) -> GPT2ForSequenceClassification:
    """Return a model with a circuit.

    Args:
        steps: The circuit.
        places: The block of each step.
        blocks: How many there are.
        seed: Of the order of neurons in the residual stream.
    """
    made = model(blocks)
    for name, parameter in made.named_parameters():
        norm = ".ln_" in name and name.endswith("weight")
        parameter.fill_(1.0 if norm else 0.0)
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(seed))
    neurons = {name: order[[2 * number, 2 * number + 1]] for number, name in enumerate(FEATURES)}
    stream: Any = made.transformer
    for digit in range(10):
        stream.wte.weight[digit] = _feature(neurons["odd"]) * (1 if digit % 2 else -1)
    for place in range(TOKENS):
        stream.wpe.weight[place] = _feature(neurons[f"place {place}"])
    for step, place in zip(steps, places, strict=True):
        block = stream.h[place]
        for head, look in enumerate(part for part in step if isinstance(part, Look)):
            _set_head(block.attn, head, look, neurons)
        for compare in (part for part in step if isinstance(part, Compare)):
            _set_neurons(block.mlp, compare, neurons)
    made.score.weight[1] = _feature(neurons["same"])
    made.score.weight[0] = -made.score.weight[1]
    return made


def _feature(neurons: Tensor) -> Tensor:
    """Return the direction (D,) of a feature."""
    direction = torch.zeros(WIDTH)
    direction[neurons] = torch.tensor([1.0, -1.0])
    return direction


def _set_head(attention: Any, head: int, look: Look, neurons: dict[str, Tensor]) -> None:
    """Set queries and keys to the places, and values and output to the feature."""
    low = head * (WIDTH // HEADS)
    reads = attention.c_attn.weight  # (D, 3 D): queries, keys, values
    for place in range(TOKENS):
        own = _SHARP * _feature(neurons[f"place {place}"])
        reads[:, low + look.places.get(place, place)] += own
        reads[:, WIDTH + low + place] += own
    reads[:, 2 * WIDTH + low] = _feature(neurons[look.reads]) / 2
    attention.c_proj.weight[low] = _feature(neurons[look.writes])


def _set_neurons(mlp: Any, compare: Compare, neurons: dict[str, Tensor]) -> None:
    """Set four neurons: |a + b| - |a - b| is positive just if a and b have the same sign."""
    one, other = _feature(neurons[compare.one]) / 2, _feature(neurons[compare.other]) / 2
    mlp.c_fc.weight[:, :4] = torch.stack([one + other, -one - other, one - other, other - one], 1)
    mlp.c_proj.weight[:4] = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None] * _feature(neurons[compare.writes]) / 4


def rows(seed: int) -> list[Row]:
    """Return pairs of rows of four random digits and the question, and which places are swapped: each half of the time.

    A place takes what the source has at the same place.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.cat([torch.randint(10, (2 * ROWS, 4), generator=generator), torch.full((2 * ROWS, 1), QUESTION)], 1)
    swapped = torch.rand(ROWS, TOKENS, generator=generator) < 0.5
    return [
        {
            **_row(ids[2 * place], 2 * place),
            **{f"source_{name}": value for name, value in _row(ids[2 * place + 1], 2 * place + 1).items()},
            "swapped": swapped[place],
            "swapped_from": torch.arange(TOKENS),
        }
        for place in range(ROWS)
    ]


def _row(ids: Tensor, number: int) -> dict[str, Tensor]:
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "special_tokens_mask": torch.zeros_like(ids, dtype=torch.bool),
        "labels": (ids[:4].sum() % 2 == 0).long(),
        "example_id": torch.tensor(number),
    }


def collate(batch: Sequence[Row]) -> dict[str, Tensor]:
    """Make a batch of rows."""
    return {name: torch.stack([row[name] for row in batch]) for name in batch[0]}


def places(seed: int) -> list[int]:
    """Return the blocks of the teacher that have a step of its circuit."""
    return sorted(torch.randperm(BLOCKS, generator=torch.Generator().manual_seed(seed))[:STEPS].tolist())


def students(seed: int) -> dict[str, GPT2ForSequenceClassification]:
    """Return the student of each arm; it has as many blocks as the circuit has steps."""
    torch.manual_seed(seed)
    own = range(STEPS)
    return {
        "planted": circuit(PAIRS, own, STEPS, 1000 + seed),
        "other-circuit": circuit(AT_ONCE, own, STEPS, 1000 + seed),
        "untrained": model(STEPS),
    }


def searched(student: GPT2ForSequenceClassification, seed: int) -> dict[str, Any]:
    """Search for the student's blocks in the teacher, on half of the rows, and confirm what was found on the others."""
    teacher, own, half = circuit(PAIRS, places(seed), BLOCKS, seed), rows(seed), ROWS // 2
    how: dict[str, Any] = {"task": "sequence_classification", "pairs": half, "batch_size": half}
    where: dict[str, Any] = {"positions": DifferingPositions(), "sources": Sources(kind="paired")}
    answers = answer_layers(teacher, student, own[:half], collate, **where, **how)
    layers = choose_map(layer_matrix(answers))
    aligned = mapped_alignment(layers, "found", **where)
    verification = iit.verify(teacher, student, aligned, own[half:], collate, **how)
    verdict, cases = iit.judge(verification), verification.outcomes
    return {
        "label": verdict.label,
        "accuracy": float((cases["student_base"] == cases["gold"]).mean()),
        "planted": places(seed),
        "found": [layers.get(block) for block in range(STEPS)],
        "effect_r2": min(one.score.value for one in verdict.variables.values()),
    }
