"""A question with two choices, answered by a small language model of our own.

*A red, B blue; the cup is blue*: the right choice is the one with the fact's colour, and the answer is its symbol.
After the multiple-choice task of MIB (Mueller et al. 2025, arXiv 2504.13151), in fewer words.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from arms import EVERY_VARIABLE, Columns, Task
from lessons import Lesson
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import iit_toolkit as iit

SYMBOLS = tuple("ABCDEFGH")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink")
OBJECTS = ("cup", "box", "door", "car", "hat", "bag", "ball", "boat", "book", "coat", "desk", "kite")
WORDS = (*SYMBOLS, *COLOURS, *OBJECTS)
"""The vocabulary. A token is its place here, so that symbols come first."""
FIRST, SECOND, OBJECT, FACT = 1, 3, 4, 5
"""Places of a prompt: the colour of either choice, whose symbol stands before, and the object with its colour.

The fact comes last, so that no token of a choice can know whether it is right.
"""
TOKENS, WIDTH, BLOCKS, PART = FACT + 1, 64, 2, 16
TEST_ROWS = 1000


def _site(block: int, place: int, neurons: int) -> iit.Site:
    """Return the first neurons of one token in a block's output, where token t has those from t * WIDTH on."""
    return iit.Site.module(f"model.transformer.h.{block}.output", (WIDTH * place, WIDTH * place + neurons))


SITES = {
    "position": [_site(0, FACT, WIDTH)],
    "first": [_site(0, FIRST, WIDTH)],
    "second": [_site(0, SECOND, WIDTH)],
    "symbol": [_site(1, FACT, PART)],
}
"""The first block ends with the position at the fact, and with each symbol at its choice. The second one answers."""


def program() -> iit.CausalModel:
    """Return the program: `inputs` (B, 6) are the tokens of prompts."""
    return iit.CausalModel(
        parents={
            "inputs": (),
            "position": ("inputs",),
            "first": ("inputs",),
            "second": ("inputs",),
            "symbol": ("position", "first", "second"),
        },
        functions={
            "position": lambda inputs: inputs[:, SECOND] == inputs[:, FACT],
            "first": lambda inputs: inputs[:, FIRST - 1],
            "second": lambda inputs: inputs[:, SECOND - 1],
            "symbol": lambda position, first, second: torch.where(position, second, first),
        },
        domains={
            "position": (False, True),
            "first": range(len(SYMBOLS)),
            "second": range(len(SYMBOLS)),
            "symbol": range(len(WORDS)),
        },
        answer="symbol",
    )


def held_out(inputs: Tensor) -> Tensor:
    """Return whether prompts (N, 6) have a fact, and a pair of symbols (2, N), that only tests have.

    A quarter of all facts are held out, equally many of each colour and object, and a seventh of all pairs of symbols,
    equally many with each symbol at either place.
    """
    objects, colours = inputs[:, OBJECT] - WORDS.index("cup"), inputs[:, FACT] - WORDS.index("red")
    apart = (inputs[:, SECOND - 1] - inputs[:, FIRST - 1]) % len(SYMBOLS)
    return torch.stack([(objects - colours) % 4 == 0, apart == 3])


def _labelled(inputs: Tensor) -> dict[str, Tensor]:
    model = program()
    return {"inputs": inputs, "labels": model.answers(model.run({"inputs": inputs}))}


def _prompts(seed: int) -> Tensor:
    """Return all prompts (N, 6) in random order; of two that follow each other, the right choice is first in one."""
    objects, colours, symbols = (torch.arange(len(words)) for words in (OBJECTS, COLOURS, SYMBOLS))
    every = torch.cartesian_prod(objects, colours, colours, symbols, symbols)
    every = every[(every[:, 1] != every[:, 2]) & (every[:, 3] != every[:, 4])]
    every = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))].repeat_interleave(2, 0)
    thing, right, wrong, first, second = every.unbind(1)
    right, wrong = right + WORDS.index("red"), wrong + WORDS.index("red")
    later = torch.arange(len(every)) % 2 == 1
    choices = first, torch.where(later, wrong, right), second, torch.where(later, right, wrong)
    return torch.stack([*choices, thing + WORDS.index("cup"), right], 1)


def columns(seed: int) -> Columns:
    """Return all prompts of which tests have neither the fact nor the pair of symbols."""
    inputs = _prompts(seed)
    return _labelled(inputs[~held_out(inputs).any(0)])


def tests() -> Mapping[str, Columns]:
    """Return 1,000 prompts of which training has neither the fact nor the pair of symbols."""
    inputs = _prompts(10_000)
    return {"test": _labelled(inputs[held_out(inputs).all(0)][:TEST_ROWS])}


def augmented(rows: Columns) -> Columns:
    """Return counterfactual prompts: the place of the right choice, or a symbol, of another prompt in place of its own.

    A prompt stays as it is if the change would make a pair of symbols that is held out, or one of the same symbol.
    """
    inputs = rows["inputs"]
    generator = torch.Generator().manual_seed(0)
    other = inputs[torch.randperm(len(inputs), generator=generator)]
    kind = torch.randint(3, (len(inputs),), generator=generator)
    mixed, exchanged = inputs.clone(), inputs.clone()
    exchanged[:, [FIRST, SECOND]] = inputs[:, [SECOND, FIRST]]
    position = program().functions["position"]
    moves = (kind == 0) & (position(inputs) != position(other))
    mixed[moves] = exchanged[moves]
    for number, place in ((1, FIRST - 1), (2, SECOND - 1)):
        mixed[kind == number, place] = other[kind == number, place]
    spoilt = held_out(mixed)[1] | (mixed[:, FIRST - 1] == mixed[:, SECOND - 1])
    return _labelled(torch.where(spoilt[:, None], inputs, mixed))


class Answerer(nn.Module):
    """A GPT-2 of two blocks that was never trained on anything else, and its guess of the next token.

    Args:
        heads: Attention heads of each block.
        inner: Hidden neurons of each block's MLP.
    """

    def __init__(self, heads: int, inner: int) -> None:
        super().__init__()
        config = GPT2Config(
            vocab_size=len(WORDS), n_positions=TOKENS, n_embd=WIDTH, n_layer=BLOCKS, n_head=heads, n_inner=inner,
            initializer_range=0.1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False,
            use_cache=False, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        self.model = GPT2LMHeadModel(config)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 28) of the token after prompts (B, 6)."""
        return self.model(input_ids=inputs, logits_to_keep=1).logits[:, -1]


def network(seed: int) -> Answerer:
    """Return an untrained network."""
    torch.manual_seed(seed)
    return Answerer(4, 4 * WIDTH)


def student(seed: int) -> Answerer:
    """Return an untrained student, with half the heads and half the neurons in its MLPs."""
    torch.manual_seed(seed)
    return Answerer(2, 2 * WIDTH)


TASK = Task(
    program=program(),
    network=network,
    columns=columns,
    augmented=augmented,
    tests=tests,
    sites=SITES,
    training={"steps": 500, "batch_size": 128, "learning_rate": 0.003},
    arms=EVERY_VARIABLE,
    settings={"width": WIDTH, "blocks": BLOCKS, "part": PART, "test_rows": TEST_ROWS},
)
LESSON = Lesson(
    task=TASK,
    teacher="strict",
    student=student,
    layers=[[_site(block, 0, TOKENS * WIDTH)] for block in range(BLOCKS)],
)
"""The student's blocks have half the heads and half the neurons in their MLPs."""
