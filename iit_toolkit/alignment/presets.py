"""Ready-made alignments: `diito/*` and, with the official code's places, `naacl2022/*`.

Layer lists follow the official implementation of Causal Distillation for Language Models (arXiv 2112.02505). Its
mapping files name the blocks used below, for 12-layer teachers and 3-, 6- and 9-layer students. `diito/*` reads and
writes the same place, the blocks' outputs. `naacl2022/*` reproduces the official code's behaviour: it reads the
*input* of each named block and writes its *output*.
"""

from __future__ import annotations

from transformers import PreTrainedModel

from iit_toolkit.alignment.sites import Place, Site
from iit_toolkit.alignment.spec import Alignment, Variable
from iit_toolkit.errors import UserError, did_you_mean

_Map = list[tuple[list[int], int]]

_MIDDLE: dict[int, _Map] = {3: [([6], 1)], 6: [([6], 3)], 9: [([6], 4)]}
_LATE: dict[int, _Map] = {3: [([9], 0), ([10], 1)], 6: [([9], 3), ([10], 4)]}
_FULL: dict[int, _Map] = {
    3: [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 1), ([8, 9, 10, 11], 2)],
    6: [([2 * i, 2 * i + 1], i) for i in range(6)],
    9: [([0, 1], 0), ([2, 3], 1), ([4, 5], 2)] + [([i + 3], i) for i in range(3, 9)],
}
_KINDS = ("middle", "late", "full")
PRESETS = tuple(f"{family}/{kind}" for family in ("diito", "naacl2022") for kind in _KINDS)


def _middle(teacher: int, student: int) -> _Map:
    target = (student + 1) // 2 - 1
    return [([_proportional(target, teacher, student)], target)]


def _late(teacher: int, student: int) -> _Map:
    targets = [layer for layer in (student - 3, student - 2) if layer >= 0] or [0]
    return [([_proportional(target, teacher, student)], target) for target in targets]


def _full(teacher: int, student: int) -> _Map:
    bounds = [round(i * teacher / student) for i in range(student + 1)]
    return [(list(range(bounds[i], bounds[i + 1])), i) for i in range(student)]


def _proportional(layer: int, teacher: int, student: int) -> int:
    """Return the teacher block at the same relative depth: both have then run the same share of their blocks."""
    return round((layer + 1) * teacher / student) - 1


def preset(name: str, teacher: int | PreTrainedModel, student: int | PreTrainedModel) -> Alignment:
    """Return a preset alignment for a teacher and a student, by their depths.

    12-layer teachers with 3-, 6- and 9-layer students get the paper's layer lists. Other depths get the
    proportional rule: a student block corresponds to the teacher block at the same relative depth (`middle`: the
    student's middle block; `late`: the two blocks below its last; `full`: every block, each with its equal share of
    the teacher's).

    Args:
        name: `diito/middle`, `diito/late`, `diito/full`, or the same with `naacl2022/`.
        teacher: The teacher, or its number of blocks.
        student: The student, or its number of blocks: at most the teacher's.

    Raises:
        UserError: If the name is unknown, or the depths do not allow the alignment.
    """
    if name not in PRESETS:
        raise UserError(f'no preset "{name}", {did_you_mean(name, PRESETS)}')
    teacher_layers, student_layers = (_depth(one, name) for one in (teacher, student))
    if not 1 <= student_layers <= teacher_layers:
        raise UserError(
            f"preset {name}: a student of {student_layers} layers cannot be aligned with a teacher of "
            f"{teacher_layers}; the student must have 1 to {teacher_layers}"
        )
    family, kind = name.split("/")
    lists = {"middle": _MIDDLE, "late": _LATE, "full": _FULL}[kind]
    rule = {"middle": _middle, "late": _late, "full": _full}[kind]
    listed = lists.get(student_layers) if teacher_layers == 12 else None
    pairs = listed if listed is not None else rule(teacher_layers, student_layers)
    shift = family == "naacl2022"
    variables = tuple(
        Variable(
            name=kind if len(pairs) == 1 else f"{kind}-{index}",
            teacher=tuple(_site(layer, shift) for layer in layers),
            student=(_site(layer_of_student, shift),),
        )
        for index, (layers, layer_of_student) in enumerate(pairs)
    )
    return Alignment(name=name.replace("/", "-"), variables=variables)


def _depth(model: int | PreTrainedModel, name: str) -> int:
    depth = model if isinstance(model, int) else getattr(getattr(model, "config", None), "num_hidden_layers", None)
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise UserError(f"preset {name}: {type(model).__name__} does not say how many blocks it has; give their number")
    return depth


def _site(layer: int, reads_input: bool) -> Site:
    read = Place(component="block_input", layer=layer) if reads_input else None
    return Site(component="block_output", layer=layer, read=read)
