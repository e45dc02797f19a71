"""Ways to swap words: with another answer, with the same answer, within one noun."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from iit_toolkit.data.minimal_pairs.grids import Grid, Swap
from iit_toolkit.data.minimal_pairs.templates import Template

FLIPS, KEEPS = 3, 1
"""Of four pairs, three change the right answer."""


def exchanges(groups: Sequence[Sequence[str]], *, content: bool = True) -> Iterator[list[Swap]]:
    """Swap every word for every other one.

    Args:
        groups: The words, by the candidate that they ask for.
        content: Whether the words belong to the lexicon.

    Yields:
        By base answer: the swaps that change the answer, then those that keep it.
    """
    for answer, words in enumerate(groups):
        others = [(other, word) for other, some in enumerate(groups) if other != answer for word in some]
        yield [Swap(base, word, answer, other, content) for base in words for other, word in others]
        yield [Swap(base, word, answer, answer, content) for base in words for word in words if base != word]


def exchange_grids(
    template: Template,
    groups: Sequence[Sequence[str]],
    candidates: Sequence[tuple[str, ...]],
    slots: Mapping[str, Sequence[str]] | None = None,
    *,
    content: bool = True,
    asks_content: bool = False,
) -> list[Grid]:
    """Make the grids of a template in which every word is swapped for every other one.

    Each base answer has as many pairs as any other, and three of four pairs change the answer.
    """
    made: list[Grid] = []
    for number, swaps in enumerate(exchanges(groups, content=content)):
        weight = KEEPS if number % 2 else FLIPS
        made.append(Grid(template, swaps, candidates, slots or {}, weight, asks_content))
    return [grid for grid in made if len(grid)]
