"""MQNLI in the reduced form: which of seven relations does a sentence have to another, by natural logic?

After Geiger et al. 2019 (arXiv 1910.13961), with the words of pyvene's reduced form. A relation of two phrases says
which pairs of truth values they can have, so that all tables of the program follow from counting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import product

import torch
from arms import EVERY_VARIABLE, Columns, Task, normalised_layer
from lessons import Lesson
from torch import Tensor, nn

import iit_toolkit as iit

FIELDS = (
    ("some", "every"),
    ("", "little", "cute"),
    ("child", "dog"),
    ("", "not"),
    ("", "energetically", "joyfully"),
    ("climbed", "threw"),
    ("some", "every"),
    ("", "happy", "sad"),
    ("tree", "rock"),
)
"""The words that each place of a sentence can have; a modifier or negation can be absent."""
PLACES, SENTENCES = len(FIELDS), math.prod(len(words) for words in FIELDS)
HELD_OUT = SENTENCES // 5
"""So many sentences are in tests only."""
RELATIONS = {
    "independence": {(0, 0), (0, 1), (1, 0), (1, 1)},
    "equivalence": {(0, 0), (1, 1)},
    "entails": {(0, 0), (0, 1), (1, 1)},
    "reverse entails": {(0, 0), (1, 0), (1, 1)},
    "contradiction": {(0, 1), (1, 0)},
    "alternation": {(0, 0), (0, 1), (1, 0)},
    "cover": {(0, 1), (1, 0), (1, 1)},
}
"""The pairs of truth values that two phrases can have, in the order of the classes; in independence, all."""
ALIKE = 4
"""The first four are the relations of phrases without quantifiers and negation."""
PART, REST, WIDTH = 16, 16, 256
ROWS, TEST_ROWS = 150_000, 600
LOWER = ("negation", "object_quantifiers", "object", "verb", "subject_quantifiers", "subject")
UPPER = ("subject_quantifiers", "subject", "predicate")


def _part(layer: str, place: int) -> iit.Site:
    return iit.Site.module(f"{layer}.output", (PART * place, PART * (place + 1)))


SITES = {
    name: [_part(layer, names.index(name)) for layer, names in (("lower", LOWER), ("upper", UPPER)) if name in names]
    for name in (*LOWER, "predicate")
}
"""The predicate is known further up, beside the subject and the subject's quantifiers."""


@cache
def projectivity() -> Tensor:
    """Return the relation (2, 2, 4, 7) of two quantified phrases.

    It belongs to the quantifiers (some, every) of premise and hypothesis, the relation of what these range over, and
    that of what is said of it. A world has or lacks each of 16 kinds of individuals, which differ in whether either
    quantifier ranges over them, and whether either side says it of them. The relation holds the pairs of truth values
    in all worlds whose individuals both relations allow, if no quantifier ranges over nothing.
    """
    worlds = torch.arange(1 << 16)
    has = (worlds[:, None] >> torch.arange(16)) & 1 == 1
    kinds = list(product((0, 1), repeat=4))  # ranged over by premise, hypothesis; said of by premise, hypothesis
    ranges, says = (torch.tensor(kinds).bool()[:, part] for part in ((0, 1), (2, 3)))
    sound = torch.stack([(has & ranges[:, side]).any(1) for side in (0, 1)]).all(0)
    true = [
        [(has & ranges[:, side] & says[:, side]).any(1), ~(has & ranges[:, side] & ~says[:, side]).any(1)]
        for side in (0, 1)
    ]
    relations = list(RELATIONS.values())
    table = torch.empty(2, 2, ALIKE, len(RELATIONS), dtype=torch.long)
    for below, about in product(range(ALIKE), range(len(RELATIONS))):
        allowed = torch.tensor([kind[:2] in relations[below] and kind[2:] in relations[about] for kind in kinds])
        possible = sound & ~(has & ~allowed).any(1)
        for first, second in product((0, 1), repeat=2):
            pairs = torch.stack([true[0][first], true[1][second]], 1)[possible].long().unique(dim=0)
            table[first, second, below, about] = relations.index({(one, other) for one, other in pairs.tolist()})
    return table


