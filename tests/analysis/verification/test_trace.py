"""The trace of a teacher: shares of a plain recomputation, a planted mover of information, and a real teacher."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from datasets import Dataset
from torch import Tensor

import iit_toolkit as iit
from iit_toolkit.alignment.positions import DifferingPositions, SpanPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.teacher_trace import AT_ANSWERS, Trace
from iit_toolkit.analysis.verification.cases import Pairs, draw_pairs
from iit_toolkit.analysis.verification.teacher_effects import weak_variables
from iit_toolkit.analysis.verification.trace import propose, trace
from iit_toolkit.data.batch import model_inputs
from iit_toolkit.data.collate import MaskedLanguageCollator, collator_for
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from iit_toolkit.interchange.engine import ResolvedSite
from tests.downstream.tiny import tiny_tokenizer
from tests.families import FAMILIES, HEADS, LLAMA_LIKE, bert_config, make_model, with_large_weights
from tests.golden.trajectories import rows as plain_rows
from tests.twin import twin

TASKS = {"bert": "masked_lm", "gpt2": "causal_lm", "llama": "causal_lm", "classifier": "sequence_classification"}
COMPONENTS = ("block_output", "attention_output", "mlp_output")


@cache
def teacher_of(family: str) -> Any:
    if family != "classifier":
        return make_model(family, torch.float64).eval()
    model = tf.BertForSequenceClassification(bert_config(num_labels=3))
    return with_large_weights(model, torch.float64).eval()


def rows(paired: bool) -> list[dict[str, Any]]:
    """Rows of several lengths; in every third pair the source has one token more before the swapped words."""
    found = plain_rows(paired)
    for row in found[::3] if paired else ():
        first = row["positions"][0]
        source: list[int] = row["source_input_ids"]
        row["source_input_ids"] = [*source[:first], 6, *source[first:]]
        row["source_positions"] = [place + 1 for place in row["positions"]]
    return found


def traced(family: str, paired: bool, **options: Any) -> Trace:
    return trace(
        teacher_of(family),
        rows(paired),
        tokenizer=tiny_tokenizer(),
        task=TASKS[family],
        pairs=16,
        batch_size=7,
        **options,
    )  # pyright: ignore[reportArgumentType]


@cache
def batches(family: str, paired: bool) -> list[Pairs]:
    """The pairs, with their cases and first kind of positions: what is measured, as everywhere."""
    task: Any = TASKS[family]
    positions, sources = (DifferingPositions(), Sources(kind="paired")) if paired else (SpanPositions(), Sources())
    collator = collator_for(task, tiny_tokenizer(), 0)
    settings: dict[str, Any] = {"task": task, "pairs": 16, "batch_size": 16, "seed": 0, "what": "testing"}
    return list(draw_pairs(rows(paired), collator, positions, sources, **settings))


def plain_swap(pairs: Pairs, kind: str, task: str) -> Swap:
    """The positions of a kind, one after another."""
    if kind in ("differing", "span"):
        return pairs.swap
    source = pairs.base if pairs.source is None else pairs.source
    mask = torch.zeros_like(pairs.swap.mask)
    taken = torch.zeros_like(pairs.swap.source_position)
    for row in range(pairs.bases):
        other = int(pairs.swap.source[row])
        lengths = int(pairs.base["attention_mask"][row].sum()), int(source["attention_mask"][other].sum())
        ordinary = [place for place in range(lengths[0]) if not pairs.base["special_tokens_mask"][row, place]]
        from_ordinary = [place for place in range(lengths[1]) if not source["special_tokens_mask"][other, place]]
        answers = [] if pairs.cases.tokens is None else pairs.cases.tokens[row].nonzero()[:, 0].tolist()
        moves: dict[int, int] = {}
        if kind == "first token":
            moves = {0: 0}
        elif kind == "last token":
            moves = {lengths[0] - 1: lengths[1] - 1}
        elif kind == "all":
            moves = dict(zip(ordinary, from_ordinary, strict=False))
        elif kind == "answer" and pairs.source is None and task == "masked_lm":
            masked = (pairs.base["labels"][other] != -100).nonzero()[:, 0].tolist()
            moves = {place: masked[number % len(masked)] for number, place in enumerate(answers)}
        else:
            swapped = pairs.swap.mask[row].nonzero()[:, 0].tolist()
            some = answers if kind == "answer" else [one for one in ordinary if one not in {*swapped, *answers}]
            for place in some:
                before = [one for one in swapped if one <= place] if pairs.source is not None else []
                shift = int(pairs.swap.source_position[row, before[-1]]) - before[-1] if before else 0
                moves[place] = place + shift
        for place, origin in moves.items():
            if origin < lengths[1]:
                mask[row, place], taken[row, place] = True, origin
    return Swap(pairs.swap.source, mask, taken)


def plain_shares(family: str, paired: bool, kind: str, site: dict[str, Any]) -> tuple[int, float, float, float]:
    """Cases, and the means of what the swap changes, from runs that are each a whole forward pass."""
    changed: list[Tensor] = []
    moved: list[Tensor] = []
    effect: list[Tensor] = []
    for pairs in batches(family, paired):
        swap = plain_swap(pairs, kind, TASKS[family])
        model, names = teacher_of(family), FAMILIES["bert" if family == "classifier" else family]
        source = None if pairs.source is None else model_inputs(pairs.source)
        with torch.no_grad():
            found = twin(model, names, [site], model_inputs(pairs.base), swap, source)
        rows = swap.mask.any(1)
        if pairs.cases.tokens is None:
            chosen = rows & (torch.arange(len(rows)) < pairs.bases)
        else:
            chosen = pairs.cases.tokens & rows[:, None]
            chosen = (chosen if kind in AT_ANSWERS else chosen & ~swap.mask).flatten()
        before, after = found.base.softmax(-1)[chosen], found.counterfactual.softmax(-1)[chosen]
        changed.append(before.argmax(-1) != after.argmax(-1))
        moved.append((after - before).abs().sum(-1) / 2)
        effect.append((after - before).square().sum(-1))
    means = [float(torch.cat(one).double().mean()) for one in (changed, moved, effect)]
    return len(torch.cat(changed)), means[0], means[1], means[2]


@pytest.mark.parametrize("paired", [True, False], ids=["pairs", "text"])
@pytest.mark.parametrize("family", TASKS)
def test_every_share_is_that_of_a_plain_recomputation(family: str, paired: bool) -> None:
    found = traced(family, paired, resamples=50)
    named = {"differing", "others"} if paired else {"span"}
    named |= {"first token", "last token"} if family == "classifier" else {"answer"}
    assert set(found.positions) == named | {"all"} and found.positions[0] in ("differing", "span")
    assert found.paired == paired and found.layers == 3 and found.task == TASKS[family]
    swaps_something = False
    for cell in found.cells:
        site = {"layer": cell.place.layer, "component": cell.place.component}
        cases, changed, moved, effect = plain_shares(family, paired, cell.place.positions, site)
        assert cell.changed.cases == cases > 0, cell.place
        assert cell.changed.value == pytest.approx(changed, abs=1e-12), cell.place
        assert cell.moved.value == pytest.approx(moved, abs=1e-6), cell.place
        assert cell.effect.value == pytest.approx(effect, abs=1e-6), cell.place
        swaps_something |= changed > 0.05
    assert swaps_something
    assert len(found.cells) == 9 * len(found.positions)


def test_heads_are_those_of_a_plain_recomputation() -> None:
    found = traced("gpt2", paired=True, components=["block_output"], heads=True, resamples=50)
    assert found.parts == ("block_output", *(f"head {head}" for head in range(HEADS)))
    for cell in found.row("head 2", "differing"):
        site = {"layer": cell.place.layer, "component": "attention_value_output", "heads": [2]}
        cases, changed, moved, _ = plain_shares("gpt2", True, "differing", site)
        assert (cell.changed.cases, cell.changed.value) == (cases, pytest.approx(changed, abs=1e-12))
        assert cell.moved.value == pytest.approx(moved, abs=1e-6)


def test_no_number_depends_on_the_batches() -> None:
    one, other = (traced("bert", paired=False), trace(
        teacher_of("bert"), rows(False), tokenizer=tiny_tokenizer(), pairs=16, batch_size=16
    ))  # fmt: skip
    for mine, yours in zip(one.cells, other.cells, strict=True):
        assert mine.place == yours.place and mine.changed == yours.changed
        assert mine.moved.value == pytest.approx(yours.moved.value, abs=1e-6)


def test_a_batch_takes_one_base_run_and_the_blocks_above_each_swap() -> None:
    """Of the restarted blocks' forward calls: block outputs at b of 3 run the 3 - b - 1 above; the base run all."""
    model = make_model("llama").eval()
    calls: list[int] = []
    for number, block in enumerate(model.model.layers):
        block.self_attn.register_forward_hook(lambda *_args, number=number: calls.append(number))
    options: dict[str, Any] = {"tokenizer": tiny_tokenizer(), "components": ["block_output"], "pairs": 24}
    trace(model, rows(True), batch_size=24, **options)
    once = len(calls)
    calls.clear()
    trace(model, rows(True), batch_size=12, **options)
    per_batch = len(calls) - once  # what is measured once per model is in both
    kinds, base_and_source = 4, 2 * 3
    assert per_batch == base_and_source + kinds * (2 + 1 + 0)


