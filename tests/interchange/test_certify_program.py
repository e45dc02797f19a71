"""Programs are certified on data, and pairs are drawn in balance."""

# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.certify_program import balanced_pairs, certify_program
from tests.programs import equality, equality_rows


def rare() -> CausalModel:
    """Says whether a number of two digits is 7 in both; a swap of a digit changes that in few pairs."""

    def digit(divisor: int) -> Callable[[Tensor], Tensor]:
        return lambda number: number // divisor % 10

    return CausalModel(
        {"number": (), "tens": ("number",), "ones": ("number",), "unread": ("tens",), "hit": ("tens", "ones")},
        {
            "tens": digit(10),
            "ones": digit(1),
            "unread": lambda tens: tens,
            "hit": lambda tens, ones: (tens == 7) & (ones == 7),
        },  # pyright: ignore[reportArgumentType]
        {"tens": range(10), "ones": range(10), "unread": range(10), "hit": (False, True)},
        "hit",
    )


def test_a_sound_program_passes_and_tells_its_shares() -> None:
    rows = equality_rows(4000)
    answers, left, right = certify_program(equality(), rows, rows["labels"], ["left", "right"])
    assert answers.passed and answers.detail == "as the labels of all 4,000 rows"
    for check in (left, right):  # the source's variable is the other in half of all pairs, and flips the answer
        assert check.passed
        share = float(check.detail.split("in ")[1].split("%")[0])
        assert 46 < share < 54


def test_labels_that_the_program_contradicts_fail() -> None:
    rows = equality_rows(40)
    labels = rows["labels"].clone()
    labels[5] = 1 - labels[5]
    found = certify_program(equality(), rows, labels, ["left"])[0]
    assert not found.passed
    assert found.detail.startswith("in 1 of 40 rows it answers otherwise than the labels: in row 5 it gives class ")


def test_a_variable_that_never_changes_the_answer_fails() -> None:
    numbers = torch.arange(100)
    checks = certify_program(rare(), {"number": numbers}, (numbers == 77).long(), ["tens", "unread"])
    assert [check.passed for check in checks] == [True, True, False]
    assert checks[2].detail == ("never changes the answer in 100 rows; align a variable that the answer depends on")


def test_a_variable_that_could_change_the_answer_passes_without_a_pair_that_shows_it() -> None:
    numbers = torch.tensor([17, 27, 37])  # no source has another digit 7 for the tens
    check = certify_program(rare(), {"number": numbers}, torch.zeros(3).long(), ["tens"])[1]
    assert check.passed and check.detail == "changes the answer in 0.0% of 3 random pairs"


def test_unknown_variables_are_one_line() -> None:
    rows = equality_rows(8)
    with pytest.raises(UserError, match="alignment: the program has no variable 'rihgt', did you mean \"right\"?"):
        certify_program(equality(), rows, rows["labels"], ["rihgt"])


def shares(
    program: CausalModel, inputs: dict[str, Tensor], base: Tensor, source: Tensor
) -> dict[tuple[int, bool], float]:
    """The share of each new answer with each of changed and unchanged, by a plain loop."""
    counts: dict[tuple[int, bool], float] = {}
    for one, other in zip(base.tolist(), source.tolist(), strict=True):
        before, after = (
            int(program.answers(values))
            for values in (
                program.run({"number": inputs["number"][one : one + 1]}),
                program.interchange(
                    {"number": inputs["number"][one : one + 1]},
                    {"tens": {"number": inputs["number"][other : other + 1]}},
                ),
            )
        )
        key = (after, after != before)
        counts[key] = counts.get(key, 0.0) + 1 / len(base)
    return counts


def test_balanced_pairs_show_every_kind_equally_often() -> None:
    inputs = {"number": torch.arange(100)}
    base, source = balanced_pairs(rare(), inputs, "tens", 400, torch.Generator().manual_seed(0))
    assert shares(rare(), inputs, base, source) == pytest.approx(
        {(0, False): 0.25, (0, True): 0.25, (1, False): 0.25, (1, True): 0.25}
    )
    again = balanced_pairs(rare(), inputs, "tens", 400, torch.Generator().manual_seed(0))
    assert torch.equal(base, again[0]) and torch.equal(source, again[1])


def test_balance_needs_a_change() -> None:
    with pytest.raises(UserError, match="variable 'unread' changes the answer in none of 640 random pairs"):
        balanced_pairs(rare(), {"number": torch.arange(100)}, "unread", 10, torch.Generator())
