"""Runs teacher and students under the same interchange interventions, and tabulates every case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Run, Swap, draw_swap, other_rows

Task = Literal["masked_lm", "causal_lm", "sequence_classification"]
Collator = Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_CAUSAL_TOKENS = 16


@dataclass(frozen=True)
class SelfSwap:
    """The self-swap control: every example swapped with itself, which must change nothing.

    Attributes:
        cases: Evaluated tokens (or examples), over models and variables.
        changed: How many answers changed.
        max_difference: Largest absolute change of a logit.
    """

    cases: int
    changed: int
    max_difference: float


@dataclass(frozen=True)
class Verification:
    """What `verify` returns: the outcomes table, and the self-swap control."""

    outcomes: pd.DataFrame
    self_swap: SelfSwap


@dataclass(frozen=True)
class _Cases:
    """The evaluated cases of one batch.

    Attributes:
        tokens: (B, S) boolean; `None` in classification.
        base, source, position, inside, gold: (N,) columns of the outcomes table.
    """

    tokens: Tensor | None
    base: Tensor
    source: Tensor
    position: Tensor
    inside: Tensor
    gold: Tensor


@torch.no_grad()
def verify(
    teacher: PreTrainedModel,
    students: Mapping[str, PreTrainedModel],
    alignment: Alignment,
    rows: Sequence[Mapping[str, Any]],
    collator: Collator,
    *,
    task: Task,
    pairs: int = 512,
    batch_size: int = 16,
    top_k: int = 10,
    seed: int = 0,
) -> Verification:
    """Intervene on teacher and students at their sides of every variable, on the same pairs and positions.

    Every row is base once; its source is another row of its batch (`in_batch`), or of the next batch (`dataset`).
    Evaluated tokens: the masked ones (masked LM), up to 16 drawn ones (causal LM), the label (classification).

    Args:
        teacher: The teacher.
        students: The students, by name.
        alignment: The alignment that is verified.
        rows: Examples with `input_ids` and `example_id`; at least two.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do.
        task: What is answered.
        pairs: Pairs of base and source per variable; at most the number of rows is used.
        batch_size: Rows per batch.
        top_k: Tokens of each run that the effect correlation looks at.
        seed: Of sources, positions and evaluated tokens.

    Raises:
        UserError: If there are fewer than two rows, or the alignment does not fit a model.
    """
    if len(rows) < 2:
        raise UserError(f"verification needs at least 2 examples, got {len(rows)}; give more evaluation data")
    names = [variable.name for variable in alignment.variables]
    teacher_side = InterchangeModel(teacher.eval(), resolve(alignment, teacher, "teacher"))
    sides = {
        name: InterchangeModel(student.eval(), resolve(alignment, student, "student"))
        for name, student in students.items()
    }
    frames: list[pd.DataFrame] = []
    self_swap = SelfSwap(0, 0, 0.0)
    generator = torch.Generator().manual_seed(seed)
    batches = list(_batches(rows, collator, min(pairs, len(rows)), batch_size))
    for index, batch in enumerate(tqdm(batches, "verifying", disable=None)):
        other = batches[(index + 1) % len(batches)] if alignment.sources.kind == "dataset" else None
        swap = _draw(alignment, batch, other, task, generator)
        cases = _cases(batch, other or batch, swap, task, generator)
        runs = {
            name: _Runs(side, batch, other, names, swap, cases) for name, side in {"": teacher_side, **sides}.items()
        }
        truth = runs.pop("")
        for student, run in runs.items():
            for name in names:
                frames.append(_frame(student, name, cases, truth, run, top_k))
        if index == 0:
            for run in (truth, *runs.values()):
                self_swap = _add_self_swap(self_swap, run, alignment)
    return Verification(pd.concat(frames, ignore_index=True), self_swap)


class _Runs:
    """One model's base run and counterfactual logits on one batch."""

    def __init__(
        self,
        side: InterchangeModel,
        batch: Mapping[str, Tensor],
        other: Mapping[str, Tensor] | None,
        variables: Sequence[str],
        swap: Swap,
        cases: _Cases,
    ) -> None:
        device = side.model.device
        self.side, self.cases = side, cases
        self.swap = swap.to(device)
        self.tokens = None if cases.tokens is None else cases.tokens.to(device)
        self.base_run = side.base_run(_inputs(batch, device), variables, self.tokens)
        source = None if other is None else side.base_run(_inputs(other, device), variables)
        self.base = self._answers(self.base_run)
        self.counterfactual = {
            name: self._answers(
                side.counterfactual_run(self.base_run, name, self.swap, source=source, tokens=self.tokens)
            )
            for name in variables
        }

    def _answers(self, run: Run) -> Tensor:
        return self.side.logits(run).float().log_softmax(-1).cpu()


