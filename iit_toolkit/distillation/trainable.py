"""What a trainer is given, looked at before any of it is used."""

from __future__ import annotations

from transformers.trainer_utils import has_length, validate_quantization_for_training

from iit_toolkit.alignment.spec import refuse_no_alignment
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.answers import refuse_other_answers
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.models.task import require_model


def refuse_untrainable(model: object, teacher: object, alignment: object, args: object, rows: object) -> None:
    """Refuse what cannot be trained.

    Args:
        model: The student.
        teacher: Its teacher.
        alignment: Their alignment; `None` for a training without interventions.
        args: The settings.
        rows: What it is trained on, if that is known.

    Raises:
        UserError: If one of these is something else, student and teacher are one model or answer in other words, there
            are no rows, or the student's weights are quantised in a way that cannot be trained.
    """
    if not isinstance(args, CausalDistillationConfig):
        raise UserError(f"args are {type(args).__name__}; give a CausalDistillationConfig")
    require_model(model, "the student")
    if not isinstance(teacher, CausalModel):
        require_model(teacher, "the teacher")
    if alignment is not None:
        refuse_no_alignment(alignment)
    if model is teacher:
        raise UserError("student and teacher are one model, and a teacher does not learn; give a copy: iit.student")
    refuse_other_answers(teacher, model, "student")
    if has_length(rows) and not len(rows):  # pyright: ignore[reportArgumentType]
        raise UserError("train_dataset holds no rows; give some")
    try:
        validate_quantization_for_training(model)
    except ValueError as error:
        raise UserError(f"the student cannot be trained: {one_line(error)}") from None
