"""Families in the words of tiny stories, for models that know no others.

A swap needs words of as many tokens in base and source. All names and objects here are of three tokens in the
vocabulary of 512 tokens that the tiny Llamas of such stories have, and the first tokens of candidates differ there. The
held-out ones occur in stories that such a Llama tells, so that a student can know them.
"""

from __future__ import annotations

from collections.abc import Sequence

from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.grids import Grid
from iit_toolkit.data.minimal_pairs.lexicon import Words
from iit_toolkit.data.minimal_pairs.swaps import exchange_grids
from iit_toolkit.data.minimal_pairs.templates import Template, templates

_BOYS = Words("Max Tommy Tony Simon Sean", "Bob Sammy Leo Mark")
_GIRLS = Words("Sue Sara Lena Maya Tara", "Mia Sally Lila Lisa")
_PLACES = Words("park store garden", "zoo beach farm")
_ANIMALS = Words("dog cat bird bear", "fox duck frog pig")
_COLORS = Words("big red pretty old funny", "small blue new silly")
_OBJECTS = Words("bird tree rock mouse stick duck cup swing pie", "box fish cake map rug")
_GIVERS = Words("Tim Tom Sam Mom Grandma", "Lily Ben Sue Dad Grandpa Max")

_POSSESSED = templates(
    "train",
    "One day, {swap} went to the {place} with {answer} mom.",
    "{swap} was in the {place} and wanted to play with {answer} toys.",
    "{swap} went to the {place} and played with {answer} friend.",
    "{swap} loved the {color} {animal} and played with {answer} dad.",
    "One day, {swap} was at the {place} with {answer} friend.",
    "{swap} saw a {color} {animal} in the {place} with {answer} mom.",
)
_POSSESSED_HELD = templates(
    "held",
    "When the sun was up, {swap} ran to see the {animal} with {answer} friends.",
    "At the {place}, {swap} ate cake and played with {answer} friends.",
    "{swap} liked to eat cake, to see the {animal} and to play with {answer} friends.",
)
_SUBJECTS = templates(
    "train",
    "{swap} saw a {color} {animal}. {answer} was happy.",
    "One day, {swap} went to the {place}. {answer} saw a tree.",
    "{swap} found a {color} ball in the {place}. {answer} was happy.",
    "One day, {swap} was in the {place} with a {animal}. {answer} was happy.",
    "{swap} had a {color} {animal}. {answer} loved it.",
    "{swap} played in the {place}. {answer} had fun.",
)
_SUBJECTS_HELD = templates(
    "held",
    "At the {place}, there was {swap}. {answer} had a cake.",
    "The {animal} at the {place} was sad, so {swap} was sad too. {answer} wanted to help.",
    "After a day at the {place}, {swap} was tired. {answer} went to bed.",
)
_NAMED = templates(
    "train",
    "Once upon a time, there was a {color} {swap}. The {answer} was happy.",
    "{giver} had a {swap}. One day, {giver} lost the {answer}.",
    "{giver} saw a {swap}. {giver} wanted to play with the {answer}.",
    "{giver} had a {color} {swap}. {giver} liked the {color} {answer}.",
)
_NAMED_HELD = templates(
    "held",
    "There was nothing but a {swap} in the room. {giver} took the {answer} home.",
    "{giver} gave the {swap} to a kid. The kid took the {answer} home.",
    "In the room, {giver} looked at a {color} {swap}. The {answer} was nice.",
)


def _possessives(split: str) -> list[Grid]:
    return _of_names(split, _POSSESSED_HELD if split == "templates" else _POSSESSED, ("his", "her"))


def _pronouns(split: str) -> list[Grid]:
    return _of_names(split, _SUBJECTS_HELD if split == "templates" else _SUBJECTS, ("He", "She"))


def _of_names(split: str, chosen: Sequence[Template], candidates: tuple[str, ...]) -> list[Grid]:
    groups = [_BOYS.of(split), _GIRLS.of(split)]
    return [
        grid for template in chosen for grid in exchange_grids(template, groups, [candidates], _slots(split, template))
    ]


def _objects(split: str) -> list[Grid]:
    objects = _OBJECTS.of(split)
    return [
        grid
        for template in (_NAMED_HELD if split == "templates" else _NAMED)
        for grid in exchange_grids(template, [[one] for one in objects], [tuple(objects)], _slots(split, template))
    ]


def _slots(split: str, template: Template) -> dict[str, Sequence[str]]:
    """Fillers of the places that a template has."""
    kinds = {"place": _PLACES, "animal": _ANIMALS, "color": _COLORS, "giver": _GIVERS}
    return {name: words.of(split) for name, words in kinds.items() if name in template.places}


STORY_POSSESSIVES = Family(
    "story_possessives",
    "In a tiny story, his or her goes back to the name before it.",
    ("causal_lm",),
    _possessives,
)
STORY_PRONOUNS = Family(
    "story_pronouns",
    "In a tiny story, the sentence after a name begins with He or She.",
    ("causal_lm",),
    _pronouns,
)
STORY_OBJECTS = Family(
    "story_objects",
    "In a tiny story, what was named is named again.",
    ("causal_lm",),
    _objects,
)
