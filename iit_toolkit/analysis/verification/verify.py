"""Runs teacher and students under the same interchange interventions, and tabulates every case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.spec import refuse_no_alignment
from iit_toolkit.analysis.statistics.control_results import Absent, Ceiling, OffManifold, SelfSwap
from iit_toolkit.analysis.statistics.outcomes import IN_TEACHER, SHUFFLED_SOURCES, UNALIGNED, UNTRAINED, Table
from iit_toolkit.analysis.verification.answers import Answers, log_probabilities, tabulated
from iit_toolkit.analysis.verification.by_row import first_real
from iit_toolkit.analysis.verification.cases import DrawnPairs, Pairs, draw_pairs
from iit_toolkit.analysis.verification.choices import choices_of
from iit_toolkit.analysis.verification.controls import Plan, plan_controls
from iit_toolkit.analysis.verification.measured_runs import Runs, groups
from iit_toolkit.analysis.verification.off_manifold import MANIFOLD_PAIRS, off_manifold
from iit_toolkit.analysis.verification.self_checks import SELF_CHECK_PAIRS, self_checks
from iit_toolkit.analysis.verification.teacher_sides import teacher_sides
from iit_toolkit.config.task import Task, refuse_unknown_task
from iit_toolkit.data.batch import Collator, Numbered, Rows
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.readable import readable
from iit_toolkit.data.tensor_rows import TensorRows, tensor_batch
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Side
from iit_toolkit.interchange.answers import refuse_other_answers
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.certify_sides import certify_sides
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.reading import refuse_read_padding
from iit_toolkit.interchange.sides import Teacher, side_of
from iit_toolkit.models.task import task_of

UNALIGNED_PAIRS = 128
"""Unaligned sites are swapped on the first so many pairs."""
_CERTIFIED_PAIRS = 16


@dataclass(frozen=True)
class Verification:
    """What `verify` returns.

    Attributes:
        outcomes: The outcomes table.
        self_swap: The self-swap control.
        ceiling: The ceiling: the teacher as its own student.
        examples: One row per base example, with the columns of `analysis.report.examples`; tokens are numbers.
        controls: A table as `outcomes`, with controls (`outcomes.SHUFFLED`, `outcomes.UNALIGNED`) in the place of
            students; `None` if none were asked for.
        absent: The controls that these models do not allow.
        off_manifold: How natural the swapped states of teacher and judged student are.
        judged: The student whose controls were run; `None` if none were asked for.
        choices: A table as `outcomes`, of the questions that have candidate answers, if models may choose among these
            only: answers are numbers of candidates. `None` if there are no such questions.
        learned: Whether sites are learned subspaces.
    """

    outcomes: pd.DataFrame
    self_swap: SelfSwap
    ceiling: Ceiling
    examples: pd.DataFrame
    controls: pd.DataFrame | None = None
    absent: tuple[Absent, ...] = ()
    off_manifold: tuple[OffManifold, ...] = ()
    judged: str | None = None
    choices: pd.DataFrame | None = None
    learned: bool = False


@dataclass(frozen=True)
class Controls:
    """The controls of a verification.

    Attributes:
        judged: The student they are controls of.
        plan: Where it is swapped.
    """

    judged: str
    plan: Plan

    def names(self, variable: str) -> dict[str, str]:
        """Return, by control, what the judged student's shuffled sites of a variable are called."""
        return {control: _name(control, of) for control, of in self.plan.shuffled if of == variable}

    def names_of_teacher(self, variable: str) -> dict[str, str]:
        """Return the same of the teacher."""
        return {control: _name(control, of) for control, of in self.plan.elsewhere if of == variable}


def _refuse_other_models(teacher: object, students: object) -> None:
    if isinstance(students, Mapping) and not students:
        raise UserError("there are no students; give one model, or models by name: {'a': model}")
    if not isinstance(students, Mapping):
        raise UserError(f"students are a {type(students).__name__}; give one model, or models by name: {{'a': model}}")
    for name, model in {"teacher": teacher, **students}.items():
        if not isinstance(model, nn.Module) and not (isinstance(model, CausalModel) and model is teacher):
            also = " or a CausalModel" if model is teacher else ""
            raise UserError(
                f"{name} is a {type(model).__name__}; give a loaded model of transformers, or another torch.nn.Module"
                f"{also}"
            )


