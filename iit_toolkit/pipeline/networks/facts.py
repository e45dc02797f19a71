"""What a run of networks says of its program, its rows and its models, beside the interchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.examples import Answers, write_answers, write_examples
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.data.batch import paired_sources
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.certify_program import certify_program
from iit_toolkit.interchange.checks import Check
from iit_toolkit.interchange.sides import Teacher, side_of
from iit_toolkit.pipeline.networks.prepare import program_variables
from iit_toolkit.pipeline.networks.rows import HELD_OUT
from iit_toolkit.runs.folder import RunFolder

_BATCH = 1024
_SHOWN_NUMBERS = 16
_MOST_KINDS = 16


def certified(program: CausalModel, rows: TensorRows, variables: Sequence[str]) -> list[Check]:
    """Certify a program on rows, as `certify_program` does.

    Raises:
        UserError: If the program cannot be run on the rows.
    """
    return certify_program(program, rows.columns, rows.columns["labels"], variables)


def facts_of_program(name: str, program: CausalModel, rows: TensorRows, variables: Sequence[str]) -> dict[str, Any]:
    """Return what results say of a program: its variables, and its certification on the held-out rows."""
    return {
        "name": name,
        "answer": program.answer,
        "variables": [
            {
                "name": one,
                "reads": list(program.parents[one]),
                "values": [_shown(program, one, number) for number in range(len(program.domains.get(one, ())))],
            }
            for one in program.order
        ],
        "checks": [asdict(check) for check in certified(program, rows, variables)],
    }


@torch.no_grad()
def accuracy(model: Teacher, rows: TensorRows) -> Estimate:
    """Return the share of rows whose label is the model's answer, with a Wilson interval."""
    side = side_of(model, None, "student")
    side.eval()
    hits: list[Tensor] = []
    for numbers in torch.arange(len(rows)).split(_BATCH):
        batch = {name: value.to(side.device) for name, value in rows.batch(numbers).items()}
        hits.append(side.logits(side.base_run(side.reads(batch))).argmax(1) == batch["labels"])
    right = torch.cat(hits).cpu().numpy().astype(np.float64)
    return Resampled({"hits": right, "answers": np.ones(len(right))}).share("hits", "answers")


def write_inputs_read(
    folder: RunFolder,
    verification: Verification,
    rows: TensorRows,
    program: CausalModel | None,
    alignment: Alignment,
) -> None:
    """Write `examples.parquet` and `answers.parquet`: the inputs of every pair, and what classes are called.

    With a program, its variables' values stand beside the inputs, and pairs are of the kind of their base: its values
    of the aligned variables.

    Args:
        folder: The run folder.
        verification: What was verified.
        rows: The rows that were verified on.
        program: The program, if there is one.
        alignment: The alignment that was verified.
    """
    of_sources = paired_sources(rows.columns) if alignment.sources.kind == "paired" else rows.columns
    bases, sources = (_Read.of(columns, program) for columns in (rows.columns, of_sources))
    variables = program_variables(alignment)
    examples = verification.examples.drop_duplicates(["base", "source"])
    lines = [
        {
            "base": base,
            "source": source,
            "base_tokens": bases.read(base),
            "source_tokens": sources.read(source),
            "swapped": [],
            "taken": [],
            "family": bases.kind(base, variables),
        }
        for base, source in zip(examples["base"].tolist(), examples["source"].tolist(), strict=True)
    ]
    frame = pd.DataFrame(lines)
    if frame["family"].nunique() > _MOST_KINDS:
        frame["family"] = None
    write_examples(frame, folder.examples)
    if program is None:
        texts = {number: str(number) for number in range(1 + int(rows.columns["labels"].max()))}
    else:
        classes = range(len(program.domains[program.answer]))
        texts = {number: _shown(program, program.answer, number) for number in classes}
    write_answers(Answers(texts, {}, HELD_OUT), folder.answers)


@dataclass(frozen=True)
class _Read:
    """What is shown of rows, by their numbers.

    Attributes:
        inputs: (N, ...) what networks read.
        places: Where a row of a number is.
        program: The program, if there is one.
        values: The values of its variables.
    """

    inputs: Tensor
    places: Mapping[int, int]
    program: CausalModel | None
    values: Mapping[str, Tensor]

    @classmethod
    def of(cls, columns: Mapping[str, Tensor], program: CausalModel | None) -> _Read:
        places = {number: place for place, number in enumerate(columns["example_id"].tolist())}
        return cls(columns["inputs"], places, program, {} if program is None else program.run(columns))

    def read(self, number: int) -> list[str]:
        """Return a row's inputs, and the values of the program's computed variables that have a domain."""
        inputs = self.inputs[self.places[number]].flatten()
        shown = ", ".join(f"{value:.3g}" for value in inputs[:_SHOWN_NUMBERS].tolist())
        parts = [f"inputs ({shown}{', ...' if len(inputs) > _SHOWN_NUMBERS else ''})"]
        if self.program is not None:
            named = [one for one in self.program.order if one in self.program.domains and self.program.parents[one]]
            parts += [f"; {name}: {self._value(name, number)}" for name in named]
        return parts

    def kind(self, number: int, variables: Sequence[str]) -> str | None:
        """Return a row's values of some variables; none if one has no domain."""
        if self.program is None or not all(name in self.program.domains for name in variables):
            return None
        return ", ".join(f"{name}: {self._value(name, number)}" for name in variables)

    def _value(self, name: str, number: int) -> str:
        assert self.program is not None
        plain = self.values[name][self.places[number]].item()
        return _shown(self.program, name, int(plain)) if name in self.program.values else str(plain)


def _shown(program: CausalModel, name: str, number: int) -> str:
    """Return what the number of a value in its domain reads as."""
    return str((program.values.get(name) or program.domains[name])[number])
