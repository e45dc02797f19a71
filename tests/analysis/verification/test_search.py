"""The search finds a planted map of layers, which other pairs confirm; its cells are those of a plain computation."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from torch import nn
from transformers import LlamaForCausalLM

from iit_toolkit.alignment import Alignment
from iit_toolkit.alignment.positions import RandomPositions, SpanPositions
from iit_toolkit.alignment.resolve import resolve_site
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import Verdict, judge
from iit_toolkit.analysis.verification import layer_effects
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.analysis.verification.search import (
    Cell,
    LayerAnswers,
    Matrix,
    Region,
    answer_layers,
    block_output,
    choose_map,
    layer_matrix,
    mapped_alignment,
)
from iit_toolkit.analysis.verification.verify import verify
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from tests.analysis.verification.test_planted_truth import LENGTH, WIDTH, collate, llama, rows, teacher_of
from tests.families import FAMILIES, LAYERS, bert_config, make_model, with_large_weights
from tests.twin import twin

MEASURED = ("effect_r2", "kl_recovered", "effective_iia", "iia")
POSITIONS = RandomPositions(fraction=0.4)
ROWS = rows(120)
CHOOSING, CONFIRMING = ROWS[:60], ROWS[60:]


@pytest.fixture(scope="module")
def student() -> LlamaForCausalLM:
    return llama(3)


@pytest.fixture(scope="module")
def teacher(student: LlamaForCausalLM) -> LlamaForCausalLM:
    """The student with an identity block after each of its own, and its neurons in another order."""
    return teacher_of(student, torch.randperm(WIDTH, generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def stranger() -> LlamaForCausalLM:
    model = llama(3)
    torch.manual_seed(99)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.5)
    return model


def answered(teacher: Any, student: Any) -> LayerAnswers:
    return answer_layers(
        teacher, student, CHOOSING, collate, task="causal_lm", positions=POSITIONS, pairs=60, batch_size=10
    )


def searched(teacher: Any, student: Any, measure: str = "effective_iia") -> Matrix:
    return layer_matrix(answered(teacher, student), measure=measure)


def confirmed(teacher: Any, student: Any, layers: dict[int, int], measure: str = "effective_iia") -> Verdict:
    alignment = mapped_alignment(layers, "found", POSITIONS)
    verification = verify(
        teacher, {"student": student}, alignment, CONFIRMING, collate, task="causal_lm", pairs=60, batch_size=10
    )
    return judge(verification.outcomes, "student", measure=measure, resamples=500)


@pytest.mark.parametrize("measure", MEASURED)
def test_a_planted_map_is_found_by_every_measure_and_confirmed(teacher: Any, student: Any, measure: str) -> None:
    matrix = searched(teacher, student, measure)
    for layer in (0, 1):
        for own in (2 * layer, 2 * layer + 1):  # the student's block, and the identity after it
            assert matrix.cell(own, layer).outside.score == pytest.approx(1.0, abs=1e-4)
    layers = choose_map(matrix)
    assert layers == {0: 0, 1: 2}
    assert confirmed(teacher, student, layers, measure).label == "SUPPORTED"


def test_effective_iia_of_a_planted_map(teacher: Any, student: Any) -> None:
    matrix = searched(teacher, student)
    for layer in (0, 1):
        for own in (2 * layer, 2 * layer + 1):  # the student's block, and the identity after it
            assert matrix.cell(own, layer).outside.score == 1.0
            assert matrix.cell(own, layer).outside.floor == 0.0
        others = [matrix.cell(other, layer).outside.score for other in range(4) if other // 2 != layer]
        assert all(value is not None and value < 0.8 for value in others)
    layers = choose_map(matrix)
    assert layers == {0: 0, 1: 2}
    verdict = confirmed(teacher, student, layers)
    assert verdict.label == "SUPPORTED"
    assert [one.score.value for one in verdict.variables.values()] == [1.0, 1.0]


def test_a_swap_at_the_last_block_reaches_no_other_position_and_is_never_chosen(teacher: Any, student: Any) -> None:
    matrix = searched(teacher, student)
    for teacher_layer in range(6):
        cell = matrix.cell(teacher_layer, 2)
        assert cell.moved == 0
        assert cell.outside.above_floor in (0.0, None)  # the student answers as without the swap
        graded = searched(teacher, student, "effect_r2").cell(teacher_layer, 2)
        assert graded.moved == 0 and (graded.outside.score is None or abs(graded.outside.score) < 1e-4)
    for student_layer in range(3):
        for teacher_layer in (4, 5):  # the student's last block, and the identity after it
            outside = matrix.cell(teacher_layer, student_layer).outside
            assert (outside.counted, outside.score, outside.above_floor) == (0, None, None)
            assert outside.cases > 0


def test_a_map_of_an_unrelated_student_is_not_confirmed(teacher: Any, stranger: Any) -> None:
    layers = choose_map(searched(teacher, stranger))
    assert list(layers) == [0, 1] and layers[0] < layers[1]  # the best there is; chance has a best, too
    verdict = confirmed(teacher, stranger, layers)
    assert all(one.label != "SUPPORTED" for one in verdict.variables.values())


def test_the_same_seed_gives_the_same_matrix(teacher: Any, student: Any) -> None:
    assert searched(teacher, student) == searched(teacher, student)


@pytest.mark.parametrize(
    ("few", "message"),
    [
        ({"pairs": 1}, "pairs is 1: sources are other rows, so give 2 or more"),
        ({"batch_size": 0}, "batch_size is 0; give 1 or more"),
    ],
)
def test_no_row_is_its_own_source(few: dict[str, int], message: str) -> None:
    data = [{"input_ids": torch.arange(5, 14), "example_id": row} for row in range(6)]
    settings: dict[str, Any] = {"task": "causal_lm", "pairs": 6, "batch_size": 3, "seed": 4, **few}
    with pytest.raises(UserError, match=message):
        list(draw_pairs(data, collate, SpanPositions(fraction=0.3), Sources(), **settings, what="drawing"))


@pytest.mark.parametrize("kind", ["in_batch", "dataset"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_every_cell_is_that_of_a_plain_computation(family: str, kind: Any) -> None:
    """Separate source, base and counterfactual runs per cell, by hand-written hooks, counted in a loop."""
    teacher, student = (make_model(family, torch.float64, seed).eval() for seed in (0, 1))
    data = [
        {"input_ids": torch.randint(5, 50, (9,), generator=torch.Generator().manual_seed(seed)), "example_id": seed}
        for seed in range(10)
    ]
    settings: dict[str, Any] = {"task": "causal_lm", "pairs": 10, "batch_size": 5, "seed": 4}
    positions, sources = SpanPositions(fraction=0.3), Sources(kind=kind)
    answers = answer_layers(teacher, student, data, collate, positions=positions, sources=sources, **settings)
    matrix = layer_matrix(answers, 1, "effective_iia")
    batches = list(draw_pairs(data, collate, positions, sources, **settings, what="drawing"))
    for teacher_layer in range(LAYERS):
        for student_layer in range(LAYERS):
            cell = matrix.cell(teacher_layer, student_layer)
            for region, found in ((True, cell.inside), (False, cell.outside)):
                assert found == _plain_region(
                    family, batches, (teacher, teacher_layer), (student, student_layer), region
                )


def _plain_region(
    family: str, batches: list[Any], teacher: tuple[Any, int], student: tuple[Any, int], inside: bool
) -> Region:
    cases = changed = hits = floor = 0
    bases = set()
    for pairs in batches:
        sides = []
        for model, layer in (teacher, student):
            inputs, source = (
                None if batch is None else {name: batch[name] for name in ("input_ids", "attention_mask")}
                for batch in (pairs.base, pairs.source)
            )
            assert inputs is not None
            sites = [{"layer": layer, "component": "block_output"}]
            with torch.no_grad():
                found = twin(model, FAMILIES[family], sites, inputs, pairs.swap, source)
            shape = pairs.cases.tokens.shape
            sides.append([run.argmax(-1).view(shape) for run in (found.base, found.counterfactual)])
        (t_base, t_cf), (s_base, s_cf) = sides
        for row, position in pairs.cases.tokens.nonzero().tolist():
            if bool(pairs.swap.mask[row, position]) != inside:
                continue
            cases += 1
            if t_cf[row, position] != t_base[row, position]:
                changed += 1
                bases.add(int(pairs.base["example_id"][row]))
                hits += int(s_cf[row, position] == t_cf[row, position])
                floor += int(s_base[row, position] == t_cf[row, position])
    if not changed:
        return Region(cases, 0, 0, None, None, None)
    return Region(cases, changed, len(bases), hits / changed, floor / changed, (hits - floor) / changed)


def test_every_cell_is_what_verify_measures_of_that_pair_of_layers(teacher: Any, stranger: Any) -> None:
    settings: dict[str, Any] = {"task": "causal_lm", "pairs": 24, "batch_size": 12}
    answers = answer_layers(teacher, stranger, CHOOSING[:24], collate, positions=POSITIONS, **settings)
    matrices = [layer_matrix(answers, 1, measure) for measure in MEASURED]
    for shift in range(4):
        layers = {student: student + shift for student in range(3)}
        alignment = mapped_alignment(layers, "some cells", POSITIONS)
        verified = verify(teacher, {"student": stranger}, alignment, CHOOSING[:24], collate, **settings)
        summary = summarise(verified.outcomes, resamples=100).students["student"]
        for (student, teacher_layer), measured in zip(layers.items(), summary.variables.values(), strict=True):
            for matrix in matrices:
                cell = matrix.cell(teacher_layer, student)
                for region, found in (("outside", cell.outside), ("inside", cell.inside)):
                    expected = measured.estimate(matrix.measure, region)  # pyright: ignore[reportArgumentType]
                    assert found.counted == expected.cases
                    assert found.bases in (expected.clusters, 0) and (found.score is None) == (expected.value is None)
                    assert found.score == pytest.approx(expected.value, abs=2e-5)


def test_a_few_cases_at_a_time_give_the_same(teacher: Any, stranger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = layer_matrix(answered(teacher, stranger), 1)
    monkeypatch.setattr(layer_effects, "_ELEMENTS", 50 * 12 * 7)  # seven cases
    for cell, one in zip(layer_matrix(answered(teacher, stranger), 1).cells, whole.cells, strict=True):
        assert (cell.outside.counted, cell.moved) == (one.outside.counted, one.moved)
        assert cell.outside.score == pytest.approx(one.outside.score, abs=1e-5)


def test_the_differences_of_effects_are_those_of_the_plain_formula(teacher: Any, stranger: Any) -> None:
    """Of case after case, in double precision, from probabilities that are held whole."""
    batches = draw_pairs(
        CHOOSING[:6], collate, POSITIONS, Sources(), task="causal_lm", pairs=6, batch_size=6, seed=0, what="drawing"
    )
    [pairs] = list(batches)
    sides, models = [], [deepcopy(model).double() for model in (teacher, stranger)]
    for model in models:
        sites = {str(layer): (resolve_site(block_output(layer), model),) for layer in range(len(model.model.layers))}
        runs = Runs(InterchangeModel(model, sites), pairs, list(sites))
        base = runs.base().softmax(-1)
        sides.append([runs.counterfactual(layer).softmax(-1) - base for layer in sites])
    answers = answer_layers(
        *models, CHOOSING[:6], collate, task="causal_lm", positions=POSITIONS, pairs=6, batch_size=6
    )
    for t, one in enumerate(sides[0]):
        for s, two in enumerate(sides[1]):
            expected = (two - one).square().sum(-1).detach().numpy()
            assert answers.effect_error[t, s] == pytest.approx(expected, abs=1e-6)


def test_a_student_that_forbids_what_its_teacher_answers_is_one_line(teacher: Any, stranger: Any) -> None:
    forbidding = deepcopy(stranger)
    forbidding.lm_head = nn.Sequential(forbidding.lm_head, Forbid())
    with pytest.raises(UserError, match="student: its logits are -inf for some of the teacher's answers"):
        answered(teacher, forbidding)


class Forbid(nn.Module):
    """Makes the first word impossible."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(logits[..., :1], -torch.inf), logits[..., 1:]], -1)