@torch.no_grad()
def answered_task(teacher: Teacher, task: Task | None) -> Task:
    """Return what a teacher answers, if the task is not given: programs and other modules classify.

    Raises:
        UserError: If there is no such task, or the teacher's class says none.
    """
    refuse_unknown_task(task, "task")
    return task or (task_of(teacher) if isinstance(teacher, PreTrainedModel) else "sequence_classification")


def verify(
    teacher: Teacher,
    students: Mapping[str, nn.Module] | nn.Module,
    alignment: Alignment,
    rows: Rows,
    collator: Collator | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    task: Task | None = None,
    pairs: int = 512,
    batch_size: int = 16,
    top_k: int = 10,
    seed: int = 0,
    judged: str | None = None,
    subspaces: LearnedSubspaces | Mapping[str, LearnedSubspaces] | None = None,
) -> Verification:
    """Intervene on teacher and students at their sides of every variable, on the same pairs and positions.

    Every row is base once; its source is as `draw_pairs` says, and so are the evaluated tokens.

    Args:
        teacher: The teacher: a model of transformers, another module, or a program.
        students: The students, by name; or one, which is then called `student` and judged. Any module of torch, beside
            models of transformers.
        alignment: The alignment that is verified.
        rows: At least two examples with `input_ids`, such as a `datasets.Dataset`; further columns as `draw_pairs`
            says. Rows without an `example_id` get their number. Or `TensorRows`, which need no tokenizer.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do; by default the task's own.
        tokenizer: Needed if there is no collator.
        task: What is answered; by default, what the teacher's class says.
        pairs: Pairs of base and source per variable; at most the number of rows is used.
        batch_size: Base rows per batch; no number depends on it, but for rounding.
        top_k: Tokens of each run that the effect correlation looks at.
        seed: Of sources, positions, evaluated tokens and controls.
        judged: The student whose controls are run, too: shuffled sites and sources, and unaligned sites.
        subspaces: Those of learned sites, by student; or those of the only one. They are swapped as `decided`, also in
            the middle of a training.

    Raises:
        UserError: If there are fewer than two rows, the alignment does not fit a model, no student is called
            `judged`, or there is neither a collator nor a tokenizer. If a model cannot read a row, answers in other
            words than the teacher, or otherwise for a row's padding. If a program, or a module that is no model of
            transformers, fails what `certify_sides` checks. If sites are learned, and there is no student `untrained`
            whose subspaces were trained for as many steps as those of the judged one.
    """
    if isinstance(students, nn.Module):
        students, judged = {"student": students}, judged or "student"
    _refuse_other_models(teacher, students)
    refuse_no_alignment(alignment)
    for name, student in students.items():
        refuse_other_answers(teacher, student, name)
    task = answered_task(teacher, task)
    if collator is None and tokenizer is None and not isinstance(rows, TensorRows):
        raise UserError("verify needs the tokenizer that made the rows, or a collator; give tokenizer=...")
    of_text = None if isinstance(rows, TensorRows) else cast(PreTrainedTokenizerBase, tokenizer)
    collator = collator or (tensor_batch if of_text is None else collator_for(task, of_text, seed))
    if judged is not None and judged not in students:
        raise UserError(f'no student "{judged}" to judge; there are: {", ".join(students)}')
    names = [variable.name for variable in alignment.variables]
    given = subspaces if isinstance(subspaces, Mapping) else dict.fromkeys(students, subspaces)
    learned = {name: None if one is None else one.decided() for name, one in given.items()}
    if judged is not None and alignment.learns:
        _require_equal_power(judged, learned)
    sides = {
        name: side_of(student.eval(), alignment, "student", subspaces=learned.get(name))
        for name, student in students.items()
    }
    of_students = {name: learned.get(name) for name in students}
    device = next((side.device for side in sides.values()), None)
    taught = teacher_sides(teacher, alignment, of_students, judged or next(iter(students), None), device)
    teacher_side = taught.side
    teacher_side.eval()
    drawn = draw_pairs(
        Numbered(rows),
        readable(collator, {"teacher": teacher, **students}),
        alignment.positions,
        alignment.sources,
        task=task,
        pairs=pairs,
        batch_size=batch_size,
        seed=seed,
        what="verifying",
        shuffled=judged is not None,
    )
    padded = drawn.padded()
    for name, side in {"teacher": teacher_side, **sides}.items():
        if padded is not None and isinstance(side, InterchangeModel):
            refuse_read_padding(side.model, padded, name)
    for name, side in sides.items():
        if not (isinstance(teacher_side, InterchangeModel) and isinstance(side, InterchangeModel)):
            refuse_failed(certify_sides(teacher_side, side, next(drawn.first(_CERTIFIED_PAIRS)).base, name))
    if judged is None:
        found = tabulate(taught.whole, sides, names, drawn, top_k, teachers=taught.names)
        return replace(found, learned=alignment.learns)
    plan = plan_controls(alignment, teacher_side, sides[judged], list(drawn.first(SELF_CHECK_PAIRS)), seed)
    shuffled = {_name(*key): sites for key, sites in plan.shuffled.items()}
    elsewhere = {_name(*key): sites for key, sites in plan.elsewhere.items()}
    teacher_side = teacher_side.with_sites({**elsewhere, **plan.teacher, **taught.others, **teacher_side.sites})
    sides[judged] = sides[judged].with_sites({**shuffled, **plan.student, **sides[judged].sites})
    found = tabulate(teacher_side, sides, names, drawn, top_k, Controls(judged, plan), taught.names)
    return replace(found, learned=alignment.learns)


