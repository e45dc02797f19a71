"""The side of a program: its variables are swapped by name, and its answer is certain.

Legend of shapes: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from iit_toolkit.alignment.resolve import ResolvedSite
from iit_toolkit.alignment.spec import Alignment, ProgramVariable
from iit_toolkit.data.batch import Batch
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.side import Run
from iit_toolkit.interchange.sited import Sited
from iit_toolkit.interchange.swap import Swap

FORBIDDEN = -1e4
"""The logit of every class that is not the answer: its probability is exactly 0, and all losses stay finite."""


@dataclass
class ProgramRun(Run):
    """What one run of a program gave.

    Attributes:
        values: (B, ...) the values of all variables, in their own shapes.
    """

    values: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class ProgramSide(Sited):
    """A program as the teacher of a network. It answers once per row, with the number of its answer's class.

    Every row has one position. A swap takes a row's value of a variable from its source if it swaps any position of the
    row, wherever the network's positions are.

    Args:
        program: The program.
        sites: What each variable of the alignment swaps: `program_sites`. A site without neurons swaps nothing.
        device: Where inputs are read.
    """

    module: nn.Module | None = None
    head: nn.Module | None = None

    def __init__(
        self,
        program: CausalModel,
        sites: Mapping[str, Sequence[ResolvedSite]],
        device: torch.device | None = None,
    ) -> None:
        """Keep the program and its variables."""
        super().__init__(sites)
        self.model = program
        self.device = device or torch.device("cpu")

    def with_sites(self, sites: Mapping[str, Sequence[ResolvedSite]]) -> ProgramSide:
        """Return the same program with other variables."""
        return ProgramSide(self.model, sites, self.device)

    def eval(self) -> None:
        """Do nothing: a program has one mode."""

    def reads(self, batch: Batch) -> dict[str, Tensor]:
        """Return the program's inputs.

        Raises:
            UserError: If the batch lacks one.
        """
        for name in self.model.inputs:
            if name not in batch:
                raise UserError(f"rows lack `{name}`, which the program reads; they have {', '.join(batch)}")
        return {name: batch[name] for name in self.model.inputs}

    def base_run(
        self, inputs: Mapping[str, Tensor], variables: Iterable[str] = (), tokens: Tensor | None = None
    ) -> Run:
        """Run the program; `variables` and `tokens` change nothing.

        Raises:
            UserError: As for `CausalModel.run`.
        """
        del variables, tokens
        return self._run(inputs, {})

    def source_run(self, inputs: Mapping[str, Tensor], variables: Iterable[str]) -> Run:
        """Run as `base_run`."""
        return self.base_run(inputs, variables)

    def counterfactual_run(
        self, base: Run, variable: str, swap: Swap, *, source: Run | None = None, tokens: Tensor | None = None
    ) -> Run:
        """Run the base with variables of the program set to what they are in the source."""
        del tokens
        origin = source or base
        assert isinstance(base, ProgramRun) and isinstance(origin, ProgramRun)
        rows = swap.mask.any(1)
        setting: dict[str, Tensor] = {}
        for site in self.sites[variable]:
            if site.ranges != ():
                own, moved = base.values[site.write], origin.values[site.read][swap.source]
                setting[site.write] = torch.where(rows.view(-1, *[1] * (own.dim() - 1)), moved, own)
        return self._run(base.inputs, setting)

    def logits(self, run: Run) -> Tensor:
        """Return (B, C): 0 for the answer's class, and `FORBIDDEN` for others."""
        assert run.logits is not None
        return run.logits

    def _run(self, inputs: Mapping[str, Tensor], setting: Mapping[str, Tensor]) -> Run:
        values = self.model.run(inputs, setting)
        answers = self.model.answers(values)
        classes = len(self.model.domains[self.model.answer])
        logits = torch.full((len(answers), classes), FORBIDDEN, device=answers.device)
        logits.scatter_(1, answers[:, None], 0.0)
        numbers = {name: value.reshape(len(value), 1, -1).float() for name, value in values.items()}
        return ProgramRun(dict(inputs), None, logits, logits[:, None], numbers, values=values)


def program_sites(alignment: Alignment, program: CausalModel) -> dict[str, tuple[ResolvedSite, ...]]:
    """Find the variables of a program that an alignment names.

    Args:
        alignment: The alignment.
        program: The program.

    Returns:
        Of every variable of the alignment, those of the program, as sites.

    Raises:
        UserError: If a teacher names sites of a model, or a variable that the program does not have.
    """
    found: dict[str, tuple[ResolvedSite, ...]] = {}
    for variable in alignment.variables:
        where = f"variable {variable.name!r}, teacher"
        names = [one.variable for one in variable.teacher if isinstance(one, ProgramVariable)]
        if len(names) < len(variable.teacher):
            raise UserError(
                f"{where}: it names no variable, but the teacher is a program; write `teacher: [{{variable: NAME}}]` "
                "with the name of one of its variables"
            )
        program.require_variables(names, where)
        found[variable.name] = tuple(ResolvedSite(name, name, None, None, None, False) for name in names)
    return found
