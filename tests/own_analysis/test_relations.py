"""The language of two nouns: its pairs differ in one of them, and what follows follows from the right one."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "relations"


@pytest.fixture
def language(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module("language")


PATTERNS = {
    "languages": (r"from (\w+)", r"speaks (\w+) \.$"),
    "places": (r"(?<!near )the (\w+)\b(?! \.)", r"at the (\w+) \.$"),
    "kinds": (r"(?<!beside )the (\w+)\b(?! \.)", r"to (\w+) \.$"),
}
"""How plain Python finds the noun that a text is about, and what follows."""


def followed(language: Any, text: str) -> str:
    """Return what follows from a text, and see that it says so."""
    for name, (noun, value) in PATTERNS.items():
        if said := re.findall(value, text):
            [word] = re.findall(noun, text)
            found = next(value for value, own in language.RELATIONS[name].words.items() if word in own)
            assert said == [found], text
            return found
    raise AssertionError(text)


def test_what_follows_follows_from_the_subject(language: Any) -> None:
    for text in language.texts(500, 0):
        followed(language, text)


@pytest.mark.parametrize("split", ["train", "words", "templates"])
def test_pairs_differ_in_one_noun_and_their_answers(language: Any, split: str) -> None:
    for row in language.pairs(split, 300, 0):
        base, source = row["text"], row["source"]
        spans = {tuple(row["span"]), tuple(row["answer"])}, {tuple(row["source_span"]), tuple(row["source_answer"])}
        cut = [
            re.sub(r"\S+", lambda found, own=own: "_" if found.span() in own else found[0], whole)
            for whole, own in zip((base, source), spans, strict=True)
        ]
        assert cut[0] == cut[1] and cut[0].count("_") == 2
        for whole, prefix in ((base, ""), (source, "source_")):
            start, end = row[f"{prefix}answer"]
            assert whole[start:end] == followed(language, whole)
        assert base[slice(*row["answer"])] != source[slice(*row["source_answer"])]


def test_held_out_words_and_templates_are_in_no_training_pair(language: Any) -> None:
    held = {own[-1] for relation in language.RELATIONS.values() for own in relation.words.values()}
    trained, words, templates = (language.pairs(split, 1000, 3) for split in ("train", "words", "templates"))
    assert not any(held & set(f"{row['text']} {row['source']}".split()) for row in trained)
    for row in words + templates:
        assert row["text"][slice(*row["span"])] in held and row["source"][slice(*row["source_span"])] in held
    openings = {row["text"].split()[0] for row in trained}
    assert {row["text"].split()[0] for row in templates} == {"we", "it"} and not openings & {"we", "it"}


def test_students_never_read_two_held_out_nouns_together_and_test_texts_have_two(language: Any) -> None:
    held = {own[-1] for relation in language.RELATIONS.values() for own in relation.words.values()}
    counts = {
        split: {sum(word in held for word in text.split()) for text in language.texts(2000, 7, held_out=split)}
        for split in (None, False, True)
    }
    assert counts == {None: {0, 1, 2}, False: {0, 1}, True: {2}}


def test_every_value_has_as_many_words_and_no_word_has_two_values(language: Any) -> None:
    for relation in language.RELATIONS.values():
        every = [word for own in relation.words.values() for word in own]
        assert len(every) == len(set(every)) == 40 and not set(every) & set(relation.words)


def test_a_word_is_a_token(language: Any) -> None:
    reads = language.tokenizer()
    for text in language.texts(300, 5):
        ids = reads(text)["input_ids"]
        assert ids[0] == reads.bos_token_id and reads.pad_token_id not in ids
        assert reads.convert_ids_to_tokens(ids[1:]) == text.split()