def _require_equal_power(judged: str, subspaces: Mapping[str, LearnedSubspaces | None]) -> None:
    """Refuse to judge learned subspaces without a random network's that were learned as long.

    A map that is flexible enough finds what it looks for in any network.
    """
    own, control = subspaces.get(judged), subspaces.get(UNTRAINED)
    if own is None:
        return  # refused with its side
    if control is None:
        raise UserError(
            f"learned subspaces could be found in any network, so {judged} is judged beside a random one; give a "
            f'student "{UNTRAINED}", with subspaces that were trained on it for as many steps'
        )
    if control.steps < own.steps:
        raise UserError(
            f'the subspaces of "{UNTRAINED}" were trained for {control.steps} steps, those of {judged} for '
            f"{own.steps}; train both equally long"
        )


@torch.no_grad()
def tabulate(
    teacher: Side,
    students: Mapping[str, Side],
    variables: Sequence[str],
    drawn: DrawnPairs,
    top_k: int = 10,
    controls: Controls | None = None,
    teachers: Mapping[str, Mapping[str, str]] | None = None,
) -> Verification:
    """Intervene on models whose sites are known already; see `verify`.

    Variables take turns: of a batch, the counterfactual runs of one are held, and the base runs that a few share.

    Args:
        teacher: The teacher with its variables.
        students: The students with theirs, by name.
        variables: The variables that are swapped, known to all of them.
        drawn: The pairs.
        top_k: Tokens of each run that the effect correlation looks at.
        controls: The controls of one student, whose sites (and the teacher's) hold those of the plan, too.
        teachers: By student and variable, what is swapped in the teacher, if that is not the variable itself.
    """
    table, control_table, choice_table, off = Table(), Table(), Table(), list[OffManifold]()
    examples: list[dict[str, Any]] = []
    models = {"": teacher, **students}
    swaps = {name: {variable: [variable] for variable in variables} for name in models}
    if controls is not None:
        for name, named in ((controls.judged, controls.names), ("", controls.names_of_teacher)):
            swaps[name] = {variable: [variable, *named(variable).values()] for variable in variables}
    for own in (teachers or {}).values():
        swaps[""] = {variable: [*swapped, own[variable]] for variable, swapped in swaps[""].items()}
    grouped = groups(variables, [(side, swaps[name]) for name, side in models.items()])
    chosen = 0
    for pairs in drawn:
        examples += _examples(pairs)
        choices = choices_of(pairs.cases)
        chosen += 0 if choices is None else len(choices.rows)
        for group in grouped:
            runs = {
                name: Runs(
                    side,
                    pairs,
                    [swap for variable in group for swap in swaps[name][variable]],
                    f"student {name}" if name else "teacher",
                )
                for name, side in models.items()
            }
            base = {name: log_probabilities(run.base()) for name, run in runs.items()}
            for variable in group:
                plain = truth = Answers(base[""], log_probabilities(runs[""].counterfactual(variable)))
                for name in students:
                    if (own := (teachers or {}).get(name)) is not None:
                        truth = Answers(base[""], log_probabilities(runs[""].counterfactual(own[variable])))
                    else:
                        truth = plain
                    found = Answers(base[name], log_probabilities(runs[name].counterfactual(variable)))
                    table.add(tabulated(name, variable, pairs.cases, truth, found, top_k))
                    if choices is not None:
                        few = choices.among(truth), choices.among(found)
                        choice_table.add(tabulated(name, variable, choices.cases, *few, top_k))
                if controls is not None:
                    truth, names, elsewhere = plain, controls.names(variable), controls.names_of_teacher(variable)
                    for control, logits in _shuffled(names, variable, pairs, runs[controls.judged]):
                        found = Answers(base[controls.judged], log_probabilities(logits))
                        control_table.add(tabulated(control, variable, pairs.cases, truth, found, top_k))
                    for control, logits in _shuffled(elsewhere, variable, pairs, runs[""]):
                        found = Answers(base[""], log_probabilities(logits))
                        control_table.add(tabulated(IN_TEACHER[control], variable, pairs.cases, truth, found, top_k))
    if controls is not None:
        sides = teacher, students[controls.judged]
        for frame in _unaligned(list(controls.plan.student), sides, drawn.first(UNALIGNED_PAIRS), top_k):
            control_table.add(frame)
        off = off_manifold({"": teacher, controls.judged: sides[1]}, variables, drawn.first(MANIFOLD_PAIRS), drawn.seed)
    self_swap, ceiling = self_checks(teacher, students.values(), variables, drawn.first(SELF_CHECK_PAIRS))
    return Verification(
        judged=None if controls is None else controls.judged,
        outcomes=table.frame(variables),
        self_swap=self_swap,
        ceiling=ceiling,
        examples=pd.DataFrame(sorted(examples, key=lambda example: example["base"])),
        controls=None if controls is None else control_table.frame(variables),
        absent=() if controls is None else tuple(controls.plan.absent),
        off_manifold=tuple(off),
        choices=choice_table.frame(variables) if chosen else None,
    )