def test_no_search_rests_on_an_unknown_measure(teacher: Any, student: Any) -> None:
    with pytest.raises(UserError, match='no verdict rests on "effect_r", did you mean "effect_r2"'):
        searched(teacher, student, "effect_r")


def test_where_a_swap_has_no_effect_there_is_nothing_to_explain() -> None:
    none = np.zeros((1, 30))
    every = np.arange(30)
    answers = LayerAnswers(
        base=every,
        position=every,
        inside=np.zeros(30, dtype=bool),
        teacher_base=every,
        student_base=every,
        teacher=every[None],
        student=every[None] + 1,
        teacher_effect=none,
        student_effect=none + 0.5,
        effect_error=none[None] + 0.5,
        kl_cf=none[None] + 0.1,
        kl_ignored=none,
    )
    for measure in ("effect_r2", "kl_recovered"):
        [cell] = layer_matrix(answers, 1, measure).cells
        assert (cell.outside, cell.moved) == (Region(30, 0, 0, None, None, None), 30)


def labelled(batch: Any) -> dict[str, torch.Tensor]:
    return {**collate(batch), "labels": torch.zeros(len(batch), dtype=torch.long)}


def masked(batch: Any) -> dict[str, torch.Tensor]:
    collated = collate(batch)
    predicted = torch.arange(LENGTH) % 4 == 1
    return {**collated, "labels": collated["input_ids"].masked_fill(~predicted, -100)}


