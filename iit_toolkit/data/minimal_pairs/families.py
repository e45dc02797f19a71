"""The table of all families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datasets import Dataset

from iit_toolkit.data.minimal_pairs.agreement import AGREEMENT
from iit_toolkit.data.minimal_pairs.attributes import ATTRIBUTES
from iit_toolkit.data.minimal_pairs.correlatives import COMPARATIVES, RANGES
from iit_toolkit.data.minimal_pairs.determiners import DETERMINER_NOUN
from iit_toolkit.data.minimal_pairs.family import Family
from iit_toolkit.data.minimal_pairs.names import PRONOUNS, REFLEXIVES
from iit_toolkit.data.minimal_pairs.rows import to_dataset
from iit_toolkit.data.minimal_pairs.stories import STORY_OBJECTS, STORY_POSSESSIVES, STORY_PRONOUNS
from iit_toolkit.errors import UserError, did_you_mean

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        AGREEMENT,
        DETERMINER_NOUN,
        REFLEXIVES,
        PRONOUNS,
        ATTRIBUTES,
        COMPARATIVES,
        RANGES,
        STORY_POSSESSIVES,
        STORY_PRONOUNS,
        STORY_OBJECTS,
    )
}
"""The families, by name."""


def family(name: str) -> Family:
    """Return a family.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in FAMILIES:
        raise UserError(f'there is no family of minimal pairs "{name}": {did_you_mean(name, FAMILIES)}')
    return FAMILIES[name]


def minimal_pairs(names: Sequence[str], split: str, most: int) -> Dataset:
    """Return pairs of several families, with a column for each attribute of a pair.

    Args:
        names: The families.
        split: `train`, `words` or `templates`; or several, such as `words+templates`, whose pairs are told apart by
            their family.
        most: Pairs of each family in each of these, at most; a family that has fewer gives all.

    Raises:
        UserError: If there is no such family or split.
    """
    chosen, splits = [family(name) for name in names], [part.strip() for part in split.split("+")]
    rows = (row for one in chosen for part in splits for row in one.rows(part, min(most, one.size(part))))
    return to_dataset(rows if len(splits) == 1 else (replace(row, family=f"{row.family}, {row.split}") for row in rows))
