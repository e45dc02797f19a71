"""Search for an alignment: which teacher layer does each student layer answer like, when both are swapped?

Every block output of the teacher is held against every block output of the student, on the same cases as in
`verify`. A cell (t, s) compares the teacher with its layer t swapped and the student with its layer s swapped, so a
batch takes one base run per model, from which every layer's counterfactual run computes only the blocks above it:
T + S of these suffixes give all T x S cells (`layer_effects`).

Cells are exploratory: the best of many is high by chance too. What is chosen here must be confirmed on other pairs,
which is what `verify` and `judge` are for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, Site, Variable
from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.alignment.positions import Positions, SpanPositions
from iit_toolkit.alignment.resolve import resolve_site
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.layer_matrix import Cell, Matrix, Region
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, MEASURES, Measure, judged_measure
from iit_toolkit.analysis.statistics.quantities import NOTICEABLE, Columns, counted, graded
from iit_toolkit.analysis.verification.cases import Pairs, draw_pairs
from iit_toolkit.analysis.verification.layer_effects import compare_layers
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Collator
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.sides import SitedSide

Answers = NDArray[Any]
_DIGITS = 5
"""Of a cell's figure: layers that do the same differ by rounding only."""


@dataclass(frozen=True)
class LayerAnswers:
    """The answers of both models on N cases, and how they differ.

    Attributes:
        base, position, inside: (N,) columns of the outcomes table.
        teacher_base, student_base: (N,) answers without intervention.
        teacher, student: (layers, N) answers with one block's output swapped.
        teacher_effect, student_effect: (layers, N) size of what the swap changes of the probabilities.
        effect_error: (teacher layers, student layers, N) size of the difference of the two changes.
        kl_cf: (teacher layers, student layers, N) KL of the two models, both swapped.
        kl_ignored: (teacher layers, N) KL to the student that is not swapped.
    """

    base: Answers
    position: Answers
    inside: Answers
    teacher_base: Answers
    student_base: Answers
    teacher: Answers
    student: Answers
    teacher_effect: Answers
    student_effect: Answers
    effect_error: Answers
    kl_cf: Answers
    kl_ignored: Answers

    def columns(self, teacher_layer: int, student_layer: int) -> Columns:
        """Return the columns of the outcomes table that say what a case of one cell counts as."""
        return {
            "base": self.base,
            "position": self.position,
            "inside": self.inside,
            "teacher_base": self.teacher_base,
            "teacher_cf": self.teacher[teacher_layer],
            "student_base": self.student_base,
            "student_cf": self.student[student_layer],
            "teacher_effect": self.teacher_effect[teacher_layer],
            "student_effect": self.student_effect[student_layer],
            "effect_error": self.effect_error[teacher_layer, student_layer],
            "kl_cf": self.kl_cf[teacher_layer, student_layer],
            "kl_ignored": self.kl_ignored[teacher_layer],
        }

    def of_cases(self, chosen: NDArray[np.bool_]) -> LayerAnswers:
        """Return the answers on some of the cases.

        Args:
            chosen: (N,) which cases.
        """
        return LayerAnswers(**{one.name: getattr(self, one.name)[..., chosen] for one in fields(self)})


@torch.no_grad()
def answer_layers(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    collator: Collator,
    *,
    task: Task,
    positions: Positions | None = None,
    sources: Sources | None = None,
    pairs: int = 512,
    batch_size: int = 16,
    seed: int = 0,
) -> LayerAnswers:
    """Swap every block's output in turn, in both models, on the same pairs and positions.

    Args:
        teacher: The teacher.
        student: The student.
        rows: Examples with `input_ids` and `example_id`; at least two.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do.
        task: What is answered.
        positions: Which positions are swapped; spans by default.
        sources: Where sources come from; the batch by default.
        pairs: Pairs of base and source; at most the number of rows is used.
        batch_size: Rows per batch.
        seed: Of sources, positions and evaluated tokens.

    Raises:
        UserError: If there are fewer than two rows, or a model's blocks are not found.
    """
    batches = draw_pairs(
        rows,
        collator,
        positions or SpanPositions(),
        sources or Sources(),
        task=task,
        pairs=pairs,
        batch_size=batch_size,
        seed=seed,
        what="searching",
    )
    return answer_sides(_every_block(teacher.eval()), _every_block(student.eval()), batches)


@torch.no_grad()
def answer_sides(teacher: SitedSide, student: SitedSide, batches: Iterable[Pairs]) -> LayerAnswers:
    """Swap every variable of both sides in turn, on the same pairs: any variable of one against any of the other.

    Args:
        teacher: The teacher. Its variables are the teacher's layers of what is returned, in their order.
        student: The student, likewise.
        batches: The pairs.

    Returns:
        The answers of every pair, with each variable swapped.

    Raises:
        UserError: If a side cannot be run on the pairs.
    """
    sides = {"teacher": teacher, "student": student}
    layers = list(teacher.sites), list(student.sites)
    found: dict[str, list[Answers]] = {}
    for drawn in batches:
        for name in ("base", "position", "inside"):
            found.setdefault(name, []).append(getattr(drawn.cases, name).numpy())
        teachers, students = (Runs(side, drawn, list(side.sites), what) for what, side in sides.items())
        for columns in compare_layers(teachers, students, layers, drawn.cases.base):
            for name, column in columns.items():
                found.setdefault(name, []).append(column)
    return LayerAnswers(**{name: np.concatenate(parts, axis=-1) for name, parts in found.items()})


