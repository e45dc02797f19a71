"""Which neurons carry the effect at the place where a teacher holds what its answers depend on.

Attribution patching ranks all neurons by one run forward and backward per batch (Nanda 2023; Syed, Rager and Conmy
2023, arXiv 2310.10348): gradient of an answer times change of the activation. That is a first-order estimate. So real
swaps of the first neurons alone check it, on cases that had no part in the ranking, beside as many random neurons.

Legend of shapes: B rows, S positions, D neurons, N cases, V words or classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.alignment import ResolvedSite, Site
from iit_toolkit.alignment.resolve import resolve_site
from iit_toolkit.analysis.statistics.teacher_neurons import (
    NeuronSums,
    TraceNeurons,
    estimated_shares,
    numbers_of_neurons,
    ranked,
)
from iit_toolkit.analysis.statistics.teacher_trace import Place, Trace
from iit_toolkit.analysis.verification.cases import DrawnPairs, Pairs, by_pair, draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.analysis.verification.teacher_effects import OwnEffects
from iit_toolkit.analysis.verification.trace import traced_collator, traced_policy
from iit_toolkit.analysis.verification.trace_positions import counted_cases, kinds_of
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Collator, Numbered, Row, Rows
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel

DRAWS = 3
"""How many times random neurons are drawn: one draw could hit the right ones, or miss them."""
_ALL = "all neurons"


@torch.no_grad()
def find_neurons(
    teacher: PreTrainedModel,
    rows: Rows,
    found: Trace,
    collator: Collator | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    pairs: int = 256,
    batch_size: int = 16,
    resamples: int = 2000,
    seed: int = 0,
) -> TraceNeurons:
    """Find the neurons that carry the effect at the place that a trace names, and check them by real swaps.

    The place is that of `Trace.held_until`, at the trace's main part and first kind of positions. The neurons are
    ranked on the rows of every second text, and swapped on the others. A neuron's attribution is the first-order
    estimate of what its swap adds to the logit of the source's answer less that of the base's, summed over positions,
    as a mean over cases. Both are the teacher's own answers. Sources of unrelated texts answer something else: there,
    the source's answer is the one that the swap of all neurons gives. Cases without two different answers add nothing.

    Source: Nanda 2023, "Attribution patching: activation patching at industrial scale"; Syed, Rager and Conmy 2023,
    "Attribution patching outperforms automated circuit discovery", arXiv 2310.10348.

    Args:
        teacher: The teacher that was traced.
        rows: Examples as for `trace`; of those beyond twice `pairs`, none is used.
        found: The trace.
        collator: Makes a batch of rows; by default the task's own.
        tokenizer: Needed if there is no collator.
        pairs: At most so many rows rank the neurons, and at most so many check them.
        batch_size: Base rows per batch; no number depends on it, but for rounding.
        resamples: How many times the texts are drawn, for intervals.
        seed: Of sources, positions, evaluated tokens, random neurons and intervals.

    Raises:
        UserError: If no swap of the trace does anything at its first kind of positions, the teacher has no such place,
            the rows are too few, or the swap changes no answer of theirs.
    """
    part, kind = found.main_part, found.positions[0]
    layer = found.held_until(part, kind)
    if layer is None:
        raise UserError(
            f"no neurons can be found: swaps of {kind} positions change nothing of the teacher's answers; give data "
            "whose answers depend on them"
        )
    site = resolve_site(Site(component=part, layer=layer), teacher)
    task = cast(Task, found.task)
    collator = traced_collator(collator, tokenizer, task, seed, teacher)
    ranking, checking = (
        _drawn(half, collator, task, paired=found.paired, pairs=pairs, batch_size=batch_size, seed=seed, what=what)
        for half, what in zip(_halves(rows, pairs), ("ranking", "swapping"), strict=True)
    )
    side = InterchangeModel(teacher.eval(), {_ALL: (site,)})
    attribution, cases = _attribution(side, ranking, task, kind)
    sums = _swapped(side, site, checking, kind, ranked(attribution), seed)
    shares = estimated_shares(sums, resamples=resamples, seed=seed)
    return TraceNeurons(Place(layer, part, None, kind), tuple(attribution), cases, shares)


def _halves(rows: Rows, pairs: int) -> tuple[list[Row], list[Row]]:
    """Part rows in two that share no text of a base: every second text."""
    numbered, texts = Numbered(rows), dict[int, int]()
    halves: tuple[list[Row], list[Row]] = ([], [])
    for index in range(min(len(numbered), 2 * pairs)):
        row = numbered[index]
        text = texts.setdefault(int(row.get("text_id", row["example_id"])), len(texts))
        halves[text % 2].append(row)
    if min(map(len, halves)) < 2:
        raise UserError(
            f"{len(halves[0])} rows to find neurons by and {len(halves[1])} to check them; give 2 or more for each, of "
            "different texts"
        )
    return halves


def _drawn(
    rows: Sequence[Row],
    collator: Collator,
    task: Task,
    *,
    paired: bool,
    pairs: int,
    batch_size: int,
    seed: int,
    what: str,
) -> DrawnPairs:
    positions, sources = traced_policy(paired)
    return draw_pairs(
        rows, collator, positions, sources, task=task, pairs=pairs, batch_size=batch_size, seed=seed, what=what
    )


def _attribution(side: InterchangeModel, drawn: Iterable[Pairs], task: Task, kind: str) -> tuple[list[float], int]:
    """Return (D,) the mean attribution of every neuron, and over how many cases."""
    total, cases = torch.zeros(()), 0
    for pairs in drawn:
        runs = Runs(side, pairs, [_ALL], "teacher")
        base_N = runs.base().argmax(-1)
        other_N = (
            runs.counterfactual(_ALL).argmax(-1) if pairs.source is None else _source_answers(side, pairs, task, base_N)
        )
        counted_N = torch.from_numpy(counted_cases(pairs, pairs.swap, kind)).to(base_N.device)

        def gained(logits_NV: Tensor, to: Tensor = other_N, by: Tensor = base_N, counted: Tensor = counted_N) -> Tensor:
            gain = logits_NV.gather(1, to[:, None]) - logits_NV.gather(1, by[:, None])
            return gain[counted].sum()

        total = total + runs.first_order(_ALL, gained).sum((0, 1), dtype=torch.float64).cpu()
        cases += int(counted_N.sum())
    if not total.any():
        raise UserError(
            f"no neurons can be found: in {cases} cases, no answer of a source differs from that of its base; give "
            "more pairs, or others"
        )
    return (total / cases).tolist(), cases


def _source_answers(side: InterchangeModel, pairs: Pairs, task: Task, base_N: Tensor) -> Tensor:
    """Return (N,) what the teacher answers at the counterpart of each case; the base's answer if there is none."""
    assert pairs.source is not None
    inputs = {name: value.to(side.device) for name, value in side.reads(pairs.source).items()}
    tokens = pairs.cases.tokens
    if tokens is None:
        logits = side.logits(side.base_run(inputs))
        return logits.argmax(-1)[pairs.swap.source[: pairs.bases].to(side.device)]
    answered = kinds_of(task, paired=True)["answer"](pairs, task)
    known = answered.mask[tokens]
    row = answered.source[tokens.nonzero()[:, 0]][known]
    place = answered.source_position[tokens][known]
    read = torch.zeros(pairs.source["input_ids"].shape, dtype=torch.bool)
    read[row, place] = True
    number = (read.flatten().cumsum(0) - 1).view(read.shape)[row, place]
    logits = side.logits(side.base_run(inputs, tokens=read.to(side.device)))
    answers_N = base_N.clone()
    answers_N[known.to(side.device)] = logits.argmax(-1)[number.to(side.device)]
    return answers_N


