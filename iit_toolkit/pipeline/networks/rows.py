"""The rows of a run of networks: from a function or drawn from a program's domains, and balanced if that is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iit_toolkit.config.network_config import RowsConfig
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.certify_program import balanced_pairs
from iit_toolkit.pipeline.networks.objects import labelled, rows_named

TRAIN, HELD_OUT = "train", "held-out"
_DRAWN = {TRAIN: 20_000, HELD_OUT: 1_000}
_CANDIDATES = 16
"""So many rows are drawn of a program for every row that is kept, if answers are to be balanced."""
_AT_A_TIME = 1024
"""So many pairs are drawn together: more of them are looked at than are kept."""


@dataclass(frozen=True)
class NetworkRows:
    """The rows of a run.

    Attributes:
        single: Each row once, by split: what accuracy is measured on.
        drawn: What is trained and verified on, by split: the same rows, or pairs of them.
    """

    single: dict[str, TensorRows]
    drawn: dict[str, TensorRows]


def rows_of(config: RowsConfig, program: CausalModel | None, variables: Sequence[str]) -> NetworkRows:
    """Make the rows that a config describes.

    Args:
        config: The section `data`.
        program: The program, if there is one.
        variables: The program's variables that pairs are balanced for.

    Raises:
        UserError: If the function, the program or the columns do not fit, or there are too few rows.
    """
    if config.path is not None:
        both = dict(zip((TRAIN, HELD_OUT), rows_named(config.path, "data.path", program), strict=True))
        most = {TRAIN: config.train_rows, HELD_OUT: config.eval_rows}
        single = {split: _first(rows, most[split]) for split, rows in both.items()}
    else:
        assert program is not None  # checked by the config
        single = {split: _of_program(config, program, split) for split in (TRAIN, HELD_OUT)}
    if config.balance == "answers" and config.path is not None:
        single = {split: _balanced(rows, _generator(config, split, 1)) for split, rows in single.items()}
    for split, rows in single.items():
        if len(rows) < 2:
            raise UserError(f"data: there are {len(rows)} {split} rows; give 2 or more, since sources are other rows")
        if int(rows.columns["labels"].min()) < 0:
            raise UserError(f"data: {split} rows have a negative label; give the numbers of classes, from 0 on")
    if config.balance != "changed":
        return NetworkRows(single, single)
    assert program is not None
    return NetworkRows(
        single,
        {split: _pairs(program, rows, variables, _generator(config, split, 2)) for split, rows in single.items()},
    )


def fingerprint_of_tensors(rows: TensorRows) -> str:
    """Identify rows by all of their columns: SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(rows.columns):
        column = rows.columns[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{column.dtype}\0{list(column.shape)}\0".encode())
        digest.update(column.flatten().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def shared_inputs(one: TensorRows, other: TensorRows) -> int:
    """Return how many rows of one have the inputs of any row of another."""
    seen = set(_inputs(other))
    return sum(row in seen for row in _inputs(one))


def _inputs(rows: TensorRows) -> list[bytes]:
    inputs = rows.columns["inputs"].cpu()
    return [row.tobytes() for row in inputs.reshape(len(inputs), -1).numpy()]


def _generator(config: RowsConfig, split: str, purpose: int) -> torch.Generator:
    number = 4 * config.seed + purpose
    return torch.Generator().manual_seed(2 * number + (split == HELD_OUT))


def _first(rows: TensorRows, most: int | None) -> TensorRows:
    if most is not None and most > len(rows):
        raise UserError(f"data: {most:,} rows are asked for, but the function returns {len(rows):,}; ask for fewer")
    return rows if most is None else TensorRows({name: column[:most] for name, column in rows.columns.items()})


def _of_program(config: RowsConfig, program: CausalModel, split: str) -> TensorRows:
    """Draw every input of a program from its domain."""
    for name in program.inputs:
        if name not in program.domains:
            raise UserError(
                f"data.source program: input {name!r} has no domain to draw from; give it one, or give data.path"
            )
    wanted = {TRAIN: config.train_rows, HELD_OUT: config.eval_rows}[split] or _DRAWN[split]
    count = wanted * (_CANDIDATES if config.balance == "answers" else 1)
    generator = _generator(config, split, 0)
    columns: dict[str, Tensor] = {}
    for name in sorted(program.inputs):
        domain = torch.tensor(program.domains[name])
        columns[name] = domain[torch.randint(len(domain), (count,), generator=generator)]
    if "inputs" in columns:
        raise UserError("data.source program: no input may be called `inputs`, which networks read; rename it")
    ordered = [name for name in program.parents if name in columns]
    columns["inputs"] = torch.stack([columns[name].float() for name in ordered], 1)
    rows = labelled(columns, "data.source program", program)
    if config.balance == "answers":
        rows = _balanced(rows, _generator(config, split, 1), wanted)
    return rows


def _balanced(rows: TensorRows, generator: torch.Generator, most: int | None = None) -> TensorRows:
    """Keep as many rows of every class as the rarest has, in random order."""
    labels = rows.columns["labels"]
    counts = torch.bincount(labels)
    present = counts[counts > 0]
    share = int(present.min()) if most is None else min(int(present.min()), max(1, most // len(present)))
    order = torch.randperm(len(rows), generator=generator)
    kept = torch.cat([order[labels[order] == number][:share] for number in counts.nonzero()[:, 0].tolist()])
    kept = kept[torch.randperm(len(kept), generator=generator)]
    return TensorRows({name: column[kept] for name, column in rows.columns.items() if name != "example_id"})


def _pairs(program: CausalModel, rows: TensorRows, variables: Sequence[str], generator: torch.Generator) -> TensorRows:
    """Return as many pairs as there are rows, less those that are drawn twice."""
    if "source_inputs" in rows.columns:
        raise UserError("data.balance changed makes pairs, but rows have sources already; leave one of the two out")
    share = -(-len(rows) // len(variables))
    counts = [min(_AT_A_TIME, share - start) for start in range(0, share, _AT_A_TIME)]
    drawn = [
        torch.stack(balanced_pairs(program, rows.columns, variable, count, generator), 1)
        for variable in variables
        for count in counts
    ]
    pairs = torch.unique(torch.cat(drawn), dim=0)
    base, source = pairs[torch.randperm(len(pairs), generator=generator)].unbind(1)
    return rows.pairs(base, source)