def _name(control: str, variable: str) -> str:
    """Return what the judged student's shuffled sites of a variable are called."""
    return f"{variable}, {control}"


def _shuffled(names: Mapping[str, str], variable: str, pairs: Pairs, runs: Runs) -> Iterator[tuple[str, Tensor]]:
    """Swap a model at a variable's shuffled sites, by control, and from shuffled sources at its own."""
    for control, name in names.items():
        yield control, runs.counterfactual(name)
    yield SHUFFLED_SOURCES, runs.counterfactual(variable, pairs.shuffled)


def _unaligned(
    names: Sequence[str], sides: tuple[Side, Side], batches: Iterable[Pairs], top_k: int
) -> Iterator[pd.DataFrame]:
    """Tabulate both models, swapped at unaligned sites."""
    own = {name: [name] for name in names}
    grouped = groups(names, [(side, own) for side in sides])
    for pairs in batches:
        for group in grouped:
            runs = [Runs(side, pairs, group, what) for side, what in zip(sides, ("teacher", "student"), strict=True)]
            base = [log_probabilities(run.base()) for run in runs]
            for name in group:
                truth, found = (
                    Answers(one, log_probabilities(run.counterfactual(name)))
                    for one, run in zip(base, runs, strict=True)
                )
                yield tabulated(UNALIGNED, name, pairs.cases, truth, found, top_k)


def _examples(pairs: Pairs) -> Iterator[dict[str, Any]]:
    """Say of each base row what it and its source read, and which positions are overwritten from where."""
    source = pairs.base if pairs.source is None else pairs.source
    starts, source_starts = first_real(pairs.base), first_real(source)
    for row, place in enumerate(pairs.swap.source[: pairs.bases].tolist()):
        swapped = pairs.swap.mask[row].nonzero()[:, 0]
        yield {
            "base": int(pairs.base["example_id"][row]),
            "source": int(source["example_id"][place]),
            "base_tokens": _tokens(pairs.base, row),
            "source_tokens": _tokens(source, place),
            "swapped": (swapped - starts[row]).tolist(),
            "taken": (pairs.swap.source_position[row, swapped] - source_starts[place]).tolist(),
        }


def _tokens(batch: Mapping[str, Tensor], row: int) -> NDArray[np.int32]:
    """Return the tokens of a row without padding, small: those of all pairs are kept; none if rows are no text."""
    if "input_ids" not in batch:
        return np.empty(0, np.int32)
    return batch["input_ids"][row, batch["attention_mask"][row].bool()].cpu().numpy().astype(np.int32)
