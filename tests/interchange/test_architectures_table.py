"""The table of model classes is that of the command, holds no fault, and some of its lines are found again."""

from __future__ import annotations

import json

import pytest

from benchmarks.architectures import DOCS, VERBS, document, try_class
from tests.model_classes import MODEL_CLASSES

TABLE = json.loads((DOCS / "model-classes.json").read_text(encoding="utf-8"))["classes"]


def test_the_document_lists_the_classes_of_the_command() -> None:
    assert list(TABLE) == list(MODEL_CLASSES)
    written = (DOCS / "model-classes.md").read_text(encoding="utf-8")
    assert written.partition("| class")[2] == document(TABLE).partition("| class")[2]


def test_every_class_is_right_or_refused_in_one_line() -> None:
    assert len(TABLE) >= 70
    assert {name: one["faults"] for name, one in TABLE.items() if one["faults"]} == {}
    for name, one in TABLE.items():
        said = [*one["right"], *one["refused"]]
        assert set(said) <= set(VERBS) and len(said) == len(set(said)), name
        verbs = set(VERBS) - ({"verify"} if one["kind"] == "vision" else set())  # it goes over rows of text
        verbs -= {"reload"} if "student" in one["refused"] else set()
        assert "certify" in one["refused"] or set(said) == verbs, name
        assert all("\n" not in line and len(line) <= 400 for line in one["refused"].values()), name
    assert sum("certify" in one["right"] for one in TABLE.values()) >= 70


@pytest.mark.parametrize(
    "name",
    [
        "MPNetForMaskedLM",
        "XLMWithLMHeadModel",
        "Gemma4ForCausalLM",
        "GptOssForCausalLM",
        "Lfm2ForCausalLM",
        "JambaForCausalLM",
        "T5ForSequenceClassification",
        "GPT2ForSequenceClassification",
    ],
)
def test_a_class_is_as_the_table_says(name: str) -> None:
    found = try_class(name)
    for key in ("kind", "blocks", "start", "refused", "faults"):
        assert found[key] == TABLE[name][key]
    assert list(found["right"]) == list(TABLE[name]["right"])