def layer_matrix(
    answers: LayerAnswers, minimum_bases: int = MINIMUM_CLUSTERS, measure: str = DEFAULT_MEASURE
) -> Matrix:
    """Compare every teacher layer with every student layer.

    Args:
        answers: Of both models.
        minimum_bases: A cell's figures are undefined if its counted cases come from fewer base examples.
        measure: What the cells hold, one of `measures.JUDGED`.

    Raises:
        UserError: If no verdict rests on the measure.
    """
    chosen = judged_measure(measure)
    cells: list[Cell] = []
    for teacher_layer in range(len(answers.teacher)):
        for student_layer in range(len(answers.student)):
            columns = answers.columns(teacher_layer, student_layer)
            quantities = {**counted(columns), **graded(columns)}
            moves = quantities["cases/outside"] & _moved(columns, chosen)
            regions = (_region(answers, quantities, name, chosen, minimum_bases) for name in ("outside", "inside"))
            cells.append(Cell(teacher_layer, student_layer, _bases(answers, moves), *regions))
    return Matrix(measure, len(answers.teacher), len(answers.student), minimum_bases, tuple(cells))


def choose_map(matrix: Matrix) -> dict[int, int]:
    """Choose, by dynamic programming, a strictly increasing map from student layers to teacher layers.

    It holds as many student layers as possible, and among such maps has the largest sum of the measure above its
    floor, outside; of equal ones, the lowest teacher layers. Never chosen are cells whose figures are undefined, and
    student layers whose swap moves the student outside in fewer base examples than that takes: the last block's never
    does if answers belong to tokens, so it scores its floor with every teacher layer and would fit anywhere.

    Returns:
        Teacher layer by student layer; without the student layers that fit nowhere.

    Raises:
        UserError: If no cell can be chosen.
    """
    # best[t]: (layers held, sum, map) of the best map that uses teacher layers below t only
    best: list[tuple[int, float, dict[int, int]]] = [(0, 0.0, {})] * (matrix.teacher_layers + 1)
    for student_layer in range(matrix.student_layers):
        extended = best[:1]
        for teacher_layer in range(matrix.teacher_layers):
            value = _worth(matrix.cell(teacher_layer, student_layer), matrix.minimum_bases)
            options = [extended[teacher_layer], best[teacher_layer + 1]]  # of equal ones the first is kept
            if value is not None:
                held, total, chosen = best[teacher_layer]
                options.append((held + 1, total + value, {**chosen, student_layer: teacher_layer}))
            extended.append(max(options, key=lambda option: option[:2]))
        best = extended
    chosen = best[-1][2]
    if not chosen:
        changed = max(cell.outside.bases for cell in matrix.cells)
        moved = max(cell.moved for cell in matrix.cells)
        raise UserError(
            f"no layers can be aligned: outside the swapped positions, {matrix.measured.units} of the teacher come "
            f"from at most {changed} examples, and swaps move the student in {moved}; {matrix.minimum_bases} are "
            "needed, so raise verification.pairs or choose other positions"
        )
    return chosen


def mapped_alignment(
    layers: Mapping[int, int], name: str, positions: Positions | None = None, sources: Sources | None = None
) -> Alignment:
    """Return the alignment of a map from student to teacher layers: one variable of block outputs per entry."""
    variables = tuple(
        Variable(
            name=f"layer-{student_layer}",
            teacher=(block_output(teacher_layer),),
            student=(block_output(student_layer),),
        )
        for student_layer, teacher_layer in layers.items()
    )
    return Alignment(
        name=name, variables=variables, positions=positions or SpanPositions(), sources=sources or Sources()
    )


def block_output(layer: int) -> Site:
    """Return the whole output of a block."""
    return Site(component="block_output", layer=layer)


def _every_block(model: PreTrainedModel) -> InterchangeModel:
    """Make each block's output a variable, named by its number."""
    sites = {str(layer): (resolve_site(block_output(layer), model),) for layer in range(len(blocks(model)))}
    return InterchangeModel(model, sites)


def _moved(columns: Columns, measure: Measure) -> Answers:
    """Say of every case whether the student's swap moves the student, as the measure sees it."""
    if measure.kind == "explained":
        return columns["student_effect"] > NOTICEABLE
    return columns["student_cf"] != columns["student_base"]


def _region(answers: LayerAnswers, quantities: Columns, region: str, measure: Measure, minimum_bases: int) -> Region:
    def total(quantity: str) -> float:
        return float(quantities[f"{quantity}/{region}"].sum())

    counts = quantities[f"{measure.counted or measure.denominator}/{region}"]
    cases, number, bases = int(total("cases")), int(counts.sum()), _bases(answers, counts)
    if bases < max(1, minimum_bases):
        return Region(cases, number, bases, None, None, None)
    whole = total(measure.denominator)
    score = total(measure.numerator) / whole
    if measure.kind == "explained":
        return Region(cases, number, bases, score, 0.0, score)
    floor = total(MEASURES[measure.floor].numerator) / whole
    return Region(cases, number, bases, score, floor, total(measure.over_floor) / whole)


def _bases(answers: LayerAnswers, chosen: Answers) -> int:
    return len(np.unique(answers.base[chosen]))


def _worth(cell: Cell, minimum_bases: int) -> float | None:
    """Return what a cell adds to a map; None if it must not be chosen. Differences by rounding count as none."""
    value = cell.outside.above_floor
    return None if value is None or cell.moved < minimum_bases else round(value, _DIGITS)
