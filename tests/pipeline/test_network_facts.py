"""What is written of the rows of networks: every case has the inputs that were its base and its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.pipeline.networks.facts import write_inputs_read
from iit_toolkit.runs.folder import RunFolder
from tests.programs import equality, equality_rows

ROWS = 24


def paired() -> TensorRows:
    """Rows whose sources are other rows, with their numbers."""
    return TensorRows(equality_rows(2 * ROWS)).pairs(torch.arange(ROWS), torch.arange(ROWS) + ROWS)


def without_numbers() -> TensorRows:
    """Rows with sources that have no numbers."""
    single = equality_rows(ROWS)
    return TensorRows({**single, "source_inputs": single["inputs"].roll(1, 0)})


@pytest.mark.parametrize("kind", ["paired", "in_batch"])
@pytest.mark.parametrize("rows", [paired(), without_numbers()], ids=["paired", "without numbers"])
def test_the_source_of_a_case_is_shown_by_what_was_read(rows: TensorRows, kind: Any, tmp_path: Path) -> None:
    alignment = iit.Alignment.pairs("asked", sources=kind, left=("left", iit.Site.module("0.output", (0, 4))))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 2))
    found = iit.verify(equality(), network, alignment, rows)
    folder = RunFolder(tmp_path)
    write_inputs_read(folder, found, rows, equality(), alignment)
    shown = pd.read_parquet(folder.examples)

    def said(inputs: Tensor) -> str:
        return f"inputs ({', '.join(f'{value:.3g}' for value in inputs.tolist())})"

    own, theirs = rows.columns["inputs"], rows.columns["source_inputs"]
    places = {number: place for place, number in enumerate(rows.columns["example_id"].tolist())}
    assert len(shown) == ROWS
    for case in shown.to_dict("records"):
        base = places[case["base"]]
        source = theirs[base] if kind == "paired" else own[places[case["source"]]]
        assert [case["base_tokens"][0], case["source_tokens"][0]] == [said(own[base]), said(source)]