@pytest.mark.parametrize("task", ["masked_lm", "sequence_classification"])
def test_a_student_that_is_its_teacher_answers_alike_layer_by_layer(task: Any) -> None:
    classes: dict[str, Any] = {
        "masked_lm": tf.BertForMaskedLM,
        "sequence_classification": tf.BertForSequenceClassification,
    }
    model = with_large_weights(classes[task](bert_config(num_labels=4)), torch.float64).eval()
    collator = masked if task == "masked_lm" else labelled
    answers = answer_layers(model, model, CHOOSING, collator, task=task, positions=POSITIONS, batch_size=10)
    matrix = layer_matrix(answers, 1, "effective_iia")
    for layer in range(LAYERS - 1):
        cell = matrix.cell(layer, layer)
        assert (cell.outside.score, cell.outside.floor) == (1.0, 0.0)
        assert (cell.inside.cases == 0) == (task == "sequence_classification")
    expected = {0: 0, 1: 1} if task == "masked_lm" else {0: 0, 1: 1, 2: 2}  # the label is read where swaps may fall
    assert choose_map(matrix) == expected


def matrix_of(values: list[list[float | None]], moved: list[int] | None = None) -> Matrix:
    """A matrix with these figures above the floor; rows are teacher layers."""
    cells = []
    for teacher_layer, row in enumerate(values):
        for student_layer, value in enumerate(row):
            region = Region(100, 50, 30, value, 0.0, value)
            cells.append(
                Cell(teacher_layer, student_layer, 30 if moved is None else moved[student_layer], region, region)
            )
    return Matrix("effective_iia", len(values), len(values[0]), 20, tuple(cells))