@cache
def negation() -> Tensor:
    """Return the relation (2, 2, 7) of two phrases of which each is negated or not."""
    found = [
        [
            {(first ^ premise, second ^ hypothesis) for first, second in pairs}
            for pairs in RELATIONS.values()
        ]
        for premise, hypothesis in product((0, 1), repeat=2)
    ]  # fmt: skip
    every = list(RELATIONS.values())
    return torch.tensor([[every.index(pairs) for pairs in row] for row in found]).view(2, 2, -1)


def _phrase(modifier: int) -> Callable[[Tensor], Tensor]:
    """Return the relation of the phrases of a modifier and the word after it."""

    def function(inputs: Tensor) -> Tensor:
        premise, hypothesis = inputs[:, modifier], inputs[:, PLACES + modifier]
        same_head = inputs[:, modifier + 1] == inputs[:, PLACES + modifier + 1]
        relation = torch.zeros_like(premise)
        relation[hypothesis == 0] = 2
        relation[premise == 0] = 3
        relation[premise == hypothesis] = 1
        return relation * same_head

    return function


def _both(place: int) -> Callable[[Tensor], Tensor]:
    """Return twice the premise's word plus the hypothesis's, of places with two words."""
    return lambda inputs: 2 * inputs[:, place] + inputs[:, PLACES + place]


