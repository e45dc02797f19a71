"""Sources `fixed`: every training row has one source for the whole training, by the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from iit_toolkit.alignment import preset
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from tests.distillation.test_trainer import Rows, collate, trainer

COUNT = 64
FIXED = preset("diito/middle", 4, 2).model_copy(update={"sources": Sources(kind="fixed")})


class Numbered(Rows):
    """Rows that know their number, which lies `shift` above their place."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__(COUNT)
        self.shift = shift

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), "example_id": index + self.shift}


def with_numbers(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {**collate(rows), "example_id": torch.tensor([row["example_id"] for row in rows])}


def fixed(folder: Path, rows: Rows | None = None, **settings: Any) -> CausalDistillationTrainer:
    one = trainer(folder, alignment=FIXED, max_steps=16, gradient_shares=False, **settings)  # two epochs
    one.train_dataset, one.data_collator = rows or Numbered(), with_numbers  # pyright: ignore
    return one


def pairs_of(one: CausalDistillationTrainer, **arguments: Any) -> list[tuple[int, int]]:
    """Train, and return every base's and its source's number, in the order in which they are drawn."""
    pairs: list[tuple[int, int]] = []
    draw = one.draw_interchanges

    def drawn(batch: Any) -> Any:
        [interchange] = interchanges = draw(batch)
        assert interchange.source is not None
        ids = Rows(COUNT).ids[interchange.source["example_id"]]
        unmasked = interchange.source["input_ids"] != 1  # what they hold is what their number says
        assert torch.equal(interchange.source["input_ids"][unmasked], ids[unmasked])
        sources = interchange.source["example_id"][interchange.swap.source]
        pairs.extend(zip(batch["example_id"].tolist(), sources.tolist(), strict=True))
        return interchanges

    one.draw_interchanges = drawn  # pyright: ignore
    one.train(**arguments)
    return pairs


def test_a_row_has_one_other_row_as_its_source_in_every_epoch(tmp_path: Path) -> None:
    pairs = pairs_of(fixed(tmp_path))
    assert len(pairs) == 2 * COUNT
    first, second = dict(pairs[:COUNT]), dict(pairs[COUNT:])
    assert first == second and list(first) != list(second)  # in another order
    assert set(first) == set(first.values()) == set(range(COUNT))
    assert all(base != source for base, source in first.items())


def test_the_seed_makes_the_pairing(tmp_path: Path) -> None:
    one, again, other = (dict(pairs_of(fixed(tmp_path, seed=seed))) for seed in (1, 1, 2))
    assert one == again and sum(one[row] == other[row] for row in one) < COUNT / 4


def test_a_resumed_run_has_the_pairing_and_the_weights_of_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, resumed = fixed(tmp_path, save_strategy="steps", save_steps=10), fixed(tmp_path)
    pairs = pairs_of(whole)
    rest = pairs_of(resumed, resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    assert rest and set(rest) <= set(pairs)
    for (name, value), other in zip(
        whole.student.state_dict().items(), resumed.student.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name


def test_rows_without_their_number_are_refused(tmp_path: Path) -> None:
    for rows in (Numbered(shift=1), Numbered(shift=COUNT)):
        batch = with_numbers([rows[index] for index in range(8)])
        with pytest.raises(UserError, match="`example_id` is their number"):
            fixed(tmp_path, rows).draw_interchanges(batch)
    batch.pop("example_id")
    with pytest.raises(UserError, match="`example_id` is their number"):
        fixed(tmp_path).draw_interchanges(batch)
