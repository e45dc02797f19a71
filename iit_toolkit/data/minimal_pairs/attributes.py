"""What belongs to a country: the word for its people and language."""

from __future__ import annotations

from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.grids import Grid, Swap
from iit_toolkit.data.minimal_pairs.lexicon import Words
from iit_toolkit.data.minimal_pairs.templates import templates

_COUNTRIES = Words(
    "France/French Japan/Japanese Russia/Russian Italy/Italian Sweden/Swedish Poland/Polish Greece/Greek "
    "Turkey/Turkish Hungary/Hungarian Romania/Romanian Vietnam/Vietnamese Ukraine/Ukrainian Croatia/Croatian "
    "Ireland/Irish Thailand/Thai Indonesia/Indonesian Serbia/Serbian Armenia/Armenian",
    "Germany/German Spain/Spanish China/Chinese Norway/Norwegian Denmark/Danish Finland/Finnish Portugal/Portuguese "
    "Bulgaria/Bulgarian Korea/Korean Iceland/Icelandic Albania/Albanian",
)
_OFFICES = Words("president minister leader king", "ambassador governor prince queen")
_TRAINING = templates(
    "train",
    "the {office} of {swap} met the {answer} people .",
    "people in {swap} speak {answer} , said the {office} .",
    "the {office} said that the official language of {swap} is {answer} .",
    "in {swap} , the {office} spoke to the {answer} army .",
    "the {office} visited {swap} and saw the {answer} team .",
    "the {office} of {swap} spoke to the {answer} government .",
)
_HELD = templates(
    "held",
    "while in {swap} , the {office} was seen with {answer} soldiers .",
    "books from {swap} , the {office} thought , are written in {answer} .",
    "when troops entered {swap} , the {office} called for the {answer} government to resign .",
)


def _grids(split: str) -> list[Grid]:
    countries = _COUNTRIES.nouns(split)
    adjectives = tuple(adjective for _, adjective in countries)
    made: list[Grid] = []
    for template in _HELD if split == "templates" else _TRAINING:
        for answer, (country, _) in enumerate(countries):
            swaps = [Swap(country, name, answer, other) for other, (name, _) in enumerate(countries) if other != answer]
            made.append(Grid(template, swaps, [adjectives], {"office": _OFFICES.of(split)}, asks_content=True))
    return made


ATTRIBUTES = Family(
    "attributes",
    "The word for a country's people and language belongs to the country that is named.",
    ("masked_lm",),
    _grids,
)
