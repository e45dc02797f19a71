"""The cases of a student that a report shows as text: the worst, some at random, and the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from iit_toolkit.analysis.report.examples import Answers
from iit_toolkit.analysis.statistics.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.files.printable import printable

Chosen = Literal["worst", "random", "best"]
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
class ShownCase:
    """A case in which the intervention changes the teacher's answer.

    Attributes:
        chosen: Why it is shown.
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

    chosen: Chosen
    variable: str
    inside: bool
    position: int
    base: list[Segment]
    source: list[Segment]
    teacher: tuple[str, str]
    student: tuple[str, str]
    gold: str
    kl: float


def shown_cases(
    outcomes: pd.DataFrame, examples: pd.DataFrame, answers: Answers, student: str, seed: int, count: int = COUNT
) -> list[ShownCase]:
    """Pick the worst cases, some at random, and the best, of those in which the intervention changes the teacher.

    Worst are those of the largest divergence in which the student gives another answer than its teacher; each variable,
    and inside and outside, has an equal share. Best are those of the smallest divergence in which both give the same,
    in equal shares, too. Random ones are drawn from all, right and wrong.

    Args:
        outcomes: The outcomes table.
        examples: The texts; cases whose pair is not among them are left out.
        answers: What the answers read as.
        student: Whose cases.
        seed: Of the random ones.
        count: About how many of the worst to pick, twice as many at most: of many variables, those with the largest
            divergence. There are half as many of the others.

    Returns:
        The cases: the worst, then the random ones, then the best.
    """
    chosen = (outcomes["student"] == student) & (outcomes["teacher_cf"] != outcomes["teacher_base"])
    shown = ["variable", "base", "source", "position", "inside", *_ANSWERS, "kl_cf"]
    every = outcomes.loc[chosen, shown].merge(examples[["base", "source"]], on=["base", "source"])
    every = every.sort_values(["kl_cf", "variable", "base", "position"], kind="stable", ignore_index=True)
    follows = every["student_cf"] == every["teacher_cf"]
    half = -(-count // 2)
    some = np.random.default_rng(seed).permutation(len(every))[:half]
    parts: dict[Chosen, Any] = {
        "worst": _in_shares(every[~follows].sort_values("kl_cf", ascending=False, kind="stable"), count),
        "random": every.iloc[some],
        "best": _in_shares(every[follows], half),
    }
    return [
        _case(name, cast(dict[str, Any], row), answers)
        for name, part in parts.items()
        for row in part.merge(examples, on=["base", "source"]).to_dict("records")
    ]


def _in_shares(cases: Any, count: int) -> Any:
    """Return the first cases of each variable, inside and outside, in equal shares."""
    groups = cases.groupby(["variable", "inside"], sort=False)
    return groups.head(-(-count // max(1, groups.ngroups))).head(2 * count)


def _case(chosen: Chosen, row: dict[str, Any], answers: Answers) -> ShownCase:
    position, swapped, taken = int(row["position"]), row["swapped"], row["taken"]
    centre = [*swapped, position] if position != NO_POSITION else swapped
    return ShownCase(
        chosen=chosen,
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
