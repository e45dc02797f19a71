"""A program as the teacher: planted networks are told apart, by the measures, controls and verdict of any teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from tests.programs import equality, equality_rows

PAIRS = 400


class Planted(nn.Module):
    """Computes equality by what the program computes, in eight neurons: four hold `left`, four hold `right`.

    Args:
        crossed: Whether the two halves change places.
        leaks: Whether two more neurons hold the answer that a base has, and half of the logits come from them.
    """

    def __init__(self, crossed: bool = False, leaks: bool = False) -> None:
        super().__init__()
        self.state = nn.Identity()
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.crossed, self.leaks = crossed, leaks

    def forward(self, inputs: Tensor) -> Tensor:
        left, right = ((inputs[:, low : low + 4] == inputs[:, low + 4 : low + 8]).all(1) for low in (0, 8))
        answer = (left == right).float()
        halves = (right, left) if self.crossed else (left, right)
        columns = [half.float()[:, None].expand(-1, 4) for half in halves]
        state = self.state(torch.cat([*columns, answer[:, None].expand(-1, 2)], 1))
        same = (state[:, :4].mean(1) - state[:, 4:8].mean(1)).abs() < 0.5
        score = self.scale * (2 * same.float() - 1) + (6 * (2 * state[:, 8] - 1) if self.leaks else 0)
        return torch.stack([-score, score], 1)


ALIGNMENT = iit.Alignment.pairs(
    "equality",
    left=("left", iit.Site.module("state.output", (0, 4))),
    right=("right", iit.Site.module("state.output", (4, 8))),
)
BETWEEN = iit.Alignment.pairs(
    "networks",
    positions="all",
    left=(iit.Site.module("state.output", (0, 4)), iit.Site.module("state.output", (0, 4))),
    right=(iit.Site.module("state.output", (4, 8)), iit.Site.module("state.output", (4, 8))),
)


def verdict(network: nn.Module, alignment: iit.Alignment = ALIGNMENT) -> object:
    rows = TensorRows(equality_rows(PAIRS))
    return iit.judge(iit.verify(equality(), network, alignment, rows, pairs=PAIRS, batch_size=100))


def test_a_planted_network_is_supported() -> None:
    found = verdict(Planted())
    assert found.label == "SUPPORTED", found.sentence  # pyright: ignore
    for variable in found.variables.values():  # pyright: ignore
        assert variable.score.value == pytest.approx(1.0, abs=0.01)
    assert all(leak.passed for leak in found.leaks) and found.leaks  # pyright: ignore


def test_a_leaking_network_and_a_stranger_are_not() -> None:
    leaking = verdict(Planted(leaks=True))
    assert leaking.label == "NOT SUPPORTED"  # pyright: ignore
    torch.manual_seed(0)
    stranger = nn.Sequential()
    stranger.add_module("state", nn.Linear(16, 10))
    stranger.add_module("head", nn.Linear(10, 2))
    assert verdict(stranger).label == "NOT SUPPORTED"  # pyright: ignore


def test_answers_and_swaps_are_those_of_the_program() -> None:
    rows = TensorRows(equality_rows(PAIRS))
    found = iit.verify(
        equality(),
        {"planted": Planted(), "crossed": Planted(crossed=True)},
        ALIGNMENT,
        rows,
        pairs=PAIRS,
        batch_size=64,
    )
    cases = found.outcomes
    planted, crossed = (cases[cases["student"] == name] for name in ("planted", "crossed"))
    assert (planted["student_cf"] == planted["teacher_cf"]).all()
    assert (cases["teacher_base"] == cases["gold"]).all() and (crossed["student_base"] == crossed["gold"]).all()
    assert 0.4 < (crossed["student_cf"] == crossed["teacher_cf"]).mean() < 0.6
    assert 0.4 < (planted["teacher_cf"] != planted["teacher_base"]).mean() < 0.6
    assert found.ceiling.same == found.ceiling.cases and found.self_swap.changed == 0
    program, inputs = equality(), rows.columns["inputs"]
    for case in planted[planted["variable"] == "left"].itertuples():
        base, source = ({"inputs": inputs[number : number + 1]} for number in (int(case.base), int(case.source)))
        assert int(program.answers(program.interchange(base, {"left": source}))) == case.teacher_cf


def test_a_network_can_be_the_teacher() -> None:
    sites = {"left": (0, 4), "right": (4, 8)}
    alignment = iit.Alignment.pairs(
        "planted",
        **{name: (iit.Site.module("state.output", part),) * 2 for name, part in sites.items()},  # pyright: ignore
    )
    rows = TensorRows(equality_rows(PAIRS))
    found = iit.judge(iit.verify(Planted(), Planted(), alignment, rows, pairs=PAIRS, batch_size=100))
    assert found.label == "SUPPORTED", found.sentence


def test_what_does_not_fit_is_one_line() -> None:
    rows = TensorRows(equality_rows(40))
    wrong = TensorRows({"inputs": rows.columns["inputs"], "labels": 1 - rows.columns["labels"]})
    with pytest.raises(UserError, match="program: answers: in .* rows it answers otherwise than the labels"):
        iit.verify(equality(), Planted(), ALIGNMENT, wrong)
    with pytest.raises(UserError, match="student is a CausalModel; give a loaded model of transformers, or another"):
        iit.verify(Planted(), {"student": equality()}, ALIGNMENT, rows)  # pyright: ignore
    with pytest.raises(UserError, match="variable 'left', student: module path 'state.output': Linear has no 'state'"):
        iit.verify(equality(), nn.Linear(16, 2), ALIGNMENT, rows)


def test_a_program_trains_a_model_of_transformers() -> None:
    """Of text, the program reads token ids; the student's tokens keep their positions."""
    from transformers import BertConfig, BertForSequenceClassification

    from iit_toolkit.data.batch import Batch

    def token(place: int) -> object:
        return lambda ids: ids[:, place] % 2

    program = iit.CausalModel(
        {"input_ids": (), "first": ("input_ids",), "second": ("input_ids",), "odd": ("first", "second")},
        {"first": token(0), "second": token(1), "odd": lambda first, second: first ^ second},  # pyright: ignore
        {"first": (0, 1), "second": (0, 1), "odd": (0, 1)},
        "odd",
    )
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 12, (256, 3), generator=generator)
    odd = (ids[:, 0] + ids[:, 1]) % 2
    data = [
        {"input_ids": row.tolist(), "attention_mask": [1] * 3, "labels": int(label)}
        for row, label in zip(ids, odd, strict=True)
    ]

    def collate(rows: list[dict[str, object]]) -> Batch:
        batch = {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}
        return {**batch, "special_tokens_mask": torch.zeros_like(batch["input_ids"])}

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=12, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=8, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    student = BertForSequenceClassification(config)
    alignment = iit.Alignment.pairs(
        "parity", positions={"kind": "fixed", "base": [0]}, first=("first", iit.Site.block(0))
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        args = iit.CausalDistillationConfig(
            folder, max_steps=150, per_device_train_batch_size=64, learning_rate=3e-3, logging_steps=150,
            weights={"task": 1.0, "causal_ce": 1.0}, temperature=1.0, report_to=[], disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        trainer = CausalDistillationTrainer(
            student, program, alignment, args, train_dataset=data, data_collator=collate
        )
        trainer.train()
    rows = [{**row, "example_id": number} for number, row in enumerate(data)]
    found = iit.verify(
        program,
        student,
        alignment,
        rows,
        lambda some: {**collate(some), "example_id": torch.tensor([r["example_id"] for r in some])},
        pairs=200,  # pyright: ignore
    )
    cases = found.outcomes
    assert (cases["student_base"] == cases["gold"]).mean() > 0.95
    assert (cases["student_cf"] == cases["teacher_cf"]).mean() > 0.9


def test_a_check_of_a_network_can_be_asked_and_has_a_report(tmp_path: Path) -> None:
    check = iit.verify(equality(), Planted(), ALIGNMENT, TensorRows(equality_rows(PAIRS)), pairs=PAIRS, batch_size=100)
    assert check.verdict.label == "SUPPORTED" and check.task == "sequence_classification"
    assert set(check.to_frame()["variable"]) == {"left", "right"}
    assert check.measures["left"]["effect_r2"].value == pytest.approx(1.0, abs=0.01)
    page = check.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "SUPPORTED" in page and "Certification on the held-out rows" in page and "inputs of bases" in page
    network = iit.verify(Planted(), Planted(), BETWEEN, TensorRows(equality_rows(PAIRS)), pairs=PAIRS, batch_size=100)
    page = network.report(tmp_path / "network.html").read_text(encoding="utf-8")
    assert "Planted" in page and "Certification on" not in page
    unknown = replace(check, rows=None)
    with pytest.raises(UserError, match="verify on TensorRows"):
        unknown.report(tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()