def mover(block: int | None, layers: int = 4) -> Any:
    """A model in which tokens read each other in one block only, or in none."""
    torch.manual_seed(1)
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**{**LLAMA_LIKE, "num_hidden_layers": layers}))
    with_large_weights(model)
    for number, one in enumerate(model.model.layers):
        if number != block:
            torch.nn.init.zeros_(one.self_attn.o_proj.weight)
    return model.eval()


@pytest.mark.parametrize("block", [1, 2, 3])
def test_a_planted_mover_is_found(block: int) -> None:
    found = trace(mover(block), rows(True), tokenizer=tiny_tokenizer())
    for cell in found.row("block_output", "differing"):
        assert cell.felt == (cell.place.layer < block)
    for cell in found.row("attention_output", "answer"):
        assert cell.felt == (cell.place.layer == block)
    assert found.held_until("block_output", "differing") == block - 1
    [variable] = propose(found, 4).variables
    assert [variable.teacher[0].layer, variable.student[0].layer] == [block - 1, block - 1]


def test_where_nothing_is_read_nothing_is_proposed() -> None:
    found = trace(mover(None), rows(True), tokenizer=tiny_tokenizer(), components=["block_output"])
    assert found.held_until("block_output", "differing") is None
    with pytest.raises(UserError, match="swaps of differing positions change nothing"):
        propose(found, 2)


