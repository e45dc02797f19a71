"""The page on right and wrong verdicts, of the measured numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iit_toolkit.analysis.statistics.measures import MEASURES

System = Mapping[str, Any]
RIGHT = "SUPPORTED"

_HEADER = """# Verdicts on systems with a known truth

This page judges small networks whose insides are set by hand, so that the right verdict is known. It shows where a
verdict is right, by measure and by number of pairs.

* A *valid* student holds both variables where the alignment says, and computes its answer from them as its teacher
  does. Its right verdict is SUPPORTED.
* Any other student is *invalid*. Its right verdict is NOT SUPPORTED or INCONCLUSIVE.

The teachers have four layers of neurons with ReLU, and hold V1 and V2 in known neurons of the second layer.

* *Two answers*: hierarchical equality. V1 says whether a equals b, V2 whether c equals d, and the answer is whether V1
  equals V2. There are 16 objects. The four patterns are equally frequent, so a swap changes the answer half the time.
* *Eight answers*: V1 is a + b, V2 is c + d, and the answer is V1 + V2, all modulo 8. A swap changes the answer in seven
  of eight cases.

Each source is another row. Pairs, tables, leak check and verdict are the package's own. The controls are: wrong layer,
random neurons, other variable, shuffled sources, and unaligned sites. Every number of pairs has {seeds} seeds, of rows,
controls and resampling. Verdicts have a margin of {margin} and {resamples} resamples.

