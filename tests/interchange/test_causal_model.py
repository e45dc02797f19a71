"""A program runs batches as a plain loop over rows does, and as pyvene does; what is wrong with one is one line."""

# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pyvene as pv
import torch
from torch import Tensor

from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel

SIZES = {"a": 3, "b": 2, "c": 4, "d": 3, "x": 3, "y": 4, "z": 5, "answer": 3}
PARENTS = {"x": ("a", "b"), "y": ("b", "c", "d"), "z": ("x", "y"), "answer": ("z", "x", "a")}


def tables(seed: int) -> dict[str, dict[tuple[int, ...], int]]:
    """Random functions of whole numbers, as tables."""
    draw = random.Random(seed)
    found: dict[str, dict[tuple[int, ...], int]] = {}
    for name, others in PARENTS.items():
        combinations: list[tuple[int, ...]] = [()]
        for other in others:
            combinations = [(*one, value) for one in combinations for value in range(SIZES[other])]
        found[name] = {one: draw.randrange(SIZES[name]) for one in combinations}
    return found


def vectorised(found: dict[str, dict[tuple[int, ...], int]]) -> CausalModel:
    def function(name: str) -> Callable[..., Tensor]:
        shape = [SIZES[parent] for parent in PARENTS[name]]
        table = torch.tensor(list(found[name].values())).view(shape)
        return lambda *values: table[values]

    return CausalModel(
        {**{name: () for name in SIZES if name not in PARENTS}, **PARENTS},
        {name: function(name) for name in PARENTS},
        {name: range(size) for name, size in SIZES.items()},
        "answer",
    )


def loop(found: dict[str, dict[tuple[int, ...], int]], row: dict[str, int], setting: dict[str, int]) -> dict[str, int]:
    """The plain twin: one row, whole numbers, no tensors."""
    values = {name: setting.get(name, row[name]) for name in row}
    for name, others in PARENTS.items():
        values[name] = setting[name] if name in setting else found[name][tuple(values[one] for one in others)]
    return values


