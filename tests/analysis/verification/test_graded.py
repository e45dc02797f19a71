"""Graded measures against a plain loop: whole distributions in float64, one case and one answer after another."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.measures import Score
from iit_toolkit.analysis.statistics.quantities import NOTICEABLE
from iit_toolkit.analysis.statistics.summary import VariableSummary, summarise
from iit_toolkit.analysis.verification import answers
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.data.collate import CausalLanguageCollator, ClassificationCollator, MaskedLanguageCollator
from tests.downstream.tiny import tiny_tokenizer
from tests.golden.trajectories import TASKS, model, rows
from tests.twin import capturing, run, swapping

BLOCKS = {
    "masked_lm": "bert.encoder.layer",
    "causal_lm": "model.layers",
    "sequence_classification": "bert.encoder.layer",
}
NAMES = (
    "teacher_effect",
    "student_effect",
    "effect_error",
    "teacher_moved",
    "student_moved",
    "kl",
    "kl_cf",
    "kl_ignored",
)
ALIGNMENT = Alignment.from_dict(
    {
        "name": "x",
        "variables": [
            {
                "name": "v",
                "teacher": [{"component": "block_output", "layer": 1}],
                "student": [{"component": "block_output", "layer": 0}],
            }
        ],
        "positions": {"kind": "span", "fraction": 0.4},
    }
)
LAYERS = {"teacher": 1, "student": 0}


def settings(task: str) -> dict[str, Any]:
    collator: Any = {
        "masked_lm": lambda: MaskedLanguageCollator(tiny_tokenizer(), probability=0.3),
        "causal_lm": lambda: CausalLanguageCollator(tiny_tokenizer()),
        "sequence_classification": lambda: ClassificationCollator(tiny_tokenizer()),
    }[task]()
    return {"rows": rows(paired=False), "collator": collator, "task": task, "pairs": 24, "batch_size": 7, "seed": 3}


def models(task: str) -> dict[str, Any]:
    return {"teacher": model(task, 3, 16).eval(), "student": model(task, 2, 16).eval()}


def verified(task: str, both: dict[str, Any]) -> Verification:
    given = settings(task)
    found, collator = given.pop("rows"), given.pop("collator")
    return verify(both["teacher"], {"student": both["student"]}, ALIGNMENT, found, collator, **given)


def plain(task: str, both: dict[str, Any]) -> dict[tuple[int, int], dict[str, float]]:
    """Every case by base and position, with the sums of its effects."""
    given = settings(task)
    drawn = draw_pairs(positions=ALIGNMENT.positions, sources=ALIGNMENT.sources, what="plain", **given)
    found: dict[tuple[int, int], dict[str, float]] = {}
    for pairs in drawn:
        inputs = {name: pairs.base[name] for name in ("input_ids", "attention_mask")}
        chances: dict[str, tuple[Tensor, Tensor]] = {}
        for name, one in both.items():
            precise = copy.deepcopy(one).double()
            place = (f"{BLOCKS[task]}.{LAYERS[name]}", "output")
            with torch.no_grad(), capturing(precise, [place]) as captured:
                base, _ = run(precise, inputs)
            with torch.no_grad(), swapping(precise, place, captured[0], pairs.swap, [(0, 16)]):
                swapped, _ = run(precise, inputs)
            chosen = torch.arange(pairs.bases) if pairs.cases.tokens is None else pairs.cases.tokens.flatten()
            chances[name] = base[chosen].softmax(-1), swapped[chosen].softmax(-1)
        for case in range(len(pairs.cases.base)):
            (before, after), (mine, mine_after) = (
                tuple(one[case].tolist() for one in chances[name]) for name in ("teacher", "student")
            )
            sums = dict.fromkeys(NAMES, 0.0)
            for p, q, r, s in zip(before, after, mine, mine_after, strict=True):
                sums["teacher_effect"] += (q - p) ** 2
                sums["student_effect"] += (s - r) ** 2
                sums["effect_error"] += ((s - r) - (q - p)) ** 2
                sums["teacher_moved"] += abs(q - p) / 2
                sums["student_moved"] += abs(s - r) / 2
                sums["kl"] += p * math.log(p / r)
                sums["kl_cf"] += q * math.log(q / s)
                sums["kl_ignored"] += q * math.log(q / r)
            sums["inside"] = float(pairs.cases.inside[case])
            found[int(pairs.cases.base[case]), int(pairs.cases.position[case])] = sums
    return found


def measured(found: Verification) -> VariableSummary:
    return summarise(found.outcomes, resamples=100).students["student"].variables["v"]


@pytest.mark.parametrize("task", TASKS)
def test_every_sum_and_both_measures_are_those_of_a_plain_loop(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_ELEMENTS", 100)  # two or three cases at a time
    both = models(task)
    found, expected = verified(task, both), plain(task, both)
    cases = found.outcomes.set_index(["base", "position"])
    assert set(cases.index) == set(expected)
    for key, sums in expected.items():
        row = cases.loc[key]
        for name in NAMES:
            assert row[name] == pytest.approx(sums[name], rel=2e-4, abs=2e-6), (key, name)
    outside = [sums for sums in expected.values() if not sums["inside"]]
    total = {name: sum(one[name] for one in outside) for name in NAMES}
    one = measured(found)
    assert total["teacher_effect"] > 0.01
    assert one.estimate("effect_r2").value == pytest.approx(
        1 - total["effect_error"] / total["teacher_effect"], rel=1e-4
    )
    assert one.estimate("kl_recovered").value == pytest.approx(1 - total["kl_cf"] / total["kl_ignored"], rel=1e-4)
    affected = sum(sums["teacher_effect"] > NOTICEABLE for sums in outside)
    assert one.estimate("effect_r2").cases == one.estimate("kl_recovered").cases == affected


@pytest.mark.parametrize("task", TASKS)
def test_a_student_scores_one_as_its_teacher_and_nothing_without_reacting(task: str) -> None:
    teacher = models(task)["teacher"]
    same = Alignment.from_dict(
        {**ALIGNMENT.to_dict(), "variables": [{"name": "v", "teacher": [SITE], "student": [SITE]}]}
    )
    given = settings(task)
    found, collator = given.pop("rows"), given.pop("collator")
    copied = verify(teacher, {"student": copy.deepcopy(teacher)}, same, found, collator, **given)
    assert measured(copied).estimate("effect_r2").value == pytest.approx(1.0, abs=1e-6)
    assert measured(copied).estimate("kl_recovered").value == pytest.approx(1.0, abs=1e-4)
    deaf = copied.outcomes.assign(
        effect_error=copied.outcomes["teacher_effect"], student_effect=0.0, kl_cf=copied.outcomes["kl_ignored"]
    )
    silent = summarise(deaf, resamples=100).students["student"].variables["v"]
    for name in ("effect_r2", "kl_recovered"):
        estimate = silent.estimate(name)
        assert (estimate.value, estimate.low, estimate.high) != (0.0, 0.0, 0.0) and estimate.value == 0.0


SITE = {"component": "block_output", "layer": 1}


def test_without_an_effect_nothing_is_defined(task: str = "masked_lm") -> None:
    both = models(task)
    found = verified(task, both)
    still = found.outcomes.assign(teacher_effect=NOTICEABLE / 2, effect_error=0.1)
    one = summarise(still, resamples=100).students["student"].variables["v"]
    for name in ("effect_r2", "kl_recovered"):
        estimate = one.estimate(name)
        assert (estimate.value, estimate.low, estimate.high, estimate.cases) == (None, None, None, 0)


def test_the_floor_of_what_is_explained_is_zero_by_definition() -> None:
    from iit_toolkit.analysis.statistics.measures import MEASURES, estimate
    from iit_toolkit.analysis.statistics.quantities import resample_variable

    found = verified("masked_lm", models("masked_lm"))
    resampled = resample_variable(found.outcomes, "v", resamples=100, seed=0)
    floor = estimate(resampled, Score(MEASURES["effect_r2"], "student").floor)
    assert (floor.value, floor.low, floor.high) == (0.0, 0.0, 0.0)
