"""The aligned activations of two base runs, side by side.

Their mean squared difference is the hidden-state loss of TinyBERT (Jiao et al. 2020, arXiv 1909.10351, section 3.1),
with the alignment in place of its layer map.
"""

from __future__ import annotations

from torch import Tensor

from iit_toolkit.distillation.losses import HiddenProjection
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Run, Side


def aligned_activations(
    student: Side,
    teacher: Side,
    student_run: Run,
    teacher_run: Run,
    projection: HiddenProjection | None,
) -> list[tuple[Tensor, Tensor]]:
    """Return what student and teacher hold at each variable's last sites, where these are read.

    Args:
        student: The student's side.
        teacher: The teacher's side.
        student_run: The student's base run, made with all variables.
        teacher_run: The teacher's.
        projection: Maps whole hidden states of the student to the teacher's width, if these differ.

    Returns:
        Pairs of (B, S, D), equally wide.

    Raises:
        UserError: If a variable's activations differ in width and are not hidden states that the projection maps.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    for variable in student.variables:
        own, target = (
            side.aligned_activation(run, variable) for side, run in ((student, student_run), (teacher, teacher_run))
        )
        widths = own.shape[-1], target.shape[-1]
        if widths[0] != widths[1]:
            if projection is None or widths != (projection.linear.in_features, projection.linear.out_features):
                raise UserError(
                    f"variable {variable!r}: aligned_mse cannot compare {widths[0]} neurons of the student with "
                    f"{widths[1]} of the teacher; align as many neurons, or whole hidden states"
                )
            own = projection(own)
        pairs.append((own, target))
    return pairs
