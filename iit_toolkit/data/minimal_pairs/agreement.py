"""Agreement of a verb with its subject, across a noun that stands between them."""

from __future__ import annotations

from collections.abc import Sequence

from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.grids import Grid, Swap
from iit_toolkit.data.minimal_pairs.lexicon import ADJECTIVES, ATTRACTORS, PERSONS, Noun
from iit_toolkit.data.minimal_pairs.templates import templates

_BE, _WERE, _HAVE = ("is", "are"), ("was", "were"), ("has", "have")
_TRAINING = tuple(
    zip(
        templates(
            "train",
            "the {swap} near the {attractor} {answer} very {adjective} .",
            "the {swap} with the {attractor} {answer} not {adjective} .",
            "the {swap} behind the {attractor} {answer} very {adjective} .",
            "the {swap} from the {attractor} {answer} now {adjective} .",
            "the {swap} who saw the {attractor} {answer} also {adjective} .",
            "the {swap} that left the {attractor} {answer} also {adjective} .",
            "the {swap} that owned the {attractor} {answer} also {adjective} .",
            "the {swap} in the {attractor} {answer} become {adjective} .",
            "the {swap} that visited the {attractor} {answer} also {adjective} .",
            "today the {swap} beside the {attractor} {answer} very {adjective} .",
        ),
        (_BE, _BE, _BE, _BE, _WERE, _WERE, _WERE, _HAVE, _WERE, _BE),
        strict=True,
    )
)
_HELD = tuple(
    zip(
        templates(
            "held",
            "as we know , the {swap} seen at the {attractor} {answer} now {adjective} .",
            "after the war , the {swap} working at the {attractor} {answer} more {adjective} than before .",
            "it seems that the {swap} standing outside the {attractor} {answer} too {adjective} .",
            "the {swap} seen by us at the {attractor} {answer} been very {adjective} .",
        ),
        (_BE, _WERE, _BE, _HAVE),
        strict=True,
    )
)


def _grids(split: str) -> list[Grid]:
    swaps = _swaps(PERSONS.nouns(split))
    slots = {"attractor": ATTRACTORS.forms(split), "adjective": ADJECTIVES.of(split)}
    chosen = _HELD if split == "templates" else _TRAINING
    return [Grid(template, some, (verbs,), slots, weight) for template, verbs in chosen for some, weight in swaps]


def _swaps(nouns: Sequence[Noun]) -> list[tuple[list[Swap], int]]:
    """Of four pairs, one changes the number, two the number and the noun, one the noun; of each number alike."""
    made: list[tuple[list[Swap], int]] = []
    others = [(one, other) for one in nouns for other in nouns if one != other]
    for number in (0, 1):
        made.append(([Swap(noun[number], noun[1 - number], number, 1 - number) for noun in nouns], 1))
        made.append(([Swap(one[number], other[1 - number], number, 1 - number) for one, other in others], 2))
        made.append(([Swap(one[number], other[number], number, number) for one, other in others], 1))
    return made


AGREEMENT = Family(
    "agreement",
    "A verb agrees in number with its subject, not with the noun between them.",
    ("masked_lm",),
    _grids,
)
