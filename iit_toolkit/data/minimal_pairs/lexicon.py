"""Nouns in both numbers, adjectives and names, in training words and held-out words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Noun(NamedTuple):
    """A noun in singular and plural."""

    singular: str
    plural: str


@dataclass(frozen=True)
class Words:
    """Words of one kind, written in one line; a noun is its singular, or `singular/plural` if the plural adds no -s.

    Attributes:
        training: The training words.
        held: The held-out words.
    """

    training: str
    held: str

    def of(self, split: str) -> list[str]:
        """Return the words of a split."""
        return (self.training if split == "train" else self.held).split()

    def nouns(self, split: str) -> list[Noun]:
        """Return the nouns of a split."""
        return [Noun(*word.split("/")) if "/" in word else Noun(word, f"{word}s") for word in self.of(split)]

    def forms(self, split: str) -> list[str]:
        """Return both forms of each noun of a split."""
        return [form for noun in self.nouns(split) for form in noun]


PERSONS = Words(
    "author teacher doctor lawyer king farmer soldier officer student artist writer singer player captain priest "
    "judge engineer driver manager worker leader scientist minister bishop poet painter composer musician dancer "
    "guard sailor pilot nurse actor boy girl sister brother daughter son neighbor tourist hunter reporter",
    "queen prince merchant athlete rider trader servant monk knight chief detective editor architect "
    "director producer critic president governor mayor ambassador historian boxer swimmer scholar",
)
"""People: the subjects of agreement."""

ATTRACTORS = Words(
    "house river church/churches school garden bridge tower castle village car window tree road hill",
    "station museum hospital temple theater farm palace island",
)
"""Things that stand between a subject and its verb."""

ADJECTIVES = Words("old young famous tall rich happy", "poor strong popular quiet")
"""What is said of people."""

THINGS = Words(
    "book song house car bird tree ship horse dog flower letter painting film garden tower bridge train boat stone "
    "picture poem door lake road church/churches coin weapon",
    "cat building field castle story/stories city/cities river record novel plane farm shop village "
    "clock shoe hat bottle",
)
"""Things: the nouns that a determiner agrees with."""

SIZES = Words("old small large new", "beautiful famous strange expensive")
"""What is said of things."""
