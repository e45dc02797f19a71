"""The kinds of sites on which the engine is held against its plain twin, and the holding."""

from __future__ import annotations

from typing import Any

import torch

from iit_toolkit.alignment import Alignment, ResolvedSite, resolve
from iit_toolkit.alignment.positions import SpanPositions
from iit_toolkit.interchange import InterchangeModel, Swap, draw_swap, other_rows
from tests.families import FAMILIES, LAYERS, make_batch, make_model
from tests.twin import Answers, engine, gradients, twin

SiteDict = dict[str, Any]

SITE_KINDS: dict[str, list[SiteDict]] = {
    "block output": [{"layer": 1, "component": "block_output"}],
    "last block output": [{"layer": LAYERS - 1, "component": "block_output"}],
    "block input": [{"layer": 2, "component": "block_input"}],
    "first block input": [{"layer": 0, "component": "block_input"}],
    "several layers": [{"layer": layer, "component": "block_output"} for layer in (2, 0, 1)],
    "neuron range": [{"layer": 1, "component": "block_output", "neurons": [5, 21]}],
    "two ranges": [{"layer": 1, "component": "block_output", "neurons": part} for part in ([20, 31], [0, 7])],
    "heads": [{"layer": 1, "component": "attention_value_output", "heads": [3, 1]}],
    "attention output": [{"layer": 1, "component": "attention_output"}],
    "mlp activation": [{"layer": 1, "component": "mlp_activation", "neurons": [3, 40]}],
    "mlp output": [{"layer": 2, "component": "mlp_output"}],
    "inner module path": [{"component": "{block}[1].{inner}.output"}],
    "inner module input": [{"component": "{block}[2].{inner}.input"}],
    "block module path": [{"component": "{block}[1].output"}],
    "embeddings": [{"component": "{embeddings}.output"}],
    "read elsewhere": [{"layer": 1, "component": "block_output", "read": {"layer": 1, "component": "block_input"}}],
    "read inside, write blocks": [
        {"layer": 1, "component": "block_output", "read": {"layer": 2, "component": "attention_output"}},
        {"layer": 0, "component": "block_output", "neurons": [0, 9]},
    ],
    "inside and outside": [
        {"layer": 2, "component": "attention_output", "neurons": [8, 32]},
        {"layer": 0, "component": "block_output", "neurons": [0, 16]},
    ],
}


def sites_of(kind: str, family: str) -> list[SiteDict]:
    """The sites of a kind, with this family's module paths."""
    paths = FAMILIES[family]
    names = {"block": paths.blocks, "inner": paths.inner, "embeddings": paths.embeddings}
    return [{**site, "component": site["component"].format_map(names)} for site in SITE_KINDS[kind]]


def resolved(model: Any, sites: list[SiteDict], name: str = "variable") -> dict[str, tuple[ResolvedSite, ...]]:
    """Resolve the sites of one variable."""
    variable = {"name": name, "teacher": [{"layer": 0, "component": "block_output"}], "student": sites}
    return resolve(Alignment.from_dict({"name": "test", "variables": [variable]}), model, "student")


def ragged_swap(base_ok: torch.Tensor, source_ok: torch.Tensor | None = None, seed: int = 0) -> Swap:
    """Spans of different lengths and places in every row, from another row."""
    generator = torch.Generator().manual_seed(seed)
    source = other_rows(len(base_ok), generator)
    return draw_swap(
        SpanPositions(fraction=0.6), source, base_ok, base_ok if source_ok is None else source_ok, generator
    )


def both(
    family: str,
    kind: str,
    dtype: torch.dtype = torch.float32,
    *,
    model: Any = None,
    other_source: bool = False,
    **settings: Any,
) -> tuple[Answers, dict[str, torch.Tensor], Answers, dict[str, torch.Tensor]]:
    """Return the engine's answers and gradients, and the twin's."""
    model = make_model(family, dtype) if model is None else model
    sites = sites_of(kind, family)
    inputs, eligible = make_batch(family, dtype)
    source_inputs, source_eligible = None, eligible
    if other_source:
        source_inputs, source_eligible = make_batch(family, dtype, seed=1, lengths=(9, 13, 8, 6))
    swap = ragged_swap(eligible, source_eligible)
    interchange = InterchangeModel(model, resolved(model, sites), **settings)
    ours = engine(interchange, "variable", inputs, swap, source_inputs)
    our_gradients = gradients(model, ours)
    plain = twin(model, FAMILIES[family], sites, inputs, swap, source_inputs)
    return ours, our_gradients, plain, gradients(model, plain)
