"""Runs teacher and students under the same interchange interventions, and tabulates every case."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.control_results import Absent, Ceiling, SelfSwap
from iit_toolkit.analysis.controls import Plan, plan_controls
from iit_toolkit.analysis.interventions import Cases, Collator, Pairs, Runs, Task, draw_pairs, shuffle_sources
from iit_toolkit.analysis.outcomes import BESIDE, NO_GOLD, SHUFFLED_SOURCES, Table
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel

BESIDE_PAIRS = 128
"""Swaps beside the alignment are run on the first batches, until they hold this many pairs."""


@dataclass(frozen=True)
class Verification:
    """What `verify` returns.

    Attributes:
        outcomes: The outcomes table.
        self_swap: The self-swap control.
        ceiling: The ceiling: the teacher as its own student.
        examples: One row per base example, with the columns of `iit_toolkit.analysis.examples`; tokens are numbers.
        controls: A table as `outcomes`, where controls (`outcomes.SHUFFLED`, `outcomes.BESIDE`) stand in the place of
            students; `None` if none were asked for.
        absent: The controls that these models do not allow.
    """

    outcomes: pd.DataFrame
    self_swap: SelfSwap
    ceiling: Ceiling
    examples: pd.DataFrame
    controls: pd.DataFrame | None = None
    absent: tuple[Absent, ...] = ()


@dataclass(frozen=True)
class Controls:
    """What controls are run beside a verification.

    Attributes:
        judged: The student they are controls of.
        plan: Where it is swapped.
        generator: Draws the shuffled sources.
    """

    judged: str
    plan: Plan
    generator: torch.Generator


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
    judged: str | None = None,
) -> Verification:
    """Intervene on teacher and students at their sides of every variable, on the same pairs and positions.

    Every row is base once; its source is as `draw_pairs` says, and so are the evaluated tokens.

    Args:
        teacher: The teacher.
        students: The students, by name.
        alignment: The alignment that is verified.
        rows: Examples as `draw_pairs` takes them; at least two.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do.
        task: What is answered.
        pairs: Pairs of base and source per variable; at most the number of rows is used.
        batch_size: Rows per batch.
        top_k: Tokens of each run that the effect correlation looks at.
        seed: Of sources, positions, evaluated tokens and controls.
        judged: The student whose controls are run, too: shuffled sites and sources, and sites beside the alignment.

    Raises:
        UserError: If there are fewer than two rows, the alignment does not fit a model, or no student is called
            `judged`.
    """
    if judged is not None and judged not in students:
        raise UserError(f'no student "{judged}" to judge; there are: {", ".join(students)}')
    names = [variable.name for variable in alignment.variables]
    teacher_side = InterchangeModel(teacher.eval(), resolve(alignment, teacher, "teacher"))
    sides = {
        name: InterchangeModel(student.eval(), resolve(alignment, student, "student"))
        for name, student in students.items()
    }
    batches = draw_pairs(
        rows,
        collator,
        alignment.positions,
        alignment.sources,
        task=task,
        pairs=pairs,
        batch_size=batch_size,
        seed=seed,
        what="verifying",
    )
    if judged is None:
        return tabulate(teacher_side, sides, names, batches, top_k)
    first = next(batches)
    plan = plan_controls(alignment, Runs(teacher_side, first, names), Runs(sides[judged], first, names), seed)
    shuffled = {_name(*key): sites for key, sites in plan.shuffled.items()}
    teacher_side = InterchangeModel(teacher, {**plan.teacher, **teacher_side.sites})
    sides[judged] = InterchangeModel(students[judged], {**shuffled, **plan.student, **sides[judged].sites})
    controls = Controls(judged, plan, torch.Generator().manual_seed(seed))
    return tabulate(teacher_side, sides, names, itertools.chain([first], batches), top_k, controls)


@torch.no_grad()
def tabulate(
    teacher: InterchangeModel,
    students: Mapping[str, InterchangeModel],
    variables: Sequence[str],
    batches: Iterable[Pairs],
    top_k: int = 10,
    controls: Controls | None = None,
) -> Verification:
    """Intervene on models whose sites are known already; see `verify`.

    Args:
        teacher: The teacher with its sites.
        students: The students with theirs, by name.
        variables: The variables that are swapped, known to all of them.
        batches: The pairs.
        top_k: Tokens of each run that the effect correlation looks at.
        controls: The controls of one student, whose sites (and the teacher's) hold those of the plan, too.
    """
    table, control_table = Table(), Table()
    examples: list[dict[str, Any]] = []
    self_swap, ceiling = SelfSwap(0, 0, 0.0), Ceiling(0, 0)
    for index, pairs in enumerate(batches):
        examples += _examples(pairs)
        runs = {"": Runs(teacher, pairs, list(teacher.sites), "teacher")}
        runs |= {name: Runs(side, pairs, list(side.sites), f"student {name}") for name, side in students.items()}
        answers = {name: _answers(run, variables) for name, run in runs.items()}
        truth = answers.pop("")
        for student, found in answers.items():
            for name in variables:
                table.add(_frame(student, name, pairs.cases, truth, found, top_k))
        if index == 0:
            for run in runs.values():
                self_swap = _add_self_swap(self_swap, run, variables)
            ceiling = _ceiling(truth, _answers(Runs(teacher, pairs, variables, "teacher"), variables))
        if controls is not None:
            found = answers[controls.judged]
            for frame in _shuffled(controls, pairs, runs[controls.judged], (truth, found), variables, top_k):
                control_table.add(frame)
            if len(examples) - len(pairs.swap.source) < BESIDE_PAIRS:
                sides = runs[""], runs[controls.judged]
                for frame in _beside(controls, pairs, sides, (truth, found), top_k):
                    control_table.add(frame)
    return Verification(
        outcomes=table.frame(),
        self_swap=self_swap,
        ceiling=ceiling,
        examples=pd.DataFrame(examples),
        controls=None if controls is None else control_table.frame(),
        absent=() if controls is None else tuple(controls.plan.absent),
    )


def _name(control: str, variable: str) -> str:
    """What the judged student's shuffled sites of a variable are called."""
    return f"{variable}, {control}"


def _shuffled(
    controls: Controls,
    pairs: Pairs,
    student: Runs,
    answers: tuple[_Answers, _Answers],
    variables: Sequence[str],
    top_k: int,
) -> Iterator[pd.DataFrame]:
    """Tabulate the judged student with shuffled sites and sources, against the teacher as it is."""
    truth, found = answers
    swap = shuffle_sources(pairs, controls.generator)
    runs = {key: student.counterfactual(_name(*key)) for key in controls.plan.shuffled}
    runs |= {(SHUFFLED_SOURCES, variable): student.counterfactual(variable, swap) for variable in variables}
    for (control, variable), logits in runs.items():
        shuffled = _Answers(found.base, {variable: _log_probabilities(logits)})
        yield _frame(control, variable, pairs.cases, truth, shuffled, top_k)


def _beside(
    controls: Controls, pairs: Pairs, runs: tuple[Runs, Runs], answers: tuple[_Answers, _Answers], top_k: int
) -> Iterator[pd.DataFrame]:
    """Tabulate both models, swapped beside the alignment."""
    for name in controls.plan.student:
        truth, found = (
            _Answers(answered.base, {name: _log_probabilities(run.counterfactual(name))})
            for answered, run in zip(answers, runs, strict=True)
        )
        yield _frame(BESIDE, name, pairs.cases, truth, found, top_k)


def _ceiling(first: _Answers, again: _Answers) -> Ceiling:
    same = [
        first.counterfactual[name].argmax(-1) == answers.argmax(-1) for name, answers in again.counterfactual.items()
    ]
    return Ceiling(sum(len(one) for one in same), sum(int(one.sum()) for one in same))


def _examples(pairs: Pairs) -> Iterator[dict[str, Any]]:
    """Say of each base row what it and its source read, and which positions are overwritten from where."""
    source = pairs.base if pairs.source is None else pairs.source
    for row, place in enumerate(pairs.swap.source.tolist()):
        swapped = pairs.swap.mask[row].nonzero()[:, 0]
        yield {
            "base": int(pairs.base["example_id"][row]),
            "source": int(source["example_id"][place]),
            "base_tokens": _tokens(pairs.base, row),
            "source_tokens": _tokens(source, place),
            "swapped": swapped.tolist(),
            "taken": pairs.swap.source_position[row, swapped].tolist(),
        }


def _tokens(batch: Mapping[str, Tensor], row: int) -> list[int]:
    """Return the tokens of a row without the padding on its right."""
    length = int(batch["attention_mask"][row].sum())
    return batch["input_ids"][row, :length].tolist()


@dataclass(frozen=True)
class _Answers:
    """One model's log-probabilities (N, V) on one batch: of its base run, and of every counterfactual run."""

    base: Tensor
    counterfactual: dict[str, Tensor]


def _answers(runs: Runs, variables: Sequence[str]) -> _Answers:
    counterfactual = {name: _log_probabilities(runs.counterfactual(name)) for name in variables}
    return _Answers(_log_probabilities(runs.base()), counterfactual)


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1).cpu()