def program() -> iit.CausalModel:
    """Return the program: `inputs` (B, 18) are the numbers of the premise's words, then the hypothesis's."""
    quantified, negated = projectivity(), negation()
    return iit.CausalModel(
        parents={
            "inputs": (),
            **dict.fromkeys(LOWER, ("inputs",)),
            "object_phrase": ("object_quantifiers", "object", "verb"),
            "predicate": ("negation", "object_phrase"),
            "relation": ("subject_quantifiers", "subject", "predicate"),
        },
        functions={
            "subject_quantifiers": _both(0),
            "negation": _both(3),
            "object_quantifiers": _both(6),
            "subject": _phrase(1),
            "verb": _phrase(4),
            "object": _phrase(7),
            "object_phrase": lambda both, below, about: quantified[both // 2, both % 2, below, about],
            "predicate": lambda both, phrase: negated[both // 2, both % 2, phrase],
            "relation": lambda both, below, about: quantified[both // 2, both % 2, below, about],
        },
        domains={
            **dict.fromkeys(LOWER, range(4)),
            **dict.fromkeys(("object_phrase", "predicate", "relation"), range(len(RELATIONS))),
        },
        answer="relation",
    )


def _labelled(inputs: Tensor) -> dict[str, Tensor]:
    model = program()
    return {"inputs": inputs, "labels": model.answers(model.run({"inputs": inputs}))}


def _held_out(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether premise and hypothesis (N,) each are one of the sentences of the tests."""
    chosen = torch.zeros(SENTENCES, dtype=torch.bool)
    chosen[torch.randperm(SENTENCES, generator=torch.Generator().manual_seed(0))[:HELD_OUT]] = True
    sizes = [len(words) for words in FIELDS]
    digits = torch.tensor([math.prod(sizes[place + 1 :]) for place in range(PLACES)])
    premise, hypothesis = (inputs.view(-1, 2, PLACES) * digits).sum(2).unbind(1)
    return chosen[premise], chosen[hypothesis]


def _balanced(count: int, seed: int, *, held_out: bool) -> dict[str, Tensor]:
    """Return pairs of sentences, all of which are held out or none, with each relation equally often.

    Within a relation, all combinations of the six lower variables that give it are about equally frequent.
    """
    generator = torch.Generator().manual_seed(seed)
    every = torch.cartesian_prod(*[torch.arange(4)] * len(LOWER))
    model = program()
    setting = dict(zip(LOWER, every.unbind(1), strict=True))
    classes = model.answers(model.run({"inputs": torch.zeros(len(every), 2 * PLACES, dtype=torch.long)}, setting))
    wanted = [(count + place) // len(RELATIONS) for place in range(len(RELATIONS))]
    found: list[Tensor] = []
    for relation, number in enumerate(wanted):
        states = every[classes == relation]
        rows = torch.empty(0, 2 * PLACES, dtype=torch.long)
        while len(rows) < number:
            drawn = states[torch.randint(len(states), (4 * number,), generator=generator)]
            inputs = _words(dict(zip(LOWER, drawn.unbind(1), strict=True)), generator)
            premise, hypothesis = _held_out(inputs)
            rows = torch.cat([rows, inputs[premise & hypothesis if held_out else ~(premise | hypothesis)]])
        found.append(rows[:number])
    rows = torch.cat(found)
    return _labelled(rows[torch.randperm(len(rows), generator=generator)])


def _words(values: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
    """Return random sentences (N, 18) whose lower variables have these values (N,)."""
    count = len(values["subject"])
    inputs = torch.empty(count, 2, PLACES, dtype=torch.long)
    for place, name in ((0, "subject_quantifiers"), (3, "negation"), (6, "object_quantifiers")):
        inputs[:, 0, place], inputs[:, 1, place] = values[name] // 2, values[name] % 2
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(3), torch.arange(2))
    for place, name in ((1, "subject"), (4, "verb"), (7, "object")):
        sentences = torch.zeros(len(pairs), 2, PLACES, dtype=torch.long)
        sentences[:, :, place : place + 2] = pairs.view(-1, 2, 2)
        relation = _phrase(place)(sentences.flatten(1))
        for value in range(ALIKE):
            rows, fitting = (values[name] == value).nonzero()[:, 0], pairs[relation == value]
            chosen = fitting[torch.randint(len(fitting), (len(rows),), generator=generator)]
            inputs[rows, :, place : place + 2] = chosen.view(-1, 2, 2)
    return inputs.flatten(1)


def columns(seed: int) -> Columns:
    """Return pairs of sentences for training."""
    return _balanced(ROWS, seed, held_out=False)


def tests() -> Mapping[str, Columns]:
    """Return pairs of sentences of which training has none."""
    return {"test": _balanced(TEST_ROWS, 10_000, held_out=True)}


def augmented(rows: Columns) -> Columns:
    """Return counterfactual pairs: the words of one lower variable of another pair in the place of a pair's.

    A pair stays as it is if the change would make one of the sentences that are held out.
    """
    inputs, generator = rows["inputs"], torch.Generator().manual_seed(0)
    other = inputs[torch.randperm(len(inputs), generator=generator)]
    spans = ((0, 1), (1, 3), (3, 4), (4, 6), (6, 7), (7, 9))
    moved = torch.tensor([[low <= place < high for place in range(PLACES)] * 2 for low, high in spans])
    mixed = torch.where(moved[torch.randint(len(spans), (len(inputs),), generator=generator)], other, inputs)
    premise, hypothesis = _held_out(mixed)
    return _labelled(torch.where((premise | hypothesis)[:, None], inputs, mixed))


class Reader(nn.Module):
    """An MLP over the words of both sentences, with two layers in which variables have neurons."""

    def __init__(self, width: int) -> None:
        """Make the layers; those between the aligned ones have `width` neurons."""
        super().__init__()
        self.words = nn.Embedding(2 * PLACES * 3, 8)
        self.first = normalised_layer(2 * PLACES * 8, width)
        self.lower = normalised_layer(width, len(LOWER) * PART + REST)
        self.middle = normalised_layer(len(LOWER) * PART + REST, width)
        self.upper = normalised_layer(width, len(UPPER) * PART + REST)
        self.head = nn.Sequential(normalised_layer(len(UPPER) * PART + REST, width), nn.Linear(width, len(RELATIONS)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 7) of pairs of sentences (B, 18)."""
        words = self.words(inputs + 3 * torch.arange(2 * PLACES)).flatten(1)
        return self.head(self.upper(self.middle(self.lower(self.first(words)))))


def network(seed: int, width: int = WIDTH) -> Reader:
    """Return an untrained network."""
    torch.manual_seed(seed)
    return Reader(width)


TASK = Task(
    program=program(),
    network=network,
    columns=columns,
    augmented=augmented,
    tests=tests,
    sites=SITES,
    training={"steps": 1000, "batch_size": 512, "learning_rate": 0.004},
    arms=EVERY_VARIABLE,
    settings={"rows": ROWS, "test_rows": TEST_ROWS, "part": PART, "rest": REST},
)
LESSON = Lesson(
    task=TASK,
    teacher="strict",
    student=lambda seed: network(seed, WIDTH // 2),
    layers=[
        [iit.Site.module("lower.output", (0, len(LOWER) * PART + REST))],
        [iit.Site.module("upper.output", (0, len(UPPER) * PART + REST))],
    ],
)
"""The student's layers between the aligned ones are half as wide."""