`python -m benchmarks.verdicts` measures all this in {minutes} CPU minutes and writes this page. `verdicts.json` holds
the numbers.
"""

WHY = {
    "keeps": "The student holds V1 and V2 in two layers, and its teacher in one. The control *wrong layer* may draw "
    "the second of them. There the student does the same as at the right layer, and its teacher does not. So the "
    "student has no lead over this control. The alignment does not say that V1 and V2 may stand nowhere else, so the "
    "control asks too much here.",
    **dict.fromkeys(
        ("noisy", "noisy, 8 answers"),
        "Its errors depend on all neurons. So a swap of the unaligned ones moves a small share of its probability, and "
        "hardly any of its teacher's, and the leak check fails or stays open. A leak and errors that depend on what is "
        "left out look alike. The check is stricter than the score here: its margin is 0.05 of the probability, while "
        "errors of such a size cost little effect R².",
    ),
}
"""Why a verdict is wrong, by system."""

_FEW = (
    "Other wrong verdicts are INCONCLUSIVE on valid students, with few pairs. A control is asked only in the cases in "
    "which the teacher does otherwise there. IIA counts all of these. The other measures count only those in which the "
    "right swap changes the teacher, too: half of them, with two answers. Fewer than 20 leave the verdict open."
)


def document(numbers: Mapping[str, Any]) -> str:
    """Return the page."""
    settings = numbers["settings"]
    header = _HEADER.format(**settings, minutes=max(1, round(numbers["cpu_seconds"] / 60)))
    parts = [
        header,
        _systems(numbers["systems"]),
        _at_most(numbers["systems"], settings),
        _smallest(numbers["systems"], settings),
        _shares(numbers["systems"], settings),
        _wrong(numbers["systems"], settings),
    ]
    return "\n".join(parts)


def _truth(system: System) -> str:
    return "valid" if system["valid"] else "invalid"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _right(system: System, pairs: int, measure: str) -> int:
    """Count the right verdicts on a system."""
    labels: Mapping[str, int] = system["by_pairs"][str(pairs)]["labels"][measure]
    supported = labels.get(RIGHT, 0)
    return supported if system["valid"] else sum(labels.values()) - supported


def _refuted(system: System, pairs: int, measure: str) -> int:
    """Count the verdicts on a system that say NOT SUPPORTED."""
    return system["by_pairs"][str(pairs)]["labels"][measure].get("NOT SUPPORTED", 0)


def _titles(measures: Sequence[str]) -> list[str]:
    return [MEASURES[name].title for name in measures]


def _systems(systems: Sequence[System]) -> str:
    rows = [[system["name"], _truth(system), system["what"]] for system in systems]
    return "## Systems\n\n" + _table(["student", "truth", "what it is"], rows)


def _at_most(systems: Sequence[System], settings: Mapping[str, Any]) -> str:
    pairs = settings["pairs"][-1]
    rows: list[list[str]] = []
    for system in systems:
        found = system["by_pairs"][str(pairs)]
        cells = [_cell(system, found, measure, settings["seeds"]) for measure in settings["measures"]]
        rows.append([system["name"], _truth(system), *cells, f"{found['leaks']} of {settings['seeds']}"])
    return (
        f"## Verdicts with {pairs} pairs\n\n"
        "In brackets is the mean score, of the variable that has the lower one. A number is that of seeds, where they "
        "differ. Wrong verdicts are bold. *Leak* counts the seeds whose leak check fails at some unaligned site.\n\n"
        + _table(["student", "truth", *_titles(settings["measures"]), "leak"], rows)
    )


def _cell(system: System, found: Mapping[str, Any], measure: str, seeds: int) -> str:
    labels: dict[str, int] = found["labels"][measure]
    told = [
        f"**{one}**" if (label == RIGHT) != system["valid"] else one
        for label, count in sorted(labels.items())
        for one in [label if count == seeds else f"{label} {count}"]
    ]
    return f"{', '.join(told)} ({min(found['scores'][measure].values()):.2f})"


def _smallest(systems: Sequence[System], settings: Mapping[str, Any]) -> str:
    rows: list[list[str]] = []
    for system in systems:
        cells: list[str] = []
        for measure in settings["measures"]:
            right = _from(settings, lambda pairs, measure=measure, system=system: _right(system, pairs, measure))
            refuted = _from(settings, lambda pairs, measure=measure, system=system: _refuted(system, pairs, measure))
            cell = "**none**" if right is None else str(right)
            cells.append(cell if system["valid"] else f"{cell} ({'-' if refuted is None else refuted})")
        rows.append([system["name"], _truth(system), *cells])
    return (
        "## How many pairs are enough\n\n"
        "The smallest number of pairs from which on the verdict is right with every seed, at this and every larger "
        "number. INCONCLUSIVE counts as right for invalid students. In brackets is the number from which on they are "
        "NOT SUPPORTED with every seed. A student that scores like a control, or hardly above, stays INCONCLUSIVE "
        "until the interval of its lead lies below the margin.\n\n"
        + _table(["student", "truth", *_titles(settings["measures"])], rows)
    )


def _from(settings: Mapping[str, Any], count: Callable[[int], int]) -> int | None:
    """Return the smallest number of pairs from which on a count is that of all seeds; None if there is none."""
    enough = None
    for pairs in reversed(settings["pairs"]):
        if count(pairs) < settings["seeds"]:
            break
        enough = pairs
    return enough


def _shares(systems: Sequence[System], settings: Mapping[str, Any]) -> str:
    rows: list[list[str]] = []
    for measure, title in zip(settings["measures"], _titles(settings["measures"]), strict=True):
        for valid in (True, False):
            some = [system for system in systems if system["valid"] == valid]
            all_of_them = len(some) * settings["seeds"]
            shares = [sum(_right(one, pairs, measure) for one in some) / all_of_them for pairs in settings["pairs"]]
            rows.append([title, "valid" if valid else "invalid", *(f"{share:.0%}" for share in shares)])
    return "## Share of right verdicts\n\nOver systems and seeds, by number of pairs.\n\n" + _table(
        ["measure", "truth", *(str(pairs) for pairs in settings["pairs"])], rows
    )


def _wrong(systems: Sequence[System], settings: Mapping[str, Any]) -> str:
    """List wrong verdicts, and say why they are."""
    told: list[str] = []
    only_few = False
    for system in systems:
        places: list[str] = []
        for measure, title in zip(settings["measures"], _titles(settings["measures"]), strict=True):
            wrong = {pairs: settings["seeds"] - _right(system, pairs, measure) for pairs in settings["pairs"]}
            found = [f"{count} of {settings['seeds']} with {pairs}" for pairs, count in wrong.items() if count]
            places += [f"{title}: {', '.join(found)}"] if found else []
        if not places:
            continue
        if system["name"] in WHY:
            told.append(f"**{system['name']}** ({_truth(system)}). {WHY[system['name']]}\n\n{_bullets(places)}")
        elif system["valid"] and not any(
            _refuted(system, pairs, measure) for pairs in settings["pairs"] for measure in settings["measures"]
        ):
            only_few = True
        else:
            told.append(f"**{system['name']}** ({_truth(system)}).\n\n{_bullets(places)}")
    told += [_FEW] if only_few else []
    return "## Why verdicts are wrong\n\n" + ("\n\n".join(told) if told else "No verdict is wrong.") + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)