def _frame(student: str, variable: str, cases: Cases, truth: _Answers, run: _Answers, top_k: int) -> pd.DataFrame:
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
        "base_text": cases.base_text,
        "source_text": cases.source_text,
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
    _refuse_impossible(columns)
    return pd.DataFrame(
        {name: value.numpy() if isinstance(value, Tensor) else value for name, value in columns.items()}
    )


def _refuse_impossible(columns: Mapping[str, Any]) -> None:
    """Refuse a student or teacher to which a compared answer is impossible: means over cases would be infinite."""
    for name in ("kl", "kl_cf", "teacher_nll", "student_nll"):
        bad = columns["base"][columns[name].isinf()].unique()
        if len(bad):
            who = "teacher" if name == "teacher_nll" else f"student {columns['student']}"
            answers = "the teacher's answers" if name.startswith("kl") else "the right answers"
            raise UserError(
                f"{who}: its logits are -inf for some of {answers}, e.g. in row {int(bad[0])}, which makes the mean "
                "over cases infinite; give models that forbid no answer that the other or the data give"
            )


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(teacher || student) of each case; classes that the teacher forbids (-inf) add nothing."""
    chances = teacher.exp()
    return (chances * (teacher - student)).masked_fill_(chances == 0, 0.0).sum(-1).double()


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
    forbidden = ~(x.isfinite() & y.isfinite())  # by -inf in a run
    first, x, y = (one.masked_fill(forbidden, 0.0) for one in (first, x, y))
    values = {
        "n": first,
        "x": x * first,
        "y": y * first,
        "xx": x * x * first,
        "yy": y * y * first,
        "xy": x * y * first,
    }
    return {f"effect_{name}": value.sum(1) for name, value in values.items()}


def _add_self_swap(so_far: SelfSwap, runs: Runs, variables: Sequence[str]) -> SelfSwap:
    """Swap every example of the batch with itself, at the same positions."""
    base = runs.base()
    for variable in variables:
        if any(site.read != site.write for site in runs.side.sites[variable]):
            continue  # reads elsewhere than it writes: swapping with itself is meant to change the answer
        swapped = runs.self_swapped(variable)
        so_far = SelfSwap(
            so_far.cases + len(base),
            so_far.changed + int((base.argmax(-1) != swapped.argmax(-1)).sum()),
            max(so_far.max_difference, float((base - swapped).masked_fill(base == swapped, 0.0).abs().max())),
        )
    return so_far
