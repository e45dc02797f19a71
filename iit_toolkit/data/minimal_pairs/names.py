"""Names of persons and nouns of one gender, and the possessives, pronouns and reflexives that go back to them."""

from __future__ import annotations

from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.grids import Grid
from iit_toolkit.data.minimal_pairs.lexicon import Words
from iit_toolkit.data.minimal_pairs.swaps import exchange_grids
from iit_toolkit.data.minimal_pairs.templates import templates

_MEN = Words(
    "John Peter William James George Thomas Henry Robert Charles David Michael Richard Edward Joseph Frank Arthur",
    "Paul Daniel Albert Walter Andrew Martin Simon Samuel",
)
_WOMEN = Words(
    "Mary Anna Elizabeth Margaret Alice Helen Jane Emma Sarah Catherine Maria Julia Anne Barbara Susan Emily",
    "Charlotte Victoria Laura Dorothy Martha Rachel Ruth Rose",
)
_TOWNS = Words("London Paris Rome Vienna Boston Chicago", "Berlin Madrid Oxford Dublin")
_HIS, _HE = ("his", "her"), ("he", "she")
_TRAINING = tuple(
    zip(
        templates(
            "train",
            "after the war , {swap} returned to {answer} family in {town} .",
            "{swap} lived in {town} with {answer} family .",
            "in {town} , {swap} met {answer} first teacher .",
            "{swap} was born in {town} , where {answer} lived until 1920 .",
            "{swap} left {town} after the death of {answer} father .",
            "{swap} moved to {town} , and {answer} died there .",
            "{swap} spent most of {answer} childhood in {town} .",
        ),
        (_HIS, _HIS, _HIS, _HE, _HIS, _HE, _HIS),
        strict=True,
    )
)
_HELD = tuple(
    zip(
        templates(
            "held",
            "as a child , {swap} came to {town} with both of {answer} parents .",
            "when {swap} came back to {town} , {answer} was very tired .",
            "after many years , {swap} went back to {answer} home in {town} .",
            "{swap} , who grew up in {town} , lost {answer} mother early .",
        ),
        (_HIS, _HE, _HIS, _HIS),
        strict=True,
    )
)


def _pronouns(split: str) -> list[Grid]:
    groups = [_MEN.of(split), _WOMEN.of(split)]
    return [
        grid
        for template, candidates in (_HELD if split == "templates" else _TRAINING)
        for grid in exchange_grids(template, groups, [candidates], {"town": _TOWNS.of(split)})
    ]


_SUBJECTS = (
    Words("man boy king husband", "father prince brother"),
    Words("woman girl queen wife", "mother princess sister"),
    Words("men boys women girls kings", "fathers princes mothers sisters"),
)
_MANNERS = Words("often never once soon later also", "always again still finally")
_REFLEXIVE = ("himself", "herself", "themselves")
_ALONE = templates(
    "train",
    "the {swap} could not defend {answer} , and {manner} lost .",
    "the {swap} must protect {answer} and {manner} win .",
    "the {swap} {manner} taught {answer} to play the guitar .",
    "the {swap} {manner} came to save {answer} .",
    "the {swap} , proud of {answer} , {manner} went home .",
    "the {swap} could {manner} help {answer} .",
    "the {swap} {manner} saw {answer} in the mirror .",
    "the {swap} {manner} introduced {answer} to the guests .",
)
_ALONE_HELD = templates(
    "held",
    "because of the war , the {swap} could not {manner} protect {answer} .",
    "when the war came , the {swap} had {manner} to hide {answer} .",
    "in the end , it was the {swap} who {manner} introduced {answer} .",
    "because no one came , the {swap} had {manner} to help {answer} .",
)


def _reflexives(split: str) -> list[Grid]:
    groups = [words.of(split) for words in _SUBJECTS]
    return [
        grid
        for template in (_ALONE_HELD if split == "templates" else _ALONE)
        for grid in exchange_grids(template, groups, [_REFLEXIVE], {"manner": _MANNERS.of(split)})
    ]


PRONOUNS = Family(
    "pronouns",
    "A pronoun or possessive agrees in gender with the name that it goes back to.",
    ("masked_lm",),
    _pronouns,
)
REFLEXIVES = Family(
    "reflexives",
    "A reflexive agrees in gender and number with the subject of its clause.",
    ("masked_lm",),
    _reflexives,
)