def synthetic(moved: list[float], kind: str = "differing") -> Trace:
    from iit_toolkit.analysis.statistics.estimates import Estimate
    from iit_toolkit.analysis.statistics.teacher_trace import Place, TraceCell

    def estimate(value: float) -> Estimate:
        return Estimate(value, None, None, 10, 10)

    cells = [
        TraceCell(Place(layer, "block_output", None, kind), estimate(one), estimate(one), estimate(one**2))
        for layer, one in enumerate(moved)
    ]
    return Trace("masked_lm", kind == "differing", len(moved), tuple(cells))


@pytest.mark.parametrize(
    ("moved", "student", "expected"),
    [
        ([0.21, 0.19, 0.17, 0.03, 0.02, 0.0], 6, (2, 2)),
        ([0.21, 0.19, 0.17, 0.03, 0.02, 0.0], 3, (2, 1)),  # half way: blocks 0 and 1 of 3 are equally near
        ([0.21, 0.19, 0.10, 0.03, 0.02, 0.0], 3, (1, 0)),
        ([0.21, 0.19, 0.11, 0.03, 0.02, 0.0], 6, (2, 2)),
        ([0.2, 0.2, 0.2, 0.2, 0.2, 0.0], 3, (4, 1)),  # never the last, which nobody reads
        ([0.2, 0.2, 0.2, 0.2, 0.2, 0.2], 3, (5, 2)),  # unless the teacher's is read, as by pooling
        ([0.1, 0.2, 0.1], 1, None),
        ([0.1, 0.2, 0.0], 1, None),
        ([0.1, 0.2, 0.1], 4, None),
    ],
)
def test_the_rule_of_the_proposal(moved: list[float], student: int, expected: tuple[int, int] | None) -> None:
    if expected is None and (student > len(moved) or not moved[-1]):
        with pytest.raises(UserError):
            propose(synthetic(moved), student)
        return
    proposed = propose(synthetic(moved), student)
    [variable] = proposed.variables
    if expected is not None:
        assert (variable.teacher[0].layer, variable.student[0].layer) == expected
    assert (proposed.positions.kind, proposed.sources.kind) == ("differing", "paired")
    other = propose(synthetic(moved, "span"), student)
    assert (other.positions.kind, other.sources.kind) == ("span", "in_batch")


def test_the_table_is_plain_data() -> None:
    found = traced("llama", paired=True, components=["mlp_output"], resamples=50)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert len(plain["cells"]) == len(found.frame()) == len(found.cells)
    assert plain["cells"][0]["head"] is None and plain["cells"][0]["changed_low"] <= plain["cells"][0]["changed"]
    with pytest.raises(UserError, match='no "blok_output"'):
        found.row("blok_output", "differing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": ["blok_output"]}, 'no component "blok_output", did you mean "block_output"'),
        ({"components": []}, "no component to swap"),
        ({"tokenizer": None}, "trace needs the tokenizer"),
        ({"task": "masked"}, "task 'masked' is no task"),
    ],
)
def test_bad_input_gives_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        trace(teacher_of("llama"), rows(True), **{"tokenizer": tiny_tokenizer(), **options})


