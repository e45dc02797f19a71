"""Templates: sentences with places, and where the fillers stand once they are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from iit_toolkit.data.minimal_pairs.rows import Span

SWAP, ANSWER = "swap", "answer"


@dataclass(frozen=True)
class Template:
    """A sentence with places for words.

    Attributes:
        name: Short name, unique in its family.
        text: The sentence. `{swap}` is the place of the swapped words and `{answer}` that of the word that is asked
            for, once each. `{0}` is that of the first candidate, `{1}` of the second, and so on. Other places have
            names of their own.
    """

    name: str
    text: str

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the places, in their order."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.text) if name is not None)

    def fill(self, fillers: Mapping[str, str]) -> tuple[str, Span, Span]:
        """Return the sentence, which begins with a capital, and where the swapped words and the answer stand."""
        text, spans = "", dict[str, Span]()
        for literal, name, _, _ in Formatter().parse(self.text):
            text += literal
            if name is not None:
                spans[name] = (len(text), len(text) + len(fillers[name]))
                text += fillers[name]
        return f"{text[:1].upper()}{text[1:]}", spans[SWAP], spans[ANSWER]


def templates(prefix: str, *texts: str) -> tuple[Template, ...]:
    """Make templates with the names `train-0`, `train-1` and so on."""
    return tuple(Template(f"{prefix}-{number}", text) for number, text in enumerate(texts))
