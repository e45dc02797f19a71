"""Words that come in pairs: `as ... as`, `more ... than`, `from ... to`, `between ... and`."""

from __future__ import annotations

from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.grids import Grid
from iit_toolkit.data.minimal_pairs.lexicon import Words
from iit_toolkit.data.minimal_pairs.swaps import exchange_grids
from iit_toolkit.data.minimal_pairs.templates import templates

_PERSONS = Words("man king artist teacher farmer soldier", "woman queen poet doctor sailor priest")
_QUALITIES = Words(
    "famous powerful beautiful popular important dangerous expensive difficult successful",
    "intelligent interesting useful valuable common complex modern",
)
_DEGREES = (("as",), ("more", "less"))
_COMPARED = templates(
    "train",
    "the {person} is {swap} {quality} {answer} the {other} .",
    "for the {person} , the house was {swap} {quality} {answer} the {other} .",
    "the {person} had become {swap} {quality} {answer} any other {other} .",
    "it is {swap} {quality} {answer} it was for the {person} and the {other} .",
)
_COMPARED_HELD = templates(
    "held",
    "no {person} was ever {swap} {quality} {answer} this {other} .",
    "was the {person} really {swap} {quality} {answer} this {other} ?",
    "even now , this {other} is {swap} {quality} {answer} the {person} was .",
)
_OTHERS = Words("church city painting book river", "castle village song film island")

_LIMITS = (("from",), ("between",))
_TOWNS = Words("London Paris Rome Vienna Boston Chicago", "Berlin Madrid Oxford Dublin Moscow Prague")
_ENDS = Words("Liverpool Lyon Milan Hamburg Detroit", "Bristol Naples Munich Florence")
_THINGS = Words("train road line bus river", "ship path flight railway")
_RANGES = templates(
    "train",
    "she took a {thing} {swap} {town} {answer} {end} again .",
    "a {thing} {swap} {town} {answer} {end} was opened in may .",
    "they took the {thing} {swap} {town} {answer} {end} last year .",
    "the {thing} goes {swap} {town} {answer} {end} every day .",
)
_RANGES_HELD = templates(
    "held",
    "we drove {swap} {town} {answer} {end} after losing the {thing} .",
    "if you took a {thing} {swap} {town} {answer} {end} , you saw the sea .",
    "who took this {thing} {swap} {town} {answer} {end} yesterday ?",
)


def _comparatives(split: str) -> list[Grid]:
    slots = {"person": _PERSONS.of(split), "quality": _QUALITIES.of(split), "other": _OTHERS.of(split)}
    return [
        grid
        for template in (_COMPARED_HELD if split == "templates" else _COMPARED)
        for grid in exchange_grids(template, _DEGREES, [("as", "than")], slots, content=False)
    ]


def _ranges(split: str) -> list[Grid]:
    slots = {"town": _TOWNS.of(split), "end": _ENDS.of(split), "thing": _THINGS.of(split)}
    return [
        grid
        for template in (_RANGES_HELD if split == "templates" else _RANGES)
        for grid in exchange_grids(template, _LIMITS, [("to", "and")], slots, content=False)
    ]


COMPARATIVES = Family(
    "comparatives",
    "The word after an adjective is the one that its degree word calls for: as or than.",
    ("masked_lm",),
    _comparatives,
)
RANGES = Family(
    "ranges",
    "The word between two places is the one that the preposition before them calls for: to or and.",
    ("masked_lm",),
    _ranges,
)