def test_data_with_nothing_to_swap_are_refused() -> None:
    empty = [{"input_ids": [2, 3], "example_id": number} for number in range(8)]
    with pytest.raises(UserError, match="no position can be swapped"):
        trace(teacher_of("llama"), empty, tokenizer=tiny_tokenizer())


def test_weak_variables_are_those_under_two_percent() -> None:
    [pairs_of] = [draw_pairs(
        rows(False) * 3, collator_for("causal_lm", tiny_tokenizer()), SpanPositions(), Sources(), task="causal_lm",
        pairs=72, batch_size=24, seed=0, what="testing",
    )]  # fmt: skip
    model = mover(2)

    def side(layers: dict[str, int]) -> InterchangeModel:
        """At attention outputs, of which one alone does anything."""
        sites: dict[str, tuple[ResolvedSite, ...]] = {}
        for name, layer in layers.items():
            path = f"model.layers[{layer}].self_attn.o_proj.output"
            sites[name] = (ResolvedSite(path, path, None, layer - 1 if layer else None, layer, True),)
        return InterchangeModel(model, sites)

    assert weak_variables(side({"dead": 1, "live": 2, "gone": 3}), pairs_of) == {"dead": 0.0, "gone": 0.0}
    assert weak_variables(side({"live": 2}), pairs_of) == {}


def test_it_is_public() -> None:
    assert iit.trace is trace


NOUNS = ("author", "pilot", "doctor", "teacher", "farmer", "singer", "lawyer", "guard")
NEAR = ("senator", "officer", "minister", "guards", "actors", "boys")


@pytest.fixture(scope="module")
def shared() -> Path:
    """Data and models outside the repository: $IIT_SHARED, or `shared` beside it."""
    folder = Path(os.environ.get("IIT_SHARED", Path(__file__).parents[4] / "shared"))
    if not (folder / "models" / "minilm-mlm").is_dir():
        pytest.skip("no folder with the teacher")
    return folder


def test_where_a_real_teacher_holds_the_number_of_a_subject(shared: Path) -> None:
    """Up to block 2 in the noun; block 3's attention moves it to the verb, and from there on it is in the verb."""
    path = shared / "models" / "minilm-mlm"
    tokenizer = tf.AutoTokenizer.from_pretrained(path)
    model = tf.AutoModelForMaskedLM.from_pretrained(path).float().eval()
    texts = [
        (f"the {noun} near the {near} is very old.", f"the {noun}s near the {near} is very old.")
        for noun in NOUNS
        for near in NEAR
    ]
    bases, sources = zip(*(pair if number % 2 else pair[::-1] for number, pair in enumerate(texts)), strict=True)
    pairs = tokenize_pairs(Dataset.from_dict({"text": list(bases), "source": list(sources)}), tokenizer, 16).rows
    verb = tokenizer.convert_tokens_to_ids("is")
    masking = MaskedLanguageCollator(tokenizer, probability=1e-9)

    def collate(some: Any) -> dict[str, Tensor]:
        batch = masking(some)  # one token is masked; here it is the verb
        for name in ("input_ids", "source_input_ids"):
            ids = torch.tensor([row[name] for row in some])
            batch[name] = ids.masked_fill(ids == verb, tokenizer.mask_token_id)
            batch["labels"] = torch.where(ids == verb, ids, -100)
        return batch

    found = trace(model, pairs, collate, components=["block_output", "attention_output"], batch_size=48)  # pyright: ignore[reportArgumentType]
    nouns, verbs = (
        [cell.changed.value or 0.0 for cell in found.row("block_output", kind)] for kind in ("differing", "answer")
    )
    assert min(nouns[:3]) >= 0.15 and max(nouns[3:]) <= 0.08 and nouns[5] == 0.0
    assert max(verbs[:2]) <= 0.15 and min(verbs[3:]) >= 0.15
    moving = [cell.moved.value or 0.0 for cell in found.row("attention_output", "answer")]
    assert int(np.argmax(moving)) == 3
    assert found.held_until("block_output", "differing") == 2
    [variable] = propose(found, 3).variables
    assert (variable.teacher[0].layer, variable.student[0].layer) == (2, 1)