def _batches(
    rows: Sequence[Mapping[str, Any]], collator: Collator, count: int, batch_size: int
) -> Iterator[dict[str, Tensor]]:
    """Collate `count` rows; a last batch of one row joins the one before, since a source needs another row."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] < 2:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        yield collator([rows[index] for index in range(start, end)])


def _inputs(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: batch[name].to(device) for name in _INPUTS if name in batch}


def _draw(
    alignment: Alignment,
    batch: Mapping[str, Tensor],
    other: Mapping[str, Tensor] | None,
    task: Task,
    generator: torch.Generator,
) -> Swap:
    count = len(batch["input_ids"])
    if other is None:
        source = other_rows(count, generator)
    else:
        source = torch.randint(len(other["input_ids"]), (count,), generator=generator)
    predicted = batch["labels"] != NO_GOLD if task == "masked_lm" else None
    eligible, source_eligible = ~batch["special_tokens_mask"], ~(other or batch)["special_tokens_mask"]
    return draw_swap(alignment.positions, source, eligible, source_eligible, generator, predicted)


def _cases(
    batch: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    swap: Swap,
    task: Task,
    generator: torch.Generator,
) -> _Cases:
    base_ids, source_ids = batch["example_id"], source["example_id"][swap.source]
    if task == "sequence_classification":
        count = len(base_ids)
        outside = torch.zeros(count, dtype=torch.bool)
        return _Cases(None, base_ids, source_ids, torch.full((count,), NO_POSITION), outside, batch["labels"])
    gold = batch["labels"]
    tokens = gold != NO_GOLD
    if task == "causal_lm":
        gold = torch.cat([gold[:, 1:], torch.full_like(gold[:, :1], NO_GOLD)], 1)
        keys = torch.rand(gold.shape, generator=generator).masked_fill(gold == NO_GOLD, 2.0)
        tokens = (keys.argsort(dim=1).argsort(dim=1) < _CAUSAL_TOKENS) & (gold != NO_GOLD)
    row, position = tokens.nonzero(as_tuple=True)
    return _Cases(tokens, base_ids[row], source_ids[row], position, swap.mask[tokens], gold[tokens])


def _frame(student: str, variable: str, cases: _Cases, truth: _Runs, run: _Runs, top_k: int) -> pd.DataFrame:
    """Tabulate one student's cases of one batch and variable."""
    teacher, teacher_cf = truth.base, truth.counterfactual[variable]
    base, counterfactual = run.base, run.counterfactual[variable]
    gold = cases.gold.clamp(min=0)[:, None]
    unknown = cases.gold == NO_GOLD
    columns: dict[str, Any] = {
        "student": student,
        "variable": variable,
        "base": cases.base,
        "source": cases.source,
        "position": cases.position,
        "inside": cases.inside,
        "gold": cases.gold,
        "teacher_base": teacher.argmax(-1),
        "teacher_cf": teacher_cf.argmax(-1),
        "student_base": base.argmax(-1),
        "student_cf": counterfactual.argmax(-1),
        "kl": _kl(teacher, base),
        "kl_cf": _kl(teacher_cf, counterfactual),
        "teacher_nll": -teacher.gather(1, gold)[:, 0].masked_fill(unknown, torch.nan),
        "student_nll": -base.gather(1, gold)[:, 0].masked_fill(unknown, torch.nan),
        **_effects((teacher, teacher_cf), (base, counterfactual), top_k),
    }
    return pd.DataFrame(
        {name: value.numpy() if isinstance(value, Tensor) else value for name, value in columns.items()}
    )


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(-1).double()


def _effects(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], top_k: int) -> dict[str, Tensor]:
    """Sufficient statistics of the two models' changes of log-probability.

    They are taken over the union of the `top_k` tokens of all four runs.

    Args:
        teacher: (N, V) log-probabilities of base and counterfactual run.
        student: The same.
        top_k: Tokens of each run.
    """
    k = min(top_k, teacher[0].shape[-1])
    tokens = torch.cat([run.topk(k, -1).indices for run in (*teacher, *student)], 1).sort(1).values
    first = torch.ones_like(tokens, dtype=torch.float64)
    first[:, 1:] = (tokens[:, 1:] != tokens[:, :-1]).double()
    x, y = ((side[1].gather(1, tokens) - side[0].gather(1, tokens)).double() for side in (teacher, student))
    values = {
        "n": first,
        "x": x * first,
        "y": y * first,
        "xx": x * x * first,
        "yy": y * y * first,
        "xy": x * y * first,
    }
    return {f"effect_{name}": value.sum(1) for name, value in values.items()}


def _add_self_swap(so_far: SelfSwap, run: _Runs, alignment: Alignment) -> SelfSwap:
    """Swap every example of the batch with itself, at the same positions."""
    rows, length = run.swap.mask.shape
    device = run.swap.mask.device
    own = Swap(
        torch.arange(rows, device=device),
        run.swap.mask,
        torch.arange(length, device=device).expand(rows, length),
    )
    base = run.side.logits(run.base_run)
    for variable in alignment.variables:
        if any(site.read != site.write for site in run.side.sites[variable.name]):
            continue  # reads elsewhere than it writes: swapping with itself is meant to change the answer
        swapped = run.side.logits(run.side.counterfactual_run(run.base_run, variable.name, own, tokens=run.tokens))
        so_far = SelfSwap(
            so_far.cases + len(base),
            so_far.changed + int((base.argmax(-1) != swapped.argmax(-1)).sum()),
            max(so_far.max_difference, float((base - swapped).abs().max())),
        )
    return so_far
