"""Training with the sources that the data gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import Dataset

from iit_toolkit.alignment import Alignment
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from tests.data.conftest import words_of
from tests.distillation.test_trainer import Rows, collate, trainer


def test_sources_given_by_the_data_are_trained_with(tmp_path: Path) -> None:
    """With the words that differ swapped at the input, the counterfactual run of a pair is the run of its source."""
    tokenizer = words_of(*(f"w{index}" for index in range(25)))
    texts = {"text": [f"w{i} w{i + 1} w2 w3 w4 w5" for i in range(20)]}
    texts["source"] = [text.replace(" w2 ", " w20 ") for text in texts["text"]]
    site = {"layer": 0, "component": "block_input"}
    alignment = Alignment.from_dict(
        {
            "name": "x",
            "variables": [{"name": "v", "teacher": [site], "student": [site]}],
            "positions": {"kind": "differing"},
            "sources": {"kind": "paired"},
        }
    )
    one = trainer(tmp_path, alignment=alignment, weights=ObjectiveWeights.causal(), max_steps=2, logging_steps=1)
    one.train_dataset = tokenize_pairs(Dataset.from_dict(texts), tokenizer, 12).rows  # pyright: ignore
    one.data_collator = MaskedLanguageCollator(tokenizer)
    batch = one.data_collator([one.train_dataset[index] for index in range(5)])  # pyright: ignore
    [drawn] = one.draw_interchanges(batch)
    assert drawn.source is not None and drawn.swap.source.tolist() == list(range(5))
    assert torch.equal(drawn.swap.mask, batch["input_ids"] != drawn.source["input_ids"])
    one.model.eval()
    with torch.no_grad():
        counterfactual = one.objective(batch, [drawn], ObjectiveWeights(causal_ce=1))
        plain = one.objective({**batch, **drawn.source}, [], ObjectiveWeights(ce=1))
    assert float(counterfactual.total) == pytest.approx(float(plain.total), rel=1e-5)
    one.train()
    assert one.state.global_step == 2 and one.state.log_history[0]["gradient_share/causal_ce"] > 0
    one.data_collator = collate
    with pytest.raises(UserError, match="sources `paired` need a source text for every row"):
        one.draw_interchanges(collate([Rows()[index] for index in range(4)]))
