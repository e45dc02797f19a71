"""Search for an alignment: which teacher layer does each student layer answer like, when both are swapped?

Every block output of the teacher is held against every block output of the student, on the same cases as in
`verify`. A cell (t, s) compares the teacher with its layer t swapped and the student with its layer s swapped, so a
batch takes one base run per model, from which every layer's counterfactual run computes only the blocks above it:
T + S of these suffixes give all T x S cells.

Cells are exploratory: the best of many is high by chance too. What is chosen here must be confirmed on other pairs,
which is what `verify` and `judge` are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, Site, Variable
from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.alignment.positions import Positions, SpanPositions
from iit_toolkit.alignment.resolve import resolve_site
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.layer_matrix import Cell, Matrix, Region
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, MEASURES
from iit_toolkit.analysis.statistics.quantities import Columns, counted
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Collator
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel

Answers = NDArray[Any]


@dataclass(frozen=True)
class LayerAnswers:
    """The answers of both models on N cases.

    Attributes:
        base, position, inside: (N,) columns of the outcomes table.
        teacher_base, student_base: (N,) answers without intervention.
        teacher, student: (layers, N) answers with one block's output swapped.
    """

    base: Answers
    position: Answers
    inside: Answers
    teacher_base: Answers
    student_base: Answers
    teacher: Answers
    student: Answers

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
        }


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
    sides = {"teacher": _every_block(teacher.eval()), "student": _every_block(student.eval())}
    found: dict[str, list[Answers]] = {}
    for drawn in batches:
        for name in ("base", "position", "inside"):
            found.setdefault(name, []).append(getattr(drawn.cases, name).numpy())
        for name, side in sides.items():
            layers = list(side.sites)
            runs = Runs(side, drawn, layers, name)
            found.setdefault(f"{name}_base", []).append(_answers(runs.base()))
            swapped = [_answers(runs.counterfactual(layer)) for layer in layers]
            found.setdefault(name, []).append(np.stack(swapped))
    return LayerAnswers(**{name: np.concatenate(parts, axis=-1) for name, parts in found.items()})


def layer_matrix(answers: LayerAnswers, minimum_bases: int = MINIMUM_CLUSTERS) -> Matrix:
    """Compare every teacher layer with every student layer.

    Args:
        answers: Of both models.
        minimum_bases: A cell's figures are undefined where its changed cases come from fewer base examples.
    """
    cells: list[Cell] = []
    for teacher_layer in range(len(answers.teacher)):
        for student_layer in range(len(answers.student)):
            columns = answers.columns(teacher_layer, student_layer)
            quantities = counted(columns)
            moves = quantities["cases/outside"] & (columns["student_cf"] != columns["student_base"])
            regions = (_region(answers, quantities, name, minimum_bases) for name in ("outside", "inside"))
            cells.append(Cell(teacher_layer, student_layer, _bases(answers, moves), *regions))
    return Matrix(len(answers.teacher), len(answers.student), minimum_bases, tuple(cells))


def choose_map(matrix: Matrix) -> dict[int, int]:
    """Choose, by dynamic programming, a strictly increasing map from student layers to teacher layers.

    It holds as many student layers as possible, and among such maps has the largest sum of effective IIA above the
    floor, outside; of equal ones, the lowest teacher layers. Never chosen are cells whose figures are undefined, and
    student layers whose swap changes answers outside in fewer base examples than that takes: the last block's never
    does where answers belong to tokens, so it scores its floor with every teacher layer and would fit anywhere.

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
            "no layers can be aligned: outside the swapped positions, swaps change the teacher's answer in at most "
            f"{changed} examples and the student's in {moved}; {matrix.minimum_bases} are needed, so raise "
            "verification.pairs or choose other positions"
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


def _answers(logits: Tensor) -> Answers:
    return logits.argmax(-1).cpu().numpy()


def _region(answers: LayerAnswers, quantities: Columns, region: str, minimum_bases: int) -> Region:
    measure = MEASURES[DEFAULT_MEASURE]
    changed = quantities[f"{measure.denominator}/{region}"]
    count, bases = int(changed.sum()), _bases(answers, changed)
    names = (measure.numerator, MEASURES[measure.floor].numerator, measure.over_floor)
    shares = (int(quantities[f"{name}/{region}"].sum()) for name in names)
    defined = bases >= max(1, minimum_bases)
    return Region(
        int(quantities[f"cases/{region}"].sum()),
        count,
        bases,
        *(share / count if defined else None for share in shares),
    )


def _bases(answers: LayerAnswers, chosen: Answers) -> int:
    return len(np.unique(answers.base[chosen]))


def _worth(cell: Cell, minimum_bases: int) -> float | None:
    """Return what a cell adds to a map; None if it must not be chosen."""
    return cell.outside.above_floor if cell.moved >= minimum_bases else None