def draws(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = [name for name in SIZES if name not in PARENTS]
    return {name: torch.randint(SIZES[name], (count,), generator=generator) for name in inputs}


def row(batch: dict[str, Tensor], index: int) -> dict[str, int]:
    return {name: int(value[index]) for name, value in batch.items()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("swapped", [("x",), ("y", "a"), ("x", "y", "z"), ("answer",)])
def test_interchanges_equal_a_plain_loop_and_pyvene(seed: int, swapped: Sequence[str]) -> None:
    found, count = tables(seed), 40
    program = vectorised(found)
    base = draws(count, seed)
    sources = {name: draws(count, 100 * seed + place + 1) for place, name in enumerate(swapped)}
    result = program.interchange(base, sources)
    reference = as_pyvene(found)
    converted = CausalModel.from_pyvene(reference)
    again = converted.interchange(base, sources)
    for index in range(count):
        setting = {name: loop(found, row(source, index), {})[name] for name, source in sources.items()}
        expected = loop(found, row(base, index), setting)
        assert {name: int(value[index]) for name, value in result.items()} == expected
        theirs = reference.run_interchange(
            named(row(base, index)), {name: named(row(source, index)) for name, source in sources.items()}
        )
        assert named(expected) == dict(theirs)
        assert {name: converted.values[name][int(value[index])] for name, value in again.items()} == dict(theirs)
    assert torch.equal(program.answers(result), result["answer"])


@pytest.mark.parametrize("seed", range(3))
def test_settings_equal_a_plain_loop(seed: int) -> None:
    found = tables(seed)
    base = draws(30, seed)
    setting = {"x": torch.arange(30) % 3, "c": torch.arange(30) % 4}
    result = vectorised(found).run(base, setting)
    for index in range(30):
        expected = loop(found, row(base, index), row(setting, index))
        assert {name: int(value[index]) for name, value in result.items()} == expected


def named(values: dict[str, int]) -> dict[str, str]:
    """Values that are no numbers, as programs of pyvene may have them."""
    return {name: f"{name}{value}" for name, value in values.items()}


def as_pyvene(found: dict[str, dict[tuple[int, ...], int]]) -> Any:
    def function(name: str) -> Callable[..., str]:
        if name not in PARENTS:
            return lambda: f"{name}0"
        return lambda *values: f"{name}{found[name][tuple(int(value[-1]) for value in values)]}"

    return pv.CausalModel(
        list(SIZES),
        {name: [f"{name}{value}" for value in range(size)] for name, size in SIZES.items()},
        {name: list(PARENTS.get(name, ())) for name in SIZES},
        {name: function(name) for name in SIZES},
    )


def test_every_function_is_called_once_for_a_batch() -> None:
    calls: list[int] = []

    def equal(a: Tensor, b: Tensor) -> Tensor:
        calls.append(len(a))
        return a == b

    program = CausalModel({"a": (), "b": (), "same": ("a", "b")}, {"same": equal}, {"same": (False, True)}, "same")
    vector = torch.arange(1000)
    assert program.answers(program.run({"a": vector, "b": vector.flip(0)})).sum() == 0
    assert calls == [1000]


def test_a_function_of_pyvene_is_called_once_for_a_combination() -> None:
    calls: list[tuple[str, ...]] = []

    def same(a: str, b: str) -> bool:
        calls.append((a, b))
        return a == b

    values = {"a": ["u", "v"], "b": ["u", "v"], "same": [False, True]}
    parents: dict[str, list[str]] = {"a": [], "b": [], "same": ["a", "b"]}
    reference = pv.CausalModel(list(values), values, parents, {"a": lambda: "u", "b": lambda: "u", "same": same})
    calls.clear()  # pyvene runs it once
    program = CausalModel.from_pyvene(reference)
    inputs = {"a": torch.tensor([0, 0, 1, 1] * 50), "b": torch.tensor([0, 1, 0, 1] * 50)}
    for _ in range(3):
        assert program.answers(program.run(inputs))[:4].tolist() == [1, 0, 0, 1]
    assert sorted(calls) == [("u", "u"), ("u", "v"), ("v", "u"), ("v", "v")]


def made(**changes: Any) -> CausalModel:
    parts: dict[str, Any] = {
        "parents": {"a": (), "b": (), "same": ("a", "b")},
        "functions": {"same": lambda a, b: a == b},
        "domains": {"a": range(3), "same": (False, True)},
        "answer": "same",
    }
    return CausalModel(**{**parts, **changes})


def two() -> Tensor:
    return torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            lambda: made(parents={"a": ("same",), "b": (), "same": ("a", "b")}, functions={"a": abs, "same": max}),
            "parents form a cycle: ",
        ),
        (
            lambda: made(parents={"a": (), "same": ("a", "bb")}),
            "variable 'same': the program has no parent 'bb', valid: a, same",
        ),
        (lambda: made(functions={}), "variable 'same' has parents but no function; give both"),
        (
            lambda: made(functions={"a": abs, "same": max}),
            "variable 'a' has a function but no parents; give both, or neither if it is an input",
        ),
        (lambda: made(domains={"sane": (0, 1)}), "domains: the program has no variable 'sane', did you mean \"same\"?"),
        (lambda: made(answer="sum"), "answer: the program has no variable 'sum', valid: a, b, same"),
        (lambda: made(answer="b"), "answer 'b' needs a domain of 2 or more values: they are the classes"),
        (lambda: made().run({"a": two()}), "input 'b' is missing; the program reads: a, b"),
        (
            lambda: made().run({"a": two() + 4, "b": two()}),
            "variable 'a' is 4 in row 0, which is outside its domain [0, 1, 2]",
        ),
        (
            lambda: made().run({"a": two(), "b": two()}, {"same": torch.tensor([0, 2])}),
            "variable 'same' is 2 in row 1, which is outside its domain [False, True]",
        ),
        (
            lambda: made().run({"a": two(), "b": torch.arange(3)}),
            "variable 'b' has 3 rows, others have 2; give one value per row",
        ),
        (
            lambda: made(functions={"same": lambda a, b: a @ b}).run({"a": two(), "b": two()[:, None].float()}),
            "the function of variable 'same' fails on a [2], b [2, 1]: RuntimeError: expected",
        ),
        (
            lambda: made(functions={"same": lambda a: a}).run({"a": two(), "b": two()}),
            "the function of variable 'same' fails on a [2], b [2]: TypeError: ",
        ),
        (
            lambda: made(domains={"a": ("u", "v"), "same": (False, True)}),
            "the domain of variable 'a' holds 'u'; give numbers or booleans, such as range(3)",
        ),
        (
            lambda: made(domains={"a": (), "same": (False, True)}),
            "the domain of variable 'a' is empty; give numbers or booleans, such as range(3)",
        ),
        (
            lambda: made().run({"a": two()[:, None], "b": two()}),
            "variable 'a' has shape [2, 1]; a variable with a domain has one value per row",
        ),
        (
            lambda: made(functions={"same": lambda *_: True}).run({"a": two(), "b": two()}),
            "variable 'same' is a bool; give a tensor with one value per row",
        ),
        (
            lambda: made().run({"a": two(), "b": two()}, {"sane": two()}),
            "setting: the program has no variable 'sane', did you mean \"same\"?",
        ),
        (
            lambda: made().interchange({"a": two(), "b": two()}, {"c": {"a": two(), "b": two()}}),
            "sources: the program has no variable 'c', valid: a, b, same",
        ),
    ],
)
def test_what_is_wrong_is_one_line(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        attempt()
    assert str(caught.value).startswith(message), caught.value
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_program_of_pyvene_is_one_line() -> None:
    values: dict[str, Any] = {"a": [0, 1], "b": [0, 1], "one": [0, 1], "other": [0, 1]}
    parents: dict[str, list[str]] = {"a": [], "b": [], "one": ["a"], "other": ["b"]}
    functions: dict[str, Any] = {"a": lambda: 0, "b": lambda: 0, "one": lambda a: a + 1, "other": lambda b: b}
    reference = pv.CausalModel(list(values), values, parents, functions)
    with pytest.raises(UserError, match=r"the model has 2 outputs \(.*\); name one, answer="):
        CausalModel.from_pyvene(reference)
    program = CausalModel.from_pyvene(reference, "one")
    with pytest.raises(UserError, match=r"variable 'one' is 2 of \[1\], which is outside its domain \[0, 1\]"):
        program.run({"a": torch.tensor([0, 1]), "b": torch.tensor([0, 1])})
    reference.values["b"] = None
    with pytest.raises(UserError, match="variable 'b' has no list of values"):
        CausalModel.from_pyvene(reference, "one")
