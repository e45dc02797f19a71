"""The gallery's question with two choices, against plain Python that reads the words of a prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch

from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.interchange.sides import side_of


@pytest.fixture
def task(gallery_module: Callable[[str], ModuleType]) -> Any:
    return gallery_module("two_choice")


def words(task: Any, rows: Any) -> list[list[str]]:
    return [[task.WORDS[token] for token in row] for row in rows["inputs"].tolist()]


def answer(prompt: Sequence[str]) -> str:
    """Return the letter before the choice that has the last word's colour."""
    *choices, _, colour = prompt
    [letter] = [choices[at - 1] for at in (1, 3) if choices[at] == colour]
    return letter


def facts_and_pairs(prompts: Sequence[Sequence[str]]) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    return {tuple(prompt[4:]) for prompt in prompts}, {(prompt[0], prompt[2]) for prompt in prompts}


def test_answers_and_variables_are_those_of_plain_python(task: Any) -> None:
    training = task.columns(0)
    for rows in (training, task.tests()["test"], task.augmented(training)):
        few = {name: column[:2000] for name, column in rows.items()}
        values = task.program().run(few)
        for place, prompt in enumerate(words(task, few)):
            assert task.WORDS[int(few["labels"][place])] == answer(prompt), prompt
            found = [task.WORDS[int(values[name][place])] for name in ("first", "second", "symbol")]
            assert found == [prompt[0], prompt[2], answer(prompt)]
            assert bool(values["position"][place]) == (prompt[3] == prompt[5])
            assert prompt[4] in task.OBJECTS and len({prompt[0], prompt[2]}) == 2


def test_no_fact_and_no_pair_of_symbols_of_the_tests_is_in_training(task: Any) -> None:
    training, test = task.columns(0), task.tests()["test"]
    facts, pairs = facts_and_pairs(words(task, training) + words(task, task.augmented(training)))
    test_facts, test_pairs = facts_and_pairs(words(task, test))
    assert (len(facts), len(pairs), len(test_facts), len(test_pairs)) == (72, 48, 24, 8)
    assert not facts & test_facts and not pairs & test_pairs
    assert Counter(colour for _, colour in test_facts) == dict.fromkeys(task.COLOURS, 3)
    assert Counter(thing for thing, _ in test_facts) == dict.fromkeys(task.OBJECTS, 2)


def test_training_has_every_prompt_once_and_all_is_balanced(task: Any) -> None:
    training, test = task.columns(0), task.tests()["test"]
    assert len(training["inputs"].unique(dim=0)) == len(training["inputs"]) == 72 * 7 * 48 * 2
    assert training["labels"].bincount().tolist() == [len(training["labels"]) // 8] * 8
    for rows in (training, test):
        later = task.program().run(rows)["position"]
        assert int(later.sum()) * 2 == len(later)
    assert len(test["labels"]) == task.TEST_ROWS
    assert not torch.equal(task.columns(1)["inputs"], training["inputs"])


def test_augmentation_changes_one_variable_by_another_prompt(task: Any) -> None:
    training = task.columns(0)
    before, after = (task.program().run(rows) for rows in (training, task.augmented(training)))
    changed = {name: before[name] != after[name] for name in ("position", "first", "second")}
    assert int(torch.stack(list(changed.values())).sum(0).max()) == 1
    for name, rows in changed.items():
        assert 0.1 < float(rows.float().mean()) < 1 / 3, name
    assert torch.equal(before["inputs"][:, 4:], after["inputs"][:, 4:])


def test_sites_are_the_residual_stream_at_their_tokens(task: Any) -> None:
    network = task.network(0).eval()
    batch = TensorRows({name: column[:8] for name, column in task.columns(0).items()}).batch(torch.arange(8))
    states: list[torch.Tensor] = []
    for block in network.model.transformer.h:
        block.register_forward_hook(lambda _module, _inputs, output: states.append(output))
    with torch.no_grad():
        side = side_of(network, task.TASK.alignment(), "student")
        run = side.base_run(side.reads(batch), task.SITES)
    found = {name: side.aligned_activation(run, name)[:, 0] for name in task.SITES}
    assert [state.shape for state in states] == [(8, 6, task.WIDTH)] * 2
    for name, place in (("first", 1), ("second", 3), ("position", 5)):
        assert torch.equal(found[name], states[0][:, place])
    assert torch.equal(found["symbol"], states[1][:, 5, : task.PART])


def test_no_token_of_a_choice_knows_the_fact(task: Any) -> None:
    network = task.network(0).eval()
    inputs = task.columns(0)["inputs"][:4]
    other = inputs.clone()
    other[:, 4:] = inputs[:, 4:].roll(1, 0)
    letters = inputs.clone()
    letters[:, 0] = (inputs[:, 0] + 1) % len(task.SYMBOLS)
    with torch.no_grad():
        own, facts, symbols = (
            network.model.transformer(input_ids=rows, output_hidden_states=True).hidden_states[1]
            for rows in (inputs, other, letters)
        )
    assert torch.equal(own[:, : task.OBJECT], facts[:, : task.OBJECT])
    assert not torch.equal(own[:, task.FACT], facts[:, task.FACT])
    assert not torch.equal(own[:, task.FIRST], symbols[:, task.FIRST])
