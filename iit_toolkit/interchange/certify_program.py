"""Certification of a program on data: it answers as the data say, and each of its variables can change the answer.

A program has no state: a variable is computed from the values of its parents in the same row, and from nothing else.

It also draws pairs in which this happens as often as not. Random pairs can be a poor test: in natural-logic inference,
most answers are of one class, and a swap of one variable rarely changes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel, Values
from iit_toolkit.interchange.checks import Check
from iit_toolkit.interchange.swap import other_rows

_CANDIDATES = 64
"""So many random pairs are looked at for every balanced one."""


def certify_program(
    program: CausalModel, inputs: Values, labels: Tensor, variables: Sequence[str], *, seed: int = 0
) -> list[Check]:
    """Check a program on data, and say in which share of random pairs the swap of each variable changes the answer.

    Args:
        program: The program.
        inputs: Its inputs, (B, ...) each.
        labels: (B,) gold answers: numbers of classes.
        variables: The variables that are to be swapped.
        seed: Of the pairs.

    Returns:
        The check of the answers, then one of every variable.

    Raises:
        UserError: If the program cannot be run on the data, or has no such variable. If a variable is another in a
            second run, or without other rows.
    """
    program.require_variables(variables, "alignment")
    base = program.run(inputs)
    _require_repeatable(program, inputs, base)
    answers = program.answers(base)
    source = other_rows(len(answers), torch.Generator().manual_seed(seed)).to(answers.device)
    checks = [_answers_as_labelled(answers, labels)]
    for name in variables:
        changed = program.answers(program.run(inputs, {name: base[name][source]})) != answers
        share = float(changed.float().mean())
        if share or _can_change(program, inputs, answers, name):
            found = Check(
                f"program: {name}", True, f"changes the answer in {share:.1%} of {len(changed):,} random pairs"
            )
        else:
            detail = f"never changes the answer in {len(changed):,} rows; align a variable that the answer depends on"
            found = Check(f"program: {name}", False, detail)
        checks.append(found)
    return checks


def balanced_pairs(
    program: CausalModel, inputs: Values, variable: str, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw pairs of rows, balanced by the answer under the interchange, and by whether it is another one.

    Every combination of the two that random pairs show is drawn equally often, up to one; pairs can repeat.

    Args:
        program: The program.
        inputs: Its inputs, (B, ...) each.
        variable: The variable that is swapped.
        count: How many pairs.
        generator: CPU generator; the draw depends on nothing else.

    Returns:
        Rows (count,) of the bases, and those of their sources.

    Raises:
        UserError: If no random pair changes the answer.
    """
    program.require_variables([variable], "balanced pairs")
    values = program.run(inputs)
    rows = len(values[variable])
    base, source = torch.randint(rows, (2, _CANDIDATES * count), generator=generator)
    bases = {name: inputs[name][base.to(inputs[name].device)] for name in program.inputs}
    answers = program.answers(program.run(bases, {variable: values[variable][source.to(values[variable].device)]}))
    before = program.answers(values)[base.to(answers.device)]
    if not bool((answers != before).any()):
        raise UserError(
            f"variable {variable!r} changes the answer in none of {len(base):,} random pairs; swap a variable that "
            "the answer depends on, or give other rows"
        )
    stratum = (2 * answers + (answers != before).long()).cpu()
    chosen: list[Tensor] = []
    kinds = stratum.unique().tolist()
    for place, kind in enumerate(kinds):
        members = (stratum == kind).nonzero()[:, 0]
        wanted = (count + len(kinds) - 1 - place) // len(kinds)
        chosen.append(members[torch.randint(len(members), (wanted,), generator=generator)])
    shuffled = torch.cat(chosen)[torch.randperm(count, generator=generator)]
    return base[shuffled], source[shuffled]


def _require_repeatable(program: CausalModel, inputs: Values, base: Values) -> None:
    """Refuse a program that gives the first half of the rows other values if they are run again without the others.

    Only variables with a domain are compared: numbers that are not whole may be rounded otherwise.
    """
    rows = (len(base[program.answer]) + 1) // 2
    again = program.run({name: inputs[name] for name in program.inputs})
    fewer = program.run({name: inputs[name][:rows] for name in program.inputs})
    for name in (one for one in program.order if one in program.domains):
        if not torch.equal(again[name], base[name]):
            raise UserError(
                f"variable {name!r} has other values in a second run on the same inputs; give a program without chance"
            )
        if not torch.equal(fewer[name], base[name][:rows]):
            raise UserError(
                f"variable {name!r} has other values if it is computed without the other rows of the batch; compute "
                "every row from its own values alone"
            )


def _answers_as_labelled(answers: Tensor, labels: Tensor) -> Check:
    wrong = (answers != labels.to(answers.device)).nonzero()[:, 0]
    if not len(wrong):
        return Check("program: answers", True, f"as the labels of all {len(answers):,} rows")
    row = int(wrong[0])
    detail = (
        f"in {len(wrong):,} of {len(answers):,} rows it answers otherwise than the labels: in row {row} it gives class "
        f"{int(answers[row])}, the label is {int(labels[row])}; correct the program or the labels"
    )
    return Check("program: answers", False, detail)


def _can_change(program: CausalModel, inputs: Values, answers: Tensor, variable: str) -> bool:
    """Say whether any value of a variable's domain changes the answer of any row."""
    return any(
        bool((program.answers(program.run(inputs, {variable: torch.full(answers.shape, value)})) != answers).any())
        for value in program.domains.get(variable, ())
    )
