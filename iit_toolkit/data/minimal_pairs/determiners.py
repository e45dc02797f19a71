"""Agreement of a noun with its determiner."""

from __future__ import annotations

from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.grids import Grid
from iit_toolkit.data.minimal_pairs.lexicon import SIZES, THINGS
from iit_toolkit.data.minimal_pairs.swaps import exchange_grids
from iit_toolkit.data.minimal_pairs.templates import templates

_NUMBERS = (("this", "that", "one", "every"), ("these", "those", "two", "many"))
# {0} and {1} are the noun in singular and plural: both are seen before the one that is asked for.
_TRAINING = templates(
    "train",
    "the {1} belong to the king , and the queen has one {0} . she sold {swap} {answer} in may .",
    "he saw one {0} , but she saw two {1} . they talked about {swap} {answer} .",
    "he saw one {0} , but she saw two {1} . they talked about {swap} {adjective} {answer} .",
    "there are {1} in the east , and there is a {0} in the west . we like {swap} {adjective} {answer} .",
    "some people want many {1} , and others want a single {0} . he wanted {swap} {answer} .",
    "the first {0} was lost , and the other {1} were found . she wrote about {swap} {answer} in her diary .",
)
_HELD = templates(
    "held",
    "after looking at the {0} and at the other {1} , we chose {swap} {answer} .",
    "in the town , where a {0} is rare and few {1} are sold , {swap} {adjective} {answer} could be found .",
    "if a {0} is good and more {1} are better , who needs {swap} {answer} ?",
)


def _grids(split: str) -> list[Grid]:
    nouns = THINGS.nouns(split)
    made: list[Grid] = []
    for template in _HELD if split == "templates" else _TRAINING:
        slots = {"adjective": SIZES.of(split)} if "adjective" in template.places else {}
        made += exchange_grids(template, _NUMBERS, nouns, slots, content=False, asks_content=True)
    return made


DETERMINER_NOUN = Family(
    "determiner_noun",
    "A noun agrees in number with its determiner; both of its forms are seen before.",
    ("masked_lm",),
    _grids,
)
