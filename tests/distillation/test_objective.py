"""The objective equals the paper's formulas, written out by hand on full runs in float64."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from iit_toolkit.alignment import preset, resolve
from iit_toolkit.distillation.losses import HiddenProjection
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, InterchangeModel, Swap, draw_swap, other_rows

ROWS, LENGTH, WORDS = 4, 9, 23
ALL_TERMS = ObjectiveWeights(
    task=0.7, ce=0.5, cos=0.3, logit_mse=0.2, hidden_mse=0.9, causal_ce=0.4, causal_cos=0.6, causal_logit_mse=0.1,
    causal_hidden_mse=0.8,
)  # fmt: skip


def bert(layers: int, width: int = 16, seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertForMaskedLM(config).double()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.3)
    return model


def make_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, WORDS, (ROWS, LENGTH), generator=generator)
    attention = torch.ones_like(ids)
    attention[1, 6:] = 0
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.3, ids, -100).masked_fill(attention == 0, -100)
    return {"input_ids": ids, "attention_mask": attention, "labels": labels}


def by_hand(model: BertForMaskedLM, layer: int, batch: dict[str, torch.Tensor], swap: Swap | None):
    """Logits and last hidden states of the base run, or of a counterfactual run, with plain hooks."""
    block = model.bert.encoder.layer[layer]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    handle, kept = None, {}
    if swap is not None:
        first = block.register_forward_hook(lambda _m, _a, output: kept.update(source=output))
        model(**inputs)
        first.remove()

        def put(_module, _args, output):
            changed = output.clone()
            for row in range(ROWS):
                for position in range(LENGTH):
                    if swap.mask[row, position]:
                        changed[row, position] = kept["source"][swap.source[row], swap.source_position[row, position]]
            return changed

        handle = block.register_forward_hook(put)
    output = model(**inputs, output_hidden_states=True)
    if handle is not None:
        handle.remove()
    return output.logits, output.hidden_states[-1]


def terms_by_hand(student, teacher, batch, temperature, projection):
    """The terms of section 1.1 over one pair of runs: CE and KL in nats by explicit sums, 1 - cos, squared errors."""
    (s_logits, s_hidden), (t_logits, t_hidden) = student, teacher
    real = batch["attention_mask"].bool()
    q, p = s_logits[real] / temperature, t_logits[real] / temperature
    kl = torch.zeros((), dtype=torch.float64)
    for row in range(len(p)):
        prob = p[row].exp() / p[row].exp().sum()
        kl = kl + (prob * (prob.log() - (q[row] - q[row].exp().sum().log()))).sum()
    s, t = s_hidden[real] if projection is None else projection(s_hidden[real]), t_hidden[real]
    cosines = [(a @ b) / (a.norm() * b.norm()) for a, b in zip(s, t, strict=True)]
    nll = [
        -(s_logits[r, c].exp()[batch["labels"][r, c]] / s_logits[r, c].exp().sum()).log()
        for r, c in (batch["labels"] != -100).nonzero().tolist()
    ]
    return {
        "task": sum(nll) / len(nll),
        "ce": kl / len(p) * temperature**2,
        "cos": 1 - sum(cosines) / len(cosines),
        "logit_mse": ((s_logits[real] - t_logits[real]) ** 2).mean(),
        "hidden_mse": ((s - t) ** 2).mean(),
    }


def setup(student_width: int = 16, family: str = "diito"):
    teacher, student = bert(4, seed=1).eval().requires_grad_(False), bert(2, student_width, seed=2)
    alignment = preset(f"{family}/middle", 4, 2)
    sides = [
        InterchangeModel(model, resolve(alignment, model, side))
        for model, side in ((teacher, "teacher"), (student, "student"))
    ]
    batch = make_batch()
    generator = torch.Generator().manual_seed(3)
    real = batch["attention_mask"].bool()
    swap = draw_swap(alignment.positions, other_rows(ROWS, generator), real, real, generator)
    return teacher, student, sides, batch, swap


@pytest.mark.parametrize("width", [16, 12])
def test_every_term_and_gradient_equals_the_formulas_written_out(width: int) -> None:
    teacher, student, sides, batch, swap = setup(width)
    torch.manual_seed(5)
    projection = HiddenProjection(width, 16).double() if width != 16 else None
    objective = Objective(*sides, ALL_TERMS, "masked_lm", temperature=2.0, projection=projection)
    losses = objective(batch, [Interchange("middle", swap)])
    losses.total.backward()
    gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()

    base = terms_by_hand(by_hand(student, 0, batch, None), by_hand(teacher, 1, batch, None), batch, 2.0, projection)
    causal = terms_by_hand(by_hand(student, 0, batch, swap), by_hand(teacher, 1, batch, swap), batch, 2.0, projection)
    expected = base | {f"causal_{name}": value for name, value in causal.items() if name != "task"}
    assert set(losses.terms) == set(expected)
    for name, value in expected.items():
        assert math.isclose(float(losses.terms[name]), value.item(), rel_tol=1e-6), name
    total = sum(getattr(ALL_TERMS, name) * value for name, value in expected.items())
    assert math.isclose(losses.total.item(), total.item(), rel_tol=1e-9)
    total.backward()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-8, atol=1e-10)


def test_the_papers_five_weights_sum_the_five_losses() -> None:
    _, _, sides, batch, swap = setup()
    losses = Objective(*sides, ObjectiveWeights.causal_with_cosine(), "masked_lm")(batch, [Interchange("middle", swap)])
    assert set(losses.terms) == {"task", "ce", "cos", "causal_ce", "causal_cos"}
    assert math.isclose(losses.total.item(), 0.2 * sum(map(float, losses.terms.values())), rel_tol=1e-9)


def test_naacl2022_differs_from_diito() -> None:
    _, _, sides, batch, swap = setup()
    _, _, official, _, _ = setup(family="naacl2022")
    weights = ObjectiveWeights(causal_ce=1.0)
    ours = Objective(*sides, weights, "masked_lm")(batch, [Interchange("middle", swap)])
    theirs = Objective(*official, weights, "masked_lm")(batch, [Interchange("middle", swap)])
    assert abs(ours.total.item() - theirs.total.item()) > 1e-3


def test_a_term_without_weight_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student, sides, batch, swap = setup()
    Objective(*sides, ObjectiveWeights.standard(), "masked_lm")(batch)  # the first run also measures the heads
    calls = {"teacher": 0, "student": 0}
    for name, model in (("teacher", teacher), ("student", student)):
        model.bert.encoder.layer[-1].register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    Objective(*sides, ObjectiveWeights(task=1.0), "masked_lm")(batch)
    assert calls == {"teacher": 0, "student": 1}
    Objective(*sides, ObjectiveWeights.standard(), "masked_lm")(batch, [Interchange("middle", swap)])
    assert calls == {"teacher": 1, "student": 2 + 0}
    seen: list[int] = []
    head = teacher.get_output_embeddings()
    assert head is not None
    monkeypatch.setattr(head, "forward", lambda hidden: seen.append(len(hidden)) or hidden)
    Objective(*sides, ObjectiveWeights(cos=1.0), "masked_lm")(batch)
    assert not seen  # cosine compares hidden states: no vocabulary product in the teacher


def test_causal_terms_without_an_interchange_are_refused() -> None:
    _, _, sides, batch, _ = setup()
    with pytest.raises(UserError, match="alignment"):
        Objective(*sides, ObjectiveWeights.causal(), "masked_lm")(batch)


def test_effect_size_counts_changed_answers() -> None:
    teacher, _, sides, batch, swap = setup()
    objective = Objective(*sides, ObjectiveWeights.causal(), "masked_lm")
    labelled = batch["labels"] != -100
    base, counterfactual = (by_hand(teacher, 1, batch, s)[0][labelled].argmax(-1) for s in (None, swap))
    share = float((base != counterfactual).double().mean())
    assert 0 < share < 1
    assert math.isclose(float(objective.effect_size(batch, Interchange("middle", swap))), share, rel_tol=1e-6)


def other_swap(batch: dict[str, torch.Tensor]) -> Swap:
    generator = torch.Generator().manual_seed(9)
    real = batch["attention_mask"].bool()
    return draw_swap(preset("diito/middle", 4, 2).positions, other_rows(ROWS, generator), real, real, generator)


def test_several_interchanges_share_a_base_run_and_are_averaged_with_their_weights() -> None:
    _, student, sides, batch, swap = setup()
    objective = Objective(*sides, ALL_TERMS, "masked_lm")
    causal = {name: weight for name, weight in ALL_TERMS.model_dump().items() if name.startswith("causal_")}
    swaps = (swap, other_swap(batch))
    both = objective(batch, [Interchange("middle", swaps[0], weight=3.0), Interchange("middle", swaps[1], weight=0.5)])
    both.total.backward()
    gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()

    plain = objective(batch, weights=ALL_TERMS.model_copy(update=dict.fromkeys(causal, 0.0))).total
    apart = [objective(batch, [Interchange("middle", one)], ObjectiveWeights(**causal)) for one in swaps]
    total = plain + (3.0 * apart[0].total + 0.5 * apart[1].total) / 2
    assert math.isclose(both.total.item(), total.item(), rel_tol=1e-12)
    for name in causal:
        mean = (float(apart[0].terms[name]) + float(apart[1].terms[name])) / 2
        assert math.isclose(float(both.terms[name]), mean, rel_tol=1e-12)
    total.backward()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("base", "counterfactual"), [("labelled", "labelled"), ("all", "swapped"), ("all", "labelled")]
)
def test_terms_on_chosen_tokens_equal_the_formulas_on_these(base: str, counterfactual: str) -> None:
    teacher, student, sides, batch, swap = setup()
    objective = Objective(
        *sides,
        ALL_TERMS,
        "masked_lm",
        base_tokens=base,
        counterfactual_tokens=counterfactual,  # pyright: ignore
    )
    found = objective(batch, [Interchange("middle", swap)]).terms
    chosen = {
        "all": batch["attention_mask"],
        "labelled": (batch["labels"] != -100).long(),
        "swapped": swap.mask.long(),
    }

    def expected(tokens: str, swap: Swap | None) -> dict[str, torch.Tensor]:
        runs = by_hand(student, 0, batch, swap), by_hand(teacher, 1, batch, swap)
        return terms_by_hand(*runs, {**batch, "attention_mask": chosen[tokens]}, 2.0, None)

    for name, value in expected(base, None).items():
        assert math.isclose(float(found[name]), value.item(), rel_tol=1e-9), name
    for name, value in expected(counterfactual, swap).items():
        if name != "task":
            assert math.isclose(float(found[f"causal_{name}"]), value.item(), rel_tol=1e-9), name


def test_tokens_cannot_be_chosen_in_classification() -> None:
    _, _, sides, _, _ = setup()
    with pytest.raises(UserError, match="must be `all` in classification"):
        Objective(*sides, ALL_TERMS, "sequence_classification", base_tokens="labelled")


def test_a_teacher_in_bfloat16_is_close_and_leaves_the_student_in_its_own_precision() -> None:
    teacher, student, sides, batch, swap = setup()
    teacher.float(), student.float()
    interchanges = [Interchange("middle", swap)]
    weights = ObjectiveWeights(task=1, ce=1, cos=1, logit_mse=1, causal_ce=1, causal_logit_mse=1)
    exact = Objective(*sides, weights, "masked_lm")(batch, interchanges).terms
    half = Objective(*sides, weights, "masked_lm", teacher_dtype=torch.bfloat16)(batch, interchanges).terms
    assert float(half["task"]) == float(exact["task"])  # the student alone
    for name in ("ce", "cos", "logit_mse", "causal_ce", "causal_logit_mse"):
        assert half[name] != exact[name] and math.isclose(float(half[name]), float(exact[name]), rel_tol=0.05)


@pytest.mark.parametrize("base", ["labelled", "all"])
@pytest.mark.parametrize("counterfactual", ["labelled", "all", "swapped"])
def test_tokens_count_by_the_teachers_shift(base: str, counterfactual: str) -> None:
    teacher, student, sides, batch, swap = setup()
    weights = ObjectiveWeights(ce=0.4, causal_ce=0.6)
    chosen = {"base_tokens": base, "counterfactual_tokens": counterfactual}
    objective = Objective(*sides, weights, "masked_lm", **chosen, counterfactual_weighting="effect")  # pyright: ignore
    found = objective(batch, [Interchange("middle", swap)])
    found.total.backward()
    gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()

    real = batch["attention_mask"].bool()
    tokens = {"labelled": batch["labels"] != -100, "all": real, "swapped": swap.mask & real}
    before, after = (by_hand(teacher, 1, batch, one)[0] for one in (None, swap))
    answers = by_hand(student, 0, batch, swap)[0]
    divergences, shifts = [], []
    for row, column in tokens[counterfactual].nonzero().tolist():
        p, q = (logits[row, column].softmax(-1) for logits in (before, after))
        shifts.append((p - q).abs().sum().item() / 2)
        target, own = (logits[row, column] / 2.0 for logits in (after, answers))
        target = target.softmax(-1)
        divergences.append(4.0 * (target * (target.log() - own.log_softmax(-1))).sum())
    assert max(shifts) > 2 * min(shifts)
    causal = sum(shift * one for shift, one in zip(shifts, divergences, strict=True)) / sum(shifts)
    assert isinstance(causal, torch.Tensor)
    assert math.isclose(float(found.terms["causal_ce"]), causal.item(), rel_tol=1e-6)
    plain = Objective(*sides, ObjectiveWeights(ce=0.4), "masked_lm", base_tokens=base)(batch)  # pyright: ignore
    assert math.isclose(float(found.terms["ce"]), float(plain.terms["ce"]), rel_tol=1e-12)
    (plain.total + 0.6 * causal).backward()
    for name, parameter in student.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-8, atol=1e-10)


def test_a_swap_that_shifts_nothing_teaches_nothing_by_its_effect() -> None:
    _, _, sides, batch, swap = setup()
    rows = torch.arange(ROWS)
    itself = Swap(rows, swap.mask, torch.arange(LENGTH).expand(ROWS, LENGTH))
    objective = Objective(*sides, ObjectiveWeights(causal_ce=1.0), "masked_lm", counterfactual_weighting="effect")
    assert objective(batch, [Interchange("middle", itself)]).total.item() == 0
