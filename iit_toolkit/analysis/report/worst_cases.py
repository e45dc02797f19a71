"""The cases that a student got most wrong, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import pandas as pd

from iit_toolkit.analysis.report.examples import Answers
from iit_toolkit.analysis.statistics.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.files.printable import printable

Kind = Literal["plain", "swapped", "read", "read, swapped", "gap"]

COUNT = 20
_AROUND = 30
_ANSWERS = ("gold", "teacher_base", "teacher_cf", "student_base", "student_cf")


@dataclass(frozen=True)
class Segment:
    """Adjacent tokens of one kind: swapped (in a source: taken), read (the answer is looked at here), both, neither.

    A `gap` stands for what is left out.
    """

    kind: Kind
    text: str


@dataclass(frozen=True)
class WorstCase:
    """A case in which the intervention changes the teacher's answer, and the student does not follow.

    Attributes:
        variable: The variable that was swapped.
        inside: Whether the answer is read at a swapped position.
        position: Where the answer is read; -1 in classification.
        base: The base text, around the swapped positions and the one where the answer is read.
        source: The source text, around the positions that are taken.
        teacher: The teacher's answers, without and with the intervention.
        student: The student's.
        gold: The right answer without intervention; empty where there is none.
        kl: KL(teacher || student) of the counterfactual runs, in nats.
    """

    variable: str
    inside: bool
    position: int
    base: list[Segment]
    source: list[Segment]
    teacher: tuple[str, str]
    student: tuple[str, str]
    gold: str
    kl: float


def worst_cases(
    outcomes: pd.DataFrame, examples: pd.DataFrame, answers: Answers, student: str, count: int = COUNT
) -> list[WorstCase]:
    """Pick the cases with the largest divergence among those that the student got wrong.

    A case is wrong where the intervention changes the teacher's answer and the student gives another one under its
    own intervention. Each variable, and inside and outside, has an equal share of the picked cases.

    Args:
        outcomes: The outcomes table.
        examples: The texts; cases whose pair is not among them are left out.
        answers: What the answers read as.
        student: Whose cases.
        count: About how many to pick, twice as many at most: of many variables, those with the largest divergence.

    Returns:
        The cases, the largest divergence first.
    """
    chosen = (
        (outcomes["student"] == student)
        & (outcomes["teacher_cf"] != outcomes["teacher_base"])
        & (outcomes["student_cf"] != outcomes["teacher_cf"])
    )
    shown = ["variable", "base", "source", "position", "inside", *_ANSWERS, "kl_cf"]
    wrong = outcomes.loc[chosen, shown].merge(examples[["base", "source"]], on=["base", "source"])
    if wrong.empty:
        return []
    wrong = wrong.sort_values(["kl_cf", "base", "position"], ascending=[False, True, True], kind="stable")
    groups = wrong.groupby(["variable", "inside"], sort=False)
    picked = groups.head(-(-count // groups.ngroups)).head(2 * count).merge(examples, on=["base", "source"])
    return [_case(cast(dict[str, Any], row), answers) for row in picked.to_dict("records")]


def _case(row: dict[str, Any], answers: Answers) -> WorstCase:
    position, swapped, taken = int(row["position"]), row["swapped"], row["taken"]
    centre = [*swapped, position] if position != NO_POSITION else swapped
    return WorstCase(
        variable=row["variable"],
        inside=bool(row["inside"]) and position != NO_POSITION,
        position=position,
        base=_segments(row["base_tokens"], swapped, position, centre),
        source=_segments(row["source_tokens"], taken, NO_POSITION, taken),
        teacher=(answers.read(row["teacher_base"]), answers.read(row["teacher_cf"])),
        student=(answers.read(row["student_base"]), answers.read(row["student_cf"])),
        gold="" if row["gold"] == NO_GOLD else answers.read(row["gold"]),
        kl=float(row["kl_cf"]),
    )


def _segments(tokens: Sequence[str], swapped: Sequence[int], read: int, centre: Sequence[int]) -> list[Segment]:
    """Return the tokens around `centre`, those of one kind put together."""
    start = max(0, min(map(int, centre), default=0) - _AROUND)
    end = min(len(tokens), max(map(int, centre), default=0) + _AROUND + 1)
    segments = list(_runs(tokens, {int(place) for place in swapped}, read, range(start, end)))
    gap = Segment("gap", "\N{HORIZONTAL ELLIPSIS}")
    return [*([gap] if start else []), *segments, *([gap] if end < len(tokens) else [])]


def _runs(tokens: Sequence[str], swapped: set[int], read: int, places: range) -> Iterator[Segment]:
    if not places:
        return
    kind, text = _kind(places[0], swapped, read), ""
    for place in places:
        here = _kind(place, swapped, read)
        if here != kind:
            yield Segment(kind, text)
            kind, text = here, ""
        text += printable(tokens[place])
    yield Segment(kind, text)


def _kind(place: int, swapped: set[int], read: int) -> Kind:
    if place == read:
        return "read, swapped" if place in swapped else "read"
    return "swapped" if place in swapped else "plain"
