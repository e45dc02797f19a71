"""Whether two tokenizers make the same ids of the same texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

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


def tokenizer_difference(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: Iterable[str] = ()
) -> str | None:
    """Says how a student's tokenizer differs from the teacher's in what models read; `None` if it does not.

    Vocabulary and special tokens have to agree, and so have the ids, the special tokens around them included, of
    `PROBES`, of pieces of the vocabulary and of the texts that are given. What changes no ids may differ: names,
    longest inputs, the side of padding, chat templates.
    """
    ours, theirs = teacher.get_vocab(), student.get_vocab()
    if ours != theirs:
        differing = next((token for token in ours | theirs if ours.get(token) != theirs.get(token)), "")
        return f"token {differing[:40]!r} differs"
    if teacher.special_tokens_map != student.special_tokens_map:
        return "special tokens differ"
    for text in (*PROBES, *_pieces(teacher), *texts):
        if _ids(teacher, text) != _ids(student, text):
            part = _differing(text, teacher, student)
            made, other = (_shown(_ids(tokenizer, part)) for tokenizer in (teacher, student))
            return f"{part[:30]!r} is {made} for the teacher's, {other} for its own"
    return None


def _pieces(tokenizer: PreTrainedTokenizerBase) -> Iterable[str]:
    """Tokens from all over the vocabulary, a hundred to a text."""
    spread = range(0, len(tokenizer), max(1, len(tokenizer) // 2000))
    tokens = [str(cast(Any, tokenizer).decode([token], clean_up_tokenization_spaces=False)) for token in spread]
    return (" ".join(tokens[start : start + 100]) for start in range(0, len(tokens), 100))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int] | str:
    """Ids of a text; where it can't be tokenized, why."""
    try:
        return list(cast(Any, tokenizer)(text, verbose=False)["input_ids"])
    except Exception as error:  # tokenizers raises no class of its own
        return one_line(error)


def _differing(text: str, teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str:
    """The first word of a text that differs by itself; the text if it is no single word."""
    differing = (word for word in text.split() if _ids(teacher, word) != _ids(student, word))
    return next(differing, text)


def _shown(ids: list[int] | str) -> str:
    return ids[:60] if isinstance(ids, str) else f"{str(ids[:6])[:-1]}{', ...' if len(ids) > 6 else ''}]"
