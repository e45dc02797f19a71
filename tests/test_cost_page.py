"""The page on costs says what was measured, with either allocator."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import cost_page
from benchmarks.allocators import DEFAULT, KEPT, compared


def test_the_page_is_what_the_numbers_give() -> None:
    assert cost_page.PAGE.read_text(encoding="utf-8") == cost_page.fresh()


def test_steps_are_compared_round_by_round() -> None:
    found = {
        DEFAULT: {"a": [(1.0, 10), (4.0, 30), (9.0, 20)], "b": [(2.0, 1), (2.0, 1), (3.0, 1)]},
        KEPT: {"a": [(0.5, 0), (1.0, 0), (9.0, 0)], "b": [(1.0, 0), (4.0, 0), (9.0, 0)]},
    }
    told = compared(found, ["b"])
    assert told[DEFAULT]["a"] == {"seconds": 4.0, "faults": 20, "ratios": {"b": 2.0}, "to_default": 1.0}
    assert told[KEPT]["a"] == {"seconds": 1.0, "faults": 0, "ratios": {"b": 0.5}, "to_default": 0.5}


@pytest.mark.parametrize(("slower", "said"), [(0.5, "costs 0.50 to 0.50."), (2.0, "less in some settings, more in")])
def test_what_holds_with_one_allocator_only_is_not_claimed(slower: float, said: str) -> None:
    seconds = {cost_page.CAUSAL: 1.0, cost_page.NAIVE: 4.0, cost_page.TEXTBOOK: 2.0, cost_page.PLAIN: 0.5}
    seconds |= {"naive, rows selected by index": 3.0, "plain, textbook, rows selected by index": 2.0}
    kept = {**seconds, cost_page.TEXTBOOK: 1 / slower, "plain, textbook, rows selected by index": 1 / slower}
    taken = {
        setting: {variant: [(one, 5)] for variant, one in some.items()}
        for setting, some in ((DEFAULT, seconds), (KEPT, kept))
    }
    to = (cost_page.NAIVE, cost_page.TEXTBOOK, cost_page.PLAIN)
    results: dict[str, Any] = {"small": {"shape": {"words": 30522}, "allocators": compared(taken, to)}}
    text = cost_page.PARTS["both"](results)
    assert said in text and "0.25 to 0.33 of a naive one and 2.00 to 2.00 times a plain one" in text