def _every_map(matrix: Matrix) -> list[tuple[int, float]]:
    """Layers held and sum of every strictly increasing map, by trying all."""
    found = []
    for count in range(min(matrix.teacher_layers, matrix.student_layers) + 1):
        for chosen in combinations(range(matrix.student_layers), count):
            for targets in combinations(range(matrix.teacher_layers), count):
                values = [matrix.cell(t, s).outside.above_floor for s, t in zip(chosen, targets, strict=True)]
                if None not in values:
                    found.append((count, sum(value for value in values if value is not None)))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_no_increasing_map_is_better_than_the_chosen_one(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = (torch.rand(5, 4, generator=generator) - 0.3).tolist()
    missing = (torch.rand(5, 4, generator=generator) < 0.3).tolist()
    values = [
        [None if gone else value for value, gone in zip(*row, strict=True)] for row in zip(table, missing, strict=True)
    ]
    matrix = matrix_of(values)
    chosen = choose_map(matrix)
    assert list(chosen) == sorted(chosen)
    assert all(first < second for first, second in zip(list(chosen.values()), list(chosen.values())[1:], strict=False))
    total = sum(matrix.cell(t, s).outside.above_floor or 0.0 for s, t in chosen.items())
    count, best = max(_every_map(matrix))
    assert (len(chosen), total) == (count, pytest.approx(best))


def test_the_map_does_not_cross_even_where_single_cells_would() -> None:
    assert choose_map(matrix_of([[0.1, 0.9], [0.8, 0.2], [0.0, 0.3]])) == {0: 1, 1: 2}


def test_equal_layers_are_held_as_often_as_possible_and_ties_go_to_the_lowest() -> None:
    assert choose_map(matrix_of([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])) == {0: 0, 1: 1}
    assert choose_map(matrix_of([[-0.1, -0.1], [-0.2, -0.2]])) == {0: 0, 1: 1}


def test_a_student_layer_that_moves_nothing_is_left_out() -> None:
    assert choose_map(matrix_of([[0.1, 0.9], [0.8, 0.2]], moved=[30, 19])) == {0: 1}


def test_too_few_changed_cases_leave_nothing_to_choose() -> None:
    with pytest.raises(UserError, match="changed cases of the teacher come from at most 30 examples, .* 20 are needed"):
        choose_map(matrix_of([[None, None], [None, None]]))


def test_too_few_bases_leave_a_cell_undefined(teacher: Any, student: Any) -> None:
    answers = answer_layers(
        teacher, student, CHOOSING[:19], collate, task="causal_lm", positions=POSITIONS, batch_size=10
    )
    matrix = layer_matrix(answers)
    assert any(cell.outside.counted for cell in matrix.cells)
    assert all(cell.outside.score is None and cell.inside.score is None for cell in matrix.cells)
    with pytest.raises(UserError, match="no layers can be aligned"):
        choose_map(matrix)


def test_the_alignment_of_a_map_is_read_back(tmp_path: Path) -> None:
    alignment = mapped_alignment({0: 2, 1: 3}, "found", POSITIONS, Sources(kind="dataset"))
    (tmp_path / "found.yaml").write_text(alignment.to_yaml())
    again = Alignment.from_yaml(tmp_path / "found.yaml")
    assert again == alignment
    assert [(one.name, one.teacher[0].layer, one.student[0].layer) for one in again.variables] == [
        ("layer-0", 2, 0),
        ("layer-1", 3, 1),
    ]


def test_the_models_are_as_before(teacher: Any, student: Any) -> None:
    before = {name: value.clone() for name, value in student.state_dict().items()}
    searched(teacher, student)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not any(module._forward_hooks for module in student.modules())


def test_a_matrix_holds_its_cells_where_it_says(teacher: Any, student: Any) -> None:
    matrix = searched(teacher, student)
    assert replace(matrix, cells=matrix.cells[:1]).cell(0, 0) == matrix.cells[0]
    assert [(cell.teacher_layer, cell.student_layer) for cell in matrix.cells] == [
        (teacher_layer, student_layer) for teacher_layer in range(6) for student_layer in range(3)
    ]


@pytest.mark.parametrize("kind", ["dataset", "fixed"])
def test_no_example_is_its_own_source_in_a_lone_batch(kind: Any) -> None:
    data = [{"input_ids": torch.full((9,), 5 + index), "example_id": index} for index in range(6)]
    for seed in range(20):
        settings: dict[str, Any] = {"task": "causal_lm", "pairs": 6, "batch_size": 8, "seed": seed}
        [pairs] = draw_pairs(data, collate, SpanPositions(fraction=0.3), Sources(kind=kind), **settings, what="drawing")
        assert pairs.source is None and not (pairs.swap.source == torch.arange(6)).any()
