"""The neurons of a trace: attribution against finite differences through hand-written hooks, and three planted ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.teacher_neurons import NeuronShare, TraceNeurons, numbers_of_neurons, ranked
from iit_toolkit.analysis.statistics.teacher_trace import Place, Trace, TraceCell
from iit_toolkit.analysis.verification.cases import Pairs, draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.analysis.verification.trace import trace, traced_policy
from iit_toolkit.analysis.verification.trace_neurons import DRAWS, find_neurons
from iit_toolkit.data.batch import model_inputs
from iit_toolkit.data.collate import collator_for
from iit_toolkit.errors import UserError
from tests.analysis.verification.test_trace import TASKS, mover, plain_swap, rows, teacher_of
from tests.downstream.tiny import tiny_tokenizer
from tests.families import FAMILIES, HIDDEN
from tests.twin import capturing, hook, run, twin

LAYER = 1


def held_at(layer: int, paired: bool, task: str, component: str = "block_output", layers: int = 3) -> Trace:
    """A trace after which the place to swap is one block."""

    def estimate(value: float) -> Estimate:
        return Estimate(value, None, None, 10, 10)

    kind = "differing" if paired else "span"
    cells = [
        TraceCell(Place(number, component, None, kind), *(estimate(float(number <= layer)) for _ in range(3)))
        for number in range(layers)
    ]
    return Trace(task, paired, layers, tuple(cells))


def many_rows(paired: bool) -> list[dict[str, Any]]:
    """Rows, each four times with other tokens."""
    found: list[dict[str, Any]] = []
    for turn in range(4):
        for row in rows(paired):
            number = len(found)
            new = {**row, "example_id": number, "text_id": number}
            if paired:
                new |= {"source_example_id": 1000 + number, "source_text_id": 1000 + number}
            for name in {"input_ids", "source_input_ids"} & set(row):
                new[name] = [5 + (token + 3 * turn) % 33 if token > 4 else token for token in row[name]]
            found.append(new)
    return found


def half(paired: bool, task: Any, first: int) -> list[Pairs]:
    """The pairs of every second row, from the first or the second on."""
    positions, sources = traced_policy(paired)
    settings: dict[str, Any] = {"task": task, "pairs": 48, "batch_size": 48, "seed": 0, "what": "testing"}
    return list(
        draw_pairs(many_rows(paired)[first::2], collator_for(task, tiny_tokenizer(), 0), positions, sources, **settings)
    )


def plain_attribution(family: str, paired: bool, component: str) -> Tensor:
    """Of every third neuron, by central differences: it is moved a little towards the source's value, by a hook."""
    task, model, step = TASKS[family], teacher_of(family), 1e-4
    names = FAMILIES["bert" if family == "classifier" else family]
    place, [pairs] = names.module({"layer": LAYER, "component": component}), half(paired, task, 0)
    inputs, swap, tokens = model_inputs(pairs.base), pairs.swap, pairs.cases.tokens
    source_inputs = inputs if pairs.source is None else model_inputs(pairs.source)
    with capturing(model, [place]) as own:
        base, _ = run(model, inputs)
    with capturing(model, [place]) as others:
        source, _ = run(model, source_inputs)
    change = torch.zeros_like(own[0])
    for row, position in swap.mask.nonzero().tolist():
        taken = others[0][swap.source[row], swap.source_position[row, position]]
        change[row, position] = taken - own[0][row, position]

    def moved(by: Tensor) -> Tensor:
        handle = hook(model.get_submodule(place[0]), place[1], lambda value: value + by)
        logits, _ = run(model, inputs)
        handle.remove()
        return logits

    length = swap.mask.shape[1]
    counted = [row for row in range(pairs.bases) if swap.mask[row].any()]
    if tokens is not None:
        asked = [(row, position) for row, position in tokens.nonzero().tolist() if not swap.mask[row, position]]
        counted = [row * length + position for row, position in asked if row in counted]
    swapped = moved(change)
    counterparts = plain_swap(pairs, "answer", task) if paired and tokens is not None else None

    def other_answer(case: int) -> int:
        if not paired:
            return int(swapped[case].argmax())
        if counterparts is None:
            return int(source[swap.source[case]].argmax())
        row, position = divmod(case, length)
        if not counterparts.mask[row, position]:
            return int(base[case].argmax())
        first = int(swap.source[row]) * source_inputs["input_ids"].shape[1]
        return int(source[first + int(counterparts.source_position[row, position])].argmax())

    answers = [(case, other_answer(case), int(base[case].argmax())) for case in counted]

    def mean(by: Tensor) -> Tensor:
        logits = moved(by)
        return torch.stack([logits[case, other] - logits[case, own] for case, other, own in answers]).mean()

    slopes: list[Tensor] = []
    for neuron in range(0, change.shape[-1], 3):
        by = torch.zeros_like(change)
        by[..., neuron] = step * change[..., neuron]
        slopes.append((mean(by) - mean(-by)) / (2 * step))
    return torch.stack(slopes)


