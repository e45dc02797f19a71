"""Whether two tokenizers make the same ids of the same texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from iit_toolkit.data.encoding import pieces, text_ids
from iit_toolkit.errors import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK Brown FOX; mcDONALD's iPhone, NASA",
    "don't we'll I'm they've rock'n'roll it's o'clock ``quoted'' \"so\" ‘so’ “so”",
    "unbelievably antidisestablishmentarianism internationalization lowest newer widest",
    "0 1 12 123 1234 12345 3.14 1,000,000 2024-11-28 10:30 1e-5 50% $9.99 №5 ½ ² Ⅻ ①",
    "naïve café Ångström Übermut Élan çà œuvre ﬁn ß ẞ İstanbul ılık",
    "cafe\u0301 A\u030angstro\u0308m",  # accents as characters of their own
    "Быстрая лиса ёж; Γρήγορη αλεπού ώς; שָׁלוֹם עולם; مرحبًا بالعالم",
    "敏捷的棕色狐狸 素早い茶色の狐 カﾀｶﾅ ＡＢＣ１２３ 한국어 문장 ภาษาไทย हिन्दी भाषा",
    "  two  spaces\tand\ta tab\nand a line\r\n\n  end \u00a0\u3000\u200b ",
    "a_b-c/d\\e|f@g.h#i&j*k+l=m~n^o`p{q}r[s](t)<u>v</u>!?…—–",
    "def f(x):\n    return x**2  # http://example.org/a?b=c&d=%20",
    "😀👍🏽👨‍👩‍👧🇪🇺 ♥ → ∑∫√",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <unk> <mask> <|endoftext|>",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ ACGTNacgtn CC(=O)Oc1ccccc1C(=O)O",
    "",
)
"""Texts with case, accents, digits, punctuation, white space and many scripts."""

_PIECES = 2000
_TOGETHER = 100  # pieces to a text
_TO_WIDE = 0xFEE0  # from an ASCII character to its form of full width


def tokenizer_difference(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: Iterable[str] = ()
) -> str | None:
    """Say how a student's tokenizer differs from the teacher's in what models read; `None` if it does not.

    Vocabulary and special tokens must agree. So must the ids of `PROBES`, of pieces of the vocabulary and of the given
    texts, with the special tokens around them. Each is also tried as a normaliser would change it. A small vocabulary
    knows few words of the probes, so its own are varied. What changes no ids may differ: names, longest inputs, the
    side of padding, chat templates.
    """
    expected, found = teacher.get_vocab(), student.get_vocab()
    if expected != found:
        differing = next((token for token in expected | found if expected.get(token) != found.get(token)), "")
        return f"token {differing[:40]!r} differs"
    if teacher.special_tokens_map != student.special_tokens_map:
        return "special tokens differ"
    vocabulary = pieces(teacher, _PIECES)
    own = [" ".join(vocabulary[start : start + _TOGETHER]) for start in range(0, len(vocabulary), _TOGETHER)]
    for text in (written for one in (*PROBES, *own, *texts) for written in _written(one)):
        if _ids(teacher, text) != _ids(student, text):
            part = _differing(text, teacher, student)
            made, other = (_shown(_ids(tokenizer, part)) for tokenizer in (teacher, student))
            return f"{part[:30]!r} is {made} for the teacher's, {other} for its own"
    return None


def _written(text: str) -> Iterator[str]:
    """Yield a text as it is, and in other forms that normalisers take for the same."""
    yield text
    yield text.upper()
    yield text.title()
    yield unicodedata.normalize("NFD", text)
    yield " ".join(f"{word}\u0301" for word in text.split())
    yield "  ".join(["", *text.split(), ""])
    yield "".join(chr(ord(one) + _TO_WIDE) if "!" <= one <= "~" else one for one in text)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int] | str:
    """Return the ids of a text; if it can't be tokenized, why."""
    try:
        return text_ids(tokenizer, text)
    except Exception as error:  # tokenizers raises no class of its own
        return one_line(error)


def _differing(text: str, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str:
    """Return the first word of a text that differs by itself; the text if it is no single word."""
    differing = (word for word in text.split() if _ids(teacher, word) != _ids(student, word))
    return next(differing, text)


def _shown(ids: list[int] | str) -> str:
    return ids[:60] if isinstance(ids, str) else f"{str(ids[:6])[:-1]}{', ...' if len(ids) > 6 else ''}]"