def _swapped(
    side: InterchangeModel, site: ResolvedSite, drawn: Iterable[Pairs], kind: str, order: Sequence[int], seed: int
) -> NeuronSums:
    """Swap the first neurons of an order, and as many random ones, and count the answers that change."""
    generator = np.random.default_rng(seed)
    orders = {"chosen": [np.asarray(order)], "random": [generator.permutation(len(order)) for _ in range(DRAWS)]}
    sites = {_ALL: (site,)}
    names: dict[tuple[str, int], list[str]] = {}
    for how, several in orders.items():
        for count in numbers_of_neurons(len(order))[:-1]:
            names[how, count] = [f"{how} {count}, {draw}" for draw in range(len(several))]
            for name, one in zip(names[how, count], several, strict=True):
                ranges = tuple((neuron, neuron + 1) for neuron in sorted(one[:count].tolist()))
                sites[name] = (replace(site, ranges=ranges),)
    names["chosen", len(order)] = [_ALL]
    swapping = side.with_sites(sites)
    who: dict[str, list[NDArray[np.int64]]] = {}
    cases: list[NDArray[np.float64]] = []
    changed: dict[tuple[str, int], list[NDArray[np.float64]]] = {key: [] for key in names}
    for pairs in drawn:
        pair, owner = by_pair(pairs.cases)
        for name, column in pair.items():
            who.setdefault(name, []).append(column)
        counted = counted_cases(pairs, pairs.swap, kind)
        cases.append(np.bincount(owner, counted, len(pair["base"])).astype(np.float64))
        effects = OwnEffects(Runs(swapping, pairs, list(sites), "teacher"))
        for key, several in names.items():
            mean = np.mean([effects.of(name)["changed"] for name in several], axis=0)
            changed[key].append(np.bincount(owner, mean * counted, len(pair["base"])).astype(np.float64))
    joined = {key: np.concatenate(parts) for key, parts in changed.items()}
    return NeuronSums(
        pairs={name: np.concatenate(parts) for name, parts in who.items()},
        cases=np.concatenate(cases),
        chosen={count: column for (how, count), column in joined.items() if how == "chosen"},
        random={count: column for (how, count), column in joined.items() if how == "random"},
    )
