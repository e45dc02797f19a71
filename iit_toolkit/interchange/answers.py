"""Whether two models answer in the same words: vocabularies and classes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from transformers import PreTrainedConfig, PreTrainedModel

from iit_toolkit.data.readable import token_embeddings
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.checks import Check


def class_names(config: PreTrainedConfig) -> dict[int, str]:
    """Return what a model's classes are called, by number."""
    return {int(number): str(name) for number, name in (config.id2label or {}).items()}


def class_elsewhere(expected: Mapping[int, str], found: Mapping[int, str]) -> tuple[str, int, int] | None:
    """Return a class that both sides name, but number otherwise: in lower case, with the expected and the found number.

    Names that only one side has, and those that say no more than a number (`LABEL_0`), cannot be compared.
    """
    numbers = {name.casefold(): number for number, name in expected.items()}
    for number, name in found.items():
        known = numbers.get(name.casefold(), number)
        if known != number and not re.fullmatch(r"(label[ _]?)?\d+", name.casefold()):
            return name.casefold(), known, number
    return None


def same_answers(teacher: PreTrainedModel, student: PreTrainedModel) -> Check:
    """Check that vocabularies (or label sets) agree, so that answers can be compared."""
    classifies = teacher.get_output_embeddings() is None
    key, noun = ("num_labels", "labels") if classifies else ("vocab_size", "tokens")
    of_teacher, of_student = getattr(teacher.config, key, None), getattr(student.config, key, None)
    if of_teacher != of_student:
        return Check(
            "same answers",
            False,
            f"teacher has {of_teacher} {noun}, student {of_student}; make the student from the teacher's config",
        )
    other = class_elsewhere(class_names(teacher.config), class_names(student.config))
    if type(teacher).__name__.endswith("Classification") and other is not None:
        name, of_teacher, of_student = other
        return Check(
            "same answers",
            False,
            f"class {name} is number {of_teacher} of the teacher, {of_student} of the student; give both the same "
            "id2label, as their heads have them",
        )
    return Check("same answers", True, "teacher and student choose among the same answers")


def refuse_other_answers(teacher: object, student: object, what: str) -> None:
    """Refuse a student of transformers that answers in other words than a teacher of transformers.

    Args:
        teacher: The teacher.
        student: The student.
        what: What messages call the student.

    Raises:
        UserError: If vocabularies, or classes, differ.
    """
    if isinstance(teacher, PreTrainedModel) and isinstance(student, PreTrainedModel):
        found = same_answers(teacher, student)
        if not found.passed:
            raise UserError(f"{what}: {found.detail}")


def same_tokens(teacher: PreTrainedModel, student: PreTrainedModel) -> Check:
    """As `same_answers`, before any row is known: the student must know the tokens of any row of the teacher's."""
    found = same_answers(teacher, student)
    of_teacher, of_student = (
        0 if (one := token_embeddings(model)) is None else one.num_embeddings for model in (teacher, student)
    )
    if found.passed and 0 < of_student < of_teacher:
        return Check(
            found.name,
            False,
            f"teacher reads {of_teacher} tokens, student {of_student}; make the student from the teacher's config",
        )
    return found