@pytest.mark.parametrize("component", ["block_output", "mlp_activation"])
@pytest.mark.parametrize("paired", [True, False], ids=["pairs", "text"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "classifier"])
def test_attribution_is_that_of_finite_differences(family: str, paired: bool, component: str) -> None:
    trace_of = held_at(LAYER, paired, TASKS[family], component)
    found = find_neurons(
        teacher_of(family), many_rows(paired), trace_of, tokenizer=tiny_tokenizer(), batch_size=13, resamples=20
    )  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        plain = plain_attribution(family, paired, component)
    ours = torch.tensor(found.attribution, dtype=torch.float64)[::3]
    assert float(plain.abs().max()) > 1e-4
    assert float((ours - plain).abs().max()) < 1e-6 * float(plain.abs().max())
    assert (found.place.layer, found.place.component) == (LAYER, component)
    assert {name for name, weight in teacher_of(family).named_parameters() if weight.grad is not None} == set()


PLANTED = (3, 17, 29)
BLOCK = 2


def planted() -> Any:
    """A teacher in which what a token tells others is read from three neurons of block 1's output alone."""
    model = mover(BLOCK)
    block = model.model.layers[BLOCK]
    block.input_layernorm = torch.nn.Identity()  # it would let every neuron have a say in the scale
    attention = block.self_attn
    with torch.no_grad():
        for one in (attention.q_proj, attention.k_proj):
            one.weight.zero_()  # every token reads all before it alike
        rest = [neuron for neuron in range(HIDDEN) if neuron not in PLANTED]
        attention.v_proj.weight[:, rest] = 0
        attention.o_proj.weight.mul_(3)
    return model.double()


def neurons_of_planted(**options: Any) -> TraceNeurons:
    model, pairs = planted(), many_rows(True)
    given: dict[str, Any] = {"tokenizer": tiny_tokenizer(), "pairs": 48, "resamples": 200}
    found = trace(model, pairs, components=["block_output"], **given)
    return find_neurons(model, pairs, found, **{**given, **options})


def test_planted_neurons_are_found_and_change_as_much_as_all() -> None:
    found = neurons_of_planted()
    assert found.place == Place(BLOCK - 1, "block_output", None, "differing")
    assert set(found.order[:3]) == set(PLANTED)
    assert [found.attribution[neuron] for neuron in found.order[3:]] == [0.0] * (HIDDEN - 3)
    by_number = {one.neurons: one for one in found.shares}
    assert list(by_number) == [1, 2, 4, 8, 16, 32]
    every = by_number[HIDDEN].chosen.value or 0.0
    assert every > 0.2 and by_number[4].chosen.value == every
    random, lead = by_number[4].random, by_number[4].lead
    assert random is not None and (random.value or 0.0) < every / 2
    assert lead is not None and (lead.low or 0.0) > 0.1
    assert found.enough is not None and found.enough.neurons <= 4
    assert by_number[HIDDEN].random is None and by_number[HIDDEN].lead is None


