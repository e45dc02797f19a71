"""Half a minute: a student that computes as its teacher does is SUPPORTED, and a stranger is not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.config.loading import load_text_config
from iit_toolkit.distillation.fresh_blocks import draw_blocks_anew
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.run import verify_loaded
from iit_toolkit.runs.folder import RunFolder

COPY, STRANGER = "copy", "stranger"


def demo(output: str | Path) -> dict[str, Path]:
    """Verify two students that are made, not trained, and write a report on each.

    Both have the bundled teacher's embeddings and head. The copy has its blocks with heads and neurons in another
    order: other weights, the same function. The stranger has random blocks.

    Args:
        output: A folder for the two run folders; those must be new or empty.

    Returns:
        The run folder of each student, by its name.

    Raises:
        UserError: If a run folder is taken.
    """
    for name in (COPY, STRANGER):
        RunFolder(Path(output) / name).refuse_occupied()
    prepared = Prepared(load_text_config("demo"))
    untrained = prepared.new_student()
    alignment = prepared.verified_alignment(untrained)
    torch.manual_seed(prepared.config.seed + 1)  # the untrained control has random blocks, too: others
    made = {COPY: rearranged(prepared.teacher), STRANGER: draw_blocks_anew(copy.deepcopy(prepared.teacher))}
    return {
        name: verify_loaded(prepared, {name: student, UNTRAINED: untrained}, alignment, Path(output) / name)
        for name, student in made.items()
    }


@torch.no_grad()
def rearranged(teacher: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a BERT with the heads and the hidden neurons of each block in another order."""
    model = copy.deepcopy(teacher)
    for number, block in enumerate(cast(list[Any], blocks(model))):
        generator = torch.Generator().manual_seed(number)
        attention, reads, writes = block.attention.self, block.intermediate.dense, block.output.dense
        width = attention.attention_head_size
        heads = _other_order(attention.num_attention_heads, generator)
        order = (heads[:, None] * width + torch.arange(width)).flatten()
        for layer in (attention.query, attention.key, attention.value):
            _reorder(layer, order)
        block.attention.output.dense.weight.copy_(block.attention.output.dense.weight[:, order])
        order = _other_order(reads.out_features, generator)
        _reorder(reads, order)
        writes.weight.copy_(writes.weight[:, order])
    return model


def _other_order(size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(size, generator=generator)


def _reorder(layer: torch.nn.Linear, order: Tensor) -> None:
    layer.weight.copy_(layer.weight[order])
    layer.bias.copy_(layer.bias[order])
