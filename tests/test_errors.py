"""Messages are one bounded line, whatever they repeat."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Strict, TypeAdapter, ValidationError, field_validator
from torch.utils.data import DataLoader

from iit_toolkit.errors import MAX_MESSAGE, UserError, did_you_mean, listed, mistakes, on_one_line, shown


class _Section(BaseModel):
    switch: Annotated[bool, Strict()]

    @field_validator("switch")
    @classmethod
    def _on(cls, switch: bool) -> bool:
        if not switch:
            raise ValueError("Nothing is on")
        return switch


def test_of_a_worker_only_the_mistake_is_told() -> None:
    def broken(_rows: object) -> object:
        raise UserError("data: a row is empty; give a text")

    loader: Any = DataLoader([1, 2], num_workers=1, collate_fn=broken)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="^data: a row is empty; give a text$"):
        list(loader)


@pytest.mark.parametrize(
    "given",
    [
        "x" * 100_000,
        "a\nb\r\nc\td",
        "\x1b[31mred\x1b[0m \x07 \x9b31m",
        "zero\u200bwidth, \u202egnp.exe, \u2028line, \ufeffmark",
        "\udcc3\udca4 half of a character",
        "\x00",
    ],
)
def test_a_message_is_one_bounded_printable_line(given: str) -> None:
    told = str(UserError(f"here: {given}; give another"))
    assert told.isprintable() and len(told) <= MAX_MESSAGE
    assert told.startswith("here: ") and told.endswith("; give another")


def test_what_is_fine_stays_as_it_is() -> None:
    for text in ("config a.yaml: seed: wrong", "Größe 3 € 字", 'name "x" — no'):
        assert str(UserError(text)) == text
    assert on_one_line("a\x1b[1m") == "a\\x1b[1m"


def test_values_are_shown_short_or_by_their_kind() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert shown("a" * 100) == "'" + "a" * 59 + "…"
    assert shown(10**5000) == "a value of type int"
    assert shown(endless) == "[[...]]"


def test_lists_say_how_many_more() -> None:
    assert listed([]) == "none"
    assert listed(f"a{index}" for index in range(3)) == "a0, a1, a2"
    assert listed(map(str, range(1500))).endswith("10, 11 and 1,488 more")
    assert len(listed(["x" * 1000] * 1000)) < 900


def test_a_near_name_is_offered_and_many_are_not_compared() -> None:
    assert did_you_mean("layer", ["layers", "config"]) == 'did you mean "layers"?'
    assert did_you_mean("zzz", ["layers", "config"]) == "valid: config, layers"
    assert did_you_mean("a" * 10**6, ["layers"]) == "valid: layers"
    assert len(did_you_mean("x", [f"name{index}" for index in range(50_000)])) < 300


def test_mistakes_that_pydantic_found_have_place_words_and_remedy() -> None:
    adapter = TypeAdapter(dict[str, list[_Section]])
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python({"a": [{"switch": "yes"}, {"switch": False}, {}]})
    found = [(one.place, one.kind, one.inside, one.given, one.remedy) for one in mistakes(caught.value)]
    assert found == [
        ("a.0.switch", "bool_type", "input should be a valid boolean", "yes", "; write true or false"),
        ("a.1.switch", "value_error", "nothing is on", False, ""),
        ("a.2.switch", "missing", "this key is missing", {}, ""),
    ]
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(3)
    assert mistakes(caught.value)[0].place == ""
