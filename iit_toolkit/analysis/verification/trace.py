"""Where a teacher holds what its answers depend on, before anything is aligned.

Every block, component and kind of positions is swapped in turn, on the same cases as in `verify`. A batch takes one
base run (and one run of the sources, if they are not rows of the batch). From it, each counterfactual run computes only
the blocks above its swap.

What a swap changes of the answers tells what is read from there. It does not tell what is stored: what no later block
reads has no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.alignment import Alignment, ResolvedSite, Site, Variable
from iit_toolkit.alignment.architectures import COMPONENTS, blocks
from iit_toolkit.alignment.positions import DifferingPositions, Positions, SpanPositions
from iit_toolkit.alignment.resolve import resolve_site
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.teacher_trace import BLOCK, PairSums, Place, Trace, estimated
from iit_toolkit.analysis.verification.cases import by_pair, draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.analysis.verification.teacher_effects import OwnEffects
from iit_toolkit.analysis.verification.trace_positions import counted_cases, kinds_of
from iit_toolkit.config.task import Task, refuse_unknown_task
from iit_toolkit.data.batch import Collator, Numbered, Rows
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.readable import readable
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.reading import refuse_read_padding
from iit_toolkit.models.task import require_model, task_of

TRACED = ("block_output", "attention_output", "mlp_output")
"""The components that are swapped if none are named."""
_HEADS = "attention_value_output"
_Sums = dict[Place, dict[str, list[NDArray[np.float64]]]]


@torch.no_grad()
def trace(
    teacher: PreTrainedModel,
    rows: Rows,
    collator: Collator | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    task: Task | None = None,
    components: Sequence[str] = TRACED,
    heads: bool = False,
    pairs: int = 256,
    batch_size: int = 16,
    resamples: int = 2000,
    seed: int = 0,
) -> Trace:
    """Swap every block of a teacher in turn, and see what that changes of its answers.

    Kinds of positions are those of `statistics.teacher_trace.POSITIONS`: the differing words of pairs, or else spans;
    the tokens where answers are read (in classification, the first and the last token); of pairs, the other tokens; and
    all. Cases count where no swapped position is, unless answers are what is swapped; rows with nothing to swap do not.

    Args:
        teacher: The teacher.
        rows: Examples as for `verify`. If they are pairs (`source_input_ids`), each has its own source.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do; by default the task's own.
        tokenizer: Needed if there is no collator.
        task: What is answered; by default, what the teacher's class says.
        components: Components of a block, as in an alignment.
        heads: Whether single attention heads are swapped, too.
        pairs: Pairs of base and source; at most the number of rows is used.
        batch_size: Base rows per batch; no number depends on it, but for rounding.
        resamples: How many times the texts are drawn, for intervals.
        seed: Of sources, positions, evaluated tokens and intervals.

    Raises:
        UserError: If there is neither a collator nor a tokenizer, a component is unknown, or the rows hold too little
            to swap or to answer. If the teacher is no model, cannot read a row, or answers otherwise for its padding.
    """
    require_model(teacher, "the teacher")
    refuse_unknown_task(task, "task")
    task = task or task_of(teacher)
    collator = traced_collator(collator, tokenizer, task, seed, teacher)
    sites = traced_sites(teacher, components, heads=heads)
    numbered = Numbered(rows)
    paired = len(numbered) > 0 and "source_input_ids" in numbered[0]
    positions, sources = traced_policy(paired)
    drawn = draw_pairs(
        numbered, collator, positions, sources, task=task, pairs=pairs, batch_size=batch_size, seed=seed, what="tracing"
    )
    if (padded := drawn.padded()) is not None:
        refuse_read_padding(teacher, padded, "teacher")
    kinds = kinds_of(task, paired=paired)
    names = {(layer, component, head): f"{layer} {component} {head}" for layer, component, head in sites}
    side = InterchangeModel(teacher.eval(), {names[key]: (site,) for key, site in sites.items()})
    who: dict[str, list[NDArray[np.int64]]] = {}
    sums: _Sums = {Place(*key, kind): {} for kind in kinds for key in sites}
    for batch in drawn:
        pair, owner = by_pair(batch.cases)
        for name, column in pair.items():
            who.setdefault(name, []).append(column)
        effects = OwnEffects(Runs(side, batch, list(names.values()), "teacher"))
        for kind, draw in kinds.items():
            swap = draw(batch, task)
            counted = counted_cases(batch, swap, kind)
            for key, name in names.items():
                found = {"cases": np.ones(len(counted)), **effects.of(name, swap)} if counted.any() else {}
                for quantity in ("cases", "changed", "moved", "effect"):
                    column = found[quantity] * counted if found else np.zeros(len(counted))
                    added = np.bincount(owner, weights=column, minlength=len(pair["base"])).astype(np.float64)
                    sums[Place(*key, kind)].setdefault(quantity, []).append(added)
    joined = {place: {name: np.concatenate(parts) for name, parts in held.items()} for place, held in sums.items()}
    swapped = {place: held for place, held in joined.items() if held["cases"].any()}
    table = PairSums(**{name: np.concatenate(parts) for name, parts in who.items()}, sums=swapped)
    return Trace(task, paired, len(blocks(teacher)), estimated(table, resamples=resamples, seed=seed))


def traced_collator(
    collator: Collator | None,
    tokenizer: PreTrainedTokenizerBase | None,
    task: Task,
    seed: int,
    teacher: PreTrainedModel,
) -> Collator:
    """Return the collator, by default that of the task; it refuses rows that the teacher can't read.

    Raises:
        UserError: If there is neither a collator nor a tokenizer.
    """
    if collator is None and tokenizer is None:
        raise UserError("trace needs the tokenizer that made the rows, or a collator; give tokenizer=...")
    collator = collator or collator_for(task, cast(PreTrainedTokenizerBase, tokenizer), seed)
    return readable(collator, {"teacher": teacher})


def traced_policy(paired: bool) -> tuple[Positions, Sources]:
    """Return positions and sources of the first kind of positions, as an alignment says them."""
    return (DifferingPositions(), Sources(kind="paired")) if paired else (SpanPositions(), Sources())


def traced_sites(
    teacher: PreTrainedModel, components: Sequence[str], *, heads: bool
) -> dict[tuple[int, str, int | None], ResolvedSite]:
    """Return the sites that are swapped, by block, component and head.

    Raises:
        UserError: If a component is unknown, to all or for this model, or there is none.
    """
    for component in components:
        if component not in COMPONENTS:
            raise UserError(f'no component "{component}", {did_you_mean(component, COMPONENTS)}')
    if not components:
        raise UserError(f"no component to swap; name one, such as {BLOCK}")
    depth = range(len(blocks(teacher)))
    declared: dict[tuple[int, str, int | None], Site] = {
        (layer, component, None): Site(component=component, layer=layer)
        for component in dict.fromkeys(components)
        for layer in depth
    }
    if heads:
        every = range(int(teacher.config.num_attention_heads))
        declared |= {(layer, _HEADS, head): Site.heads(layer, head) for head in every for layer in depth}
    return {key: resolve_site(site, teacher) for key, site in declared.items()}


def propose(found: Trace, student_layers: int, name: str = "traced") -> Alignment:
    """Propose an alignment for a student, from where its teacher holds what matters.

    The teacher's block is the last whose effect is at least half of the largest (`Trace.held_until`): as much as
    possible has been computed there, and it is still read. Effects are those at the positions that an alignment can
    swap and be judged by, the first kind of the trace: differing words, or spans. The student's block is the one at the
    nearest relative depth, as in presets; of two equally near, the upper. It is not the student's last, unless swaps at
    the teacher's last block have an effect: nobody reads the last block at other tokens.

    Args:
        found: The trace, with block outputs.
        student_layers: Blocks of the student.
        name: The alignment's name.

    Raises:
        UserError: If the trace lacks block outputs, no swap does anything, or the student's depth does not fit.
    """
    refuse_depth(student_layers, found.layers)
    kind = found.positions[0]
    row = found.row(BLOCK, kind)
    block = found.held_until(BLOCK, kind)
    if block is None:
        raise UserError(
            f"no alignment can be proposed: swaps of {kind} positions change nothing of the teacher's answers; give "
            "data whose answers depend on them"
        )
    usable = student_layers if row[-1].felt else student_layers - 1
    if not usable:
        raise UserError(
            "no alignment can be proposed: nothing reads the output of a student's only block at other tokens; give a "
            "student of 2 layers or more"
        )
    depth = (block + 1) / found.layers
    own = min(range(usable), key=lambda layer: (round(abs((layer + 1) / student_layers - depth), 9), -layer))
    positions, sources = traced_policy(found.paired)
    variable = Variable(name=f"block-{block}", teacher=(Site.block(block),), student=(Site.block(own),))
    return Alignment(name=name, variables=(variable,), positions=positions, sources=sources)


def refuse_depth(student_layers: int, teacher_layers: int) -> None:
    """Refuse a student's depth that no alignment with the teacher can have.

    Raises:
        UserError: If it is not 1 to the teacher's.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise UserError(
            f"a student of {student_layers} layers cannot be aligned with a teacher of {teacher_layers}; give 1 to "
            f"{teacher_layers}"
        )
