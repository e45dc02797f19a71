"""What runs hold at a time does not grow with the number of variables."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.verification import answers
from iit_toolkit.analysis.verification.measured_runs import groups
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.interchange import InterchangeModel
from tests.analysis.verification.test_planted_truth import collate, llama, rows

COMPONENTS = ("block_input", "block_output", "attention_output", "mlp_output", "mlp_activation")


def side(**places: list[str]) -> Any:
    return SimpleNamespace(places=lambda name: set(places[name]))


def test_variables_share_base_runs_that_hold_eight_places() -> None:
    places = {f"v{index}": [f"place {index % 9}"] for index in range(30)}
    own = {name: [name] for name in places}
    first = [f"v{index}" for index in range(30) if index % 9 < 8]
    last = [f"v{index}" for index in range(30) if index % 9 == 8]
    assert groups(list(places), [(side(**places), own)]) == [first, last]
    same = side(**{name: ["one"] for name in places})
    assert groups(list(places), [(same, own)]) == [list(places)]
    assert groups(list(places), [(same, own), (side(**places), own)]) == [first, last], "the model that reads most"
    many = side(a=[f"place {index}" for index in range(12)], b=["place 3"], c=["other"])
    assert groups(["a", "b", "c"], [(many, {name: [name] for name in "abc"})]) == [["a"], ["b", "c"]]
    controls = {"a": ["a", "c"], "b": ["b"]}
    nine = side(a=[f"place {index}" for index in range(7)], b=["other"], c=["control"])
    assert groups(["a", "b"], [(nine, controls)]) == [["a"], ["b"]], "what a control reads is held, too"
    assert groups([], [(same, own)]) == []


def verified(count: int) -> Verification:
    places = [(component, layer) for layer in range(3) for component in COMPONENTS]
    given = [
        {"name": f"v{index}", **dict.fromkeys(("teacher", "student"), [{"component": component, "layer": layer}])}
        for index, (component, layer) in enumerate(places[:count])
    ]
    alignment = Alignment.from_dict({"name": "many", "variables": given})
    model = llama(3)
    options: dict[str, Any] = {"task": "causal_lm", "pairs": 6, "batch_size": 3, "judged": "student"}
    return verify(model, {"student": model}, alignment, rows(6), collate, **options)


def test_a_batch_holds_as_much_of_many_variables_as_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    living: list[weakref.ref[Tensor]] = []
    most: dict[int, int] = {}
    plain_run, plain_answers = InterchangeModel.base_run, answers.log_probabilities

    def counted_run(self: Any, *given: Any, **named: Any) -> Any:
        run = plain_run(self, *given, **named)
        held.append(len(run.activations))
        return run

    def counted_answers(logits: Tensor) -> Tensor:
        found = plain_answers(logits)
        living.append(weakref.ref(found))
        most[count] = max(most.get(count, 0), sum(one() is not None for one in living))
        return found

    monkeypatch.setattr(InterchangeModel, "base_run", counted_run)
    monkeypatch.setattr("iit_toolkit.analysis.verification.verify.log_probabilities", counted_answers)
    found: dict[int, Verification] = {}
    for count in (2, 12):
        found[count] = verified(count)
    assert most[12] <= most[2] < 2 * 12, "of two, unaligned blocks are swapped, too"
    assert 2 < max(held) <= 8
    names = found[12].outcomes["variable"].drop_duplicates().tolist()
    assert names == [f"v{index}" for index in range(12)], "in the alignment's order, not in that of the groups"
    of_two = found[12].outcomes[found[12].outcomes["variable"].isin(["v0", "v1"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_two, found[2].outcomes)
    assert torch.is_grad_enabled()
