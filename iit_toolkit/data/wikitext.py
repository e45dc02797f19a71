"""Turns WikiText's tokenised lines back into plain articles."""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNKNOWN = "<unk>"
_INNER = re.compile(r" ?@([-,.])@ ?")  # the joints of 2 @-@ 3, 1 @,@ 000 and 0 @.@ 7
_QUOTED = re.compile(r'"\s*([^"]*?)\s*"')
_BEFORE_CLOSING = re.compile(r"\s+([,.;:!?%)\]}]|'(?:s|m|d|re|ve|ll)\b|n't\b)")
_AFTER_OPENING = re.compile(r"([(\[{])\s+")


def wikitext_articles(lines: Iterable[str], unknown_token: str | None = None) -> list[str]:
    """Join WikiText's lines (one paragraph or heading each) into articles of plain text.

    A heading (after a blank line) of the first level (` = Title = `) starts an article. Headings and blank
    lines are dropped; paragraphs are separated by a newline.

    Args:
        lines: The lines of a `wikitext-*` data set, in order.
        unknown_token: What `<unk>` becomes, which stands for rare words in the `-v1` sets (0.7 to 1% of the
            words). Give the tokenizer's own unknown token: it is special, hence never masked, predicted or
            swapped. None leaves `<unk>` as it is, and most tokenizers then split it into pieces.
    """
    articles: list[list[str]] = [[]]
    before = ""
    for line in lines:
        text = line.strip()
        before, after_blank = text, not before
        if after_blank and text.startswith("=") and text.endswith("="):  # else it is part of a formula
            if not text.startswith("= ="):
                articles.append([])
        elif text:
            articles[-1].append(detokenize(text, unknown_token))
    return ["\n".join(paragraphs) for paragraphs in articles if paragraphs]


def detokenize(text: str, unknown_token: str | None = None) -> str:
    """Undo the spaces that WikiText's tokenisation put around punctuation in one paragraph."""
    text = _INNER.sub(r"\1", text)
    text = _QUOTED.sub(r'"\1"', text)
    text = _BEFORE_CLOSING.sub(r"\1", text)
    text = _AFTER_OPENING.sub(r"\1", text)
    return text if unknown_token is None else text.replace(_UNKNOWN, unknown_token)