def test_a_wrong_order_is_seen_by_the_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least instead of the largest attribution."""
    right = Runs.first_order
    monkeypatch.setattr(Runs, "first_order", lambda runs, *given: -right(runs, *given))
    found = neurons_of_planted()
    assert not set(found.order[:16]) & set(PLANTED)
    by_number = {one.neurons: one for one in found.shares}
    assert by_number[16].chosen.value == 0.0 and (by_number[HIDDEN].chosen.value or 0.0) > 0.2
    assert found.enough is not None and found.enough.neurons == HIDDEN


@pytest.mark.parametrize("paired", [True, False], ids=["pairs", "text"])
def test_swaps_are_those_of_hand_written_hooks(paired: bool) -> None:
    trace_of = held_at(LAYER, paired, "masked_lm")
    model = teacher_of("bert")
    found = find_neurons(model, many_rows(paired), trace_of, tokenizer=tiny_tokenizer(), resamples=20)  # pyright: ignore[reportArgumentType]
    generator = np.random.default_rng(0)
    draws = [generator.permutation(HIDDEN) for _ in range(DRAWS)]
    for number in (1, 4, 16):
        shares: list[float] = []
        for order in (found.order, *draws):
            changed = 0
            for pairs in half(paired, "masked_lm", 1):
                sites = [
                    {"layer": LAYER, "component": "block_output", "neurons": [int(neuron), int(neuron) + 1]}
                    for neuron in order[:number]
                ]
                source = None if pairs.source is None else model_inputs(pairs.source)
                with torch.no_grad():
                    answers = twin(model, FAMILIES["bert"], sites, model_inputs(pairs.base), pairs.swap, source)
                assert pairs.cases.tokens is not None
                counted = (pairs.cases.tokens & pairs.swap.mask.any(1)[:, None] & ~pairs.swap.mask).flatten()
                different = answers.base.argmax(-1) != answers.counterfactual.argmax(-1)
                changed += int((different & counted).sum())
            shares.append(changed)
        [one] = [one for one in found.shares if one.neurons == number]
        assert one.random is not None and one.chosen.value is not None and one.random.value is not None
        assert one.chosen.value * one.chosen.cases == pytest.approx(shares[0])
        assert one.random.value * one.chosen.cases == pytest.approx(np.mean(shares[1:]))


def test_no_number_depends_on_the_batch() -> None:
    once, often = (neurons_of_planted(batch_size=size) for size in (48, 7))
    assert once.shares == often.shares and once.cases == often.cases
    np.testing.assert_allclose(once.attribution, often.attribution, rtol=1e-9, atol=1e-12)


def test_rows_that_rank_share_no_text_with_those_that_check(monkeypatch: pytest.MonkeyPatch) -> None:
    from iit_toolkit.analysis.verification import trace_neurons

    texts: list[set[int]] = []
    right = trace_neurons._drawn

    def spied(some: Any, *given: Any, **named: Any) -> Any:
        texts.append({row["text_id"] for row in some})
        return right(some, *given, **named)

    monkeypatch.setattr(trace_neurons, "_drawn", spied)
    several = [{**row, "text_id": number // 3} for number, row in enumerate(rows(False))]
    find_neurons(
        teacher_of("llama"), several, held_at(LAYER, False, "causal_lm"), tokenizer=tiny_tokenizer(), resamples=20
    )  # pyright: ignore[reportArgumentType]
    assert texts[0] and texts[1] and not texts[0] & texts[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": None}, "trace needs the tokenizer"),
        ({"rows": rows(True)[:3]}, "2 rows to find neurons by and 1 to check them; give 2 or more for each"),
        ({"found": held_at(5, True, "causal_lm", layers=6)}, "LlamaForCausalLM has layers 0 to 2"),
        ({"found": held_at(-1, True, "causal_lm")}, "no neurons can be found: swaps of differing positions change"),
    ],
)
def test_bad_input_gives_one_line(change: dict[str, Any], message: str) -> None:
    given = {"rows": rows(True), "found": held_at(LAYER, True, "causal_lm"), "tokenizer": tiny_tokenizer(), **change}
    with pytest.raises(UserError, match=message) as told:
        find_neurons(teacher_of("llama"), **given)
    assert "\n" not in str(told.value)


def test_where_no_answer_differs_nothing_is_ranked() -> None:
    """The trace says there is an effect; in this teacher, the swap of its last block has none."""
    with pytest.raises(UserError, match="no neurons can be found: in .* cases, no answer of a source differs"):
        find_neurons(mover(None), rows(False), held_at(1, False, "causal_lm"), tokenizer=tiny_tokenizer(), resamples=20)  # pyright: ignore[reportArgumentType]


def test_how_many_neurons_are_tried() -> None:
    tried = {width: numbers_of_neurons(width) for width in (1, 2, 3, 4, 5, 9)}
    assert tried == {1: (1,), 2: (1, 2), 3: (1, 2, 3), 4: (1, 2, 4), 5: (1, 2, 4, 5), 9: (1, 2, 4, 8, 9)}
    assert ranked((0.5, -1.0, 2.0, 0.5)) == (2, 0, 3, 1)


@pytest.mark.parametrize(
    ("shares", "enough"), [((0.1, 0.45, 0.5), 2), ((0.1, 0.44, 0.5), 3), ((0.5, 0.2, 0.5), 1), ((0.1, 0.0, 0.0), None)]
)
def test_how_many_neurons_are_enough(shares: tuple[float, ...], enough: int | None) -> None:
    several = tuple(
        NeuronShare(number, Estimate(share, None, None, 10, 10)) for number, share in enumerate(shares, start=1)
    )
    found = TraceNeurons(Place(1, "block_output", None, "differing"), (0.2, 0.7, -0.1), 20, several)
    assert (None if found.enough is None else found.enough.neurons) == enough
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["order"] == [1, 0, 2] and plain["attribution"] == [0.7, 0.2, -0.1]
    assert plain["shares"][0]["chosen"] == shares[0] and plain["shares"][0]["random"] is None
