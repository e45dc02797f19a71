"""The gallery's program of natural logic, against plain Python that counts the worlds of two sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations, product
from types import ModuleType
from typing import Any

import pytest
import torch

IMPOSSIBLE = {
    "": "independence",
    "TF FT": "equivalence",
    "TF": "entails",
    "FT": "reverse entails",
    "TT FF": "contradiction",
    "TT": "alternation",
    "FF": "cover",
}
"""The relation of two phrases, by the truth values that they cannot have together."""


def possible(relation: str) -> set[tuple[bool, bool]]:
    [excluded] = [pairs.split() for pairs, name in IMPOSSIBLE.items() if name == relation]
    return {(one == "T", other == "T") for one, other in product("TF", repeat=2) if one + other not in excluded}


def named(pairs: set[tuple[bool, bool]]) -> str:
    missing = [one + other for one, other in ("TT", "TF", "FT", "FF") if (one == "T", other == "T") not in pairs]
    return IMPOSSIBLE[" ".join(missing)]


@cache
def quantified(premise: str, hypothesis: str, below: str, about: str) -> str:
    """Count the worlds of up to four individuals: more than four are never needed to make two sentences true or false.

    An individual is a child in premise and hypothesis, say, and climbs in premise and hypothesis, or not.
    """
    kinds = [(*ranged, *said) for ranged in possible(below) for said in possible(about)]
    pairs: set[tuple[bool, bool]] = set()
    for size in range(1, 5):
        for world in combinations(kinds, size):
            sides = [[one[side + 2] for one in world if one[side]] for side in (0, 1)]
            if all(sides):
                truths = [
                    any(side) if word == "some" else all(side)
                    for word, side in zip((premise, hypothesis), sides, strict=True)
                ]
                pairs.add((truths[0], truths[1]))
    return named(pairs)


def phrase(premise: Sequence[str], hypothesis: Sequence[str]) -> str:
    if premise[1] != hypothesis[1] or (premise[0] and hypothesis[0] and premise[0] != hypothesis[0]):
        return "independence"
    if premise[0] == hypothesis[0]:
        return "equivalence"
    return "entails" if premise[0] else "reverse entails"


def negated(premise: str, hypothesis: str, relation: str) -> str:
    return named({(one ^ (premise == "not"), other ^ (hypothesis == "not")) for one, other in possible(relation)})


def plain(premise: Sequence[str], hypothesis: Sequence[str]) -> dict[str, str]:
    """Return the relations of all phrases of two sentences."""
    found = {name: phrase(premise[at:][:2], hypothesis[at:][:2]) for name, at in (("subject", 1), ("verb", 4))}
    found["object"] = phrase(premise[7:], hypothesis[7:])
    found["object_phrase"] = quantified(premise[6], hypothesis[6], found["object"], found["verb"])
    found["predicate"] = negated(premise[3], hypothesis[3], found["object_phrase"])
    found["relation"] = quantified(premise[0], hypothesis[0], found["subject"], found["predicate"])
    return found


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, gallery_module: Callable[[str], ModuleType]) -> Any:
    module: Any = gallery_module("mqnli")
    monkeypatch.setattr(module, "ROWS", 702)
    monkeypatch.setattr(module, "TEST_ROWS", 140)
    return module


def words(task: Any, row: Sequence[int]) -> list[list[str]]:
    named = [task.FIELDS[place % 9][word] for place, word in enumerate(row)]
    return [named[:9], named[9:]]


def test_relations_are_those_of_plain_counting(task: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.stack([torch.randint(len(one), (300,), generator=generator) for one in task.FIELDS * 2], 1)
    names, training = list(task.RELATIONS), task.columns(0)
    for inputs in (uniform, training["inputs"], task.tests()["test"]["inputs"], task.augmented(training)["inputs"]):
        values = task.program().run({"inputs": inputs})
        for place, row in enumerate(inputs.tolist()):
            for name, relation in plain(*words(task, row)).items():
                assert names[int(values[name][place])] == relation, (words(task, row), name)
    assert len({relation for relation in map(int, training["labels"])}) == 7


@pytest.mark.parametrize(
    ("premise", "hypothesis", "relation"),
    [
        ("every/ /dog/ / /climbed/every/ /tree", "some/ /dog/ / /climbed/some/ /tree", "entails"),
        ("some/ /dog/ / /climbed/every/ /tree", "every/ /dog/not/ /climbed/every/ /tree", "contradiction"),
        ("every/ /dog/ / /climbed/some/ /tree", "every/little/dog/ / /climbed/some/ /tree", "entails"),
        ("every/ /dog/not/ /climbed/some/ /tree", "some/ /dog/ /joyfully/climbed/some/ /tree", "alternation"),
        ("some/ /dog/ / /climbed/some/ /tree", "some/ /dog/not/joyfully/climbed/some/happy/tree", "cover"),
        ("some/ /dog/ / /climbed/some/ /tree", "some/ /child/ / /climbed/some/ /tree", "independence"),
    ],
)
def test_sentences_of_which_anyone_can_tell(task: Any, premise: str, hypothesis: str, relation: str) -> None:
    places = [[word.strip() for word in side.split("/")] for side in (premise, hypothesis)]
    row = [[options.index(word) for options, word in zip(task.FIELDS, side, strict=True)] for side in places]
    values = task.program().run({"inputs": torch.tensor(row).view(1, 18)})
    assert list(task.RELATIONS)[int(values["relation"])] == relation == plain(*places)["relation"]


def test_relations_are_equally_frequent_and_no_sentence_of_the_tests_is_in_training(task: Any) -> None:
    training, test = task.columns(0), task.tests()["test"]
    for rows, count in ((training, 702), (test, 140)):
        counts = rows["labels"].bincount(minlength=7)
        assert int(counts.sum()) == count and int(counts.max() - counts.min()) <= 1
        assert torch.equal(rows["labels"], task.program().run(rows)["relation"])

    def sentences(inputs: torch.Tensor) -> set[tuple[int, ...]]:
        return {tuple(one) for one in inputs.view(-1, 9).tolist()}

    more = task.augmented(training)["inputs"]
    assert not (sentences(training["inputs"]) | sentences(more)) & sentences(test["inputs"])
    changed = (more != training["inputs"]).any(1).float().mean()
    assert 0.2 < float(changed) < 0.9
