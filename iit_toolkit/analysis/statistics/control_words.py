"""What controls are called, and what it means that a student passes or fails one."""

from __future__ import annotations

from iit_toolkit.analysis.statistics.outcomes import OTHER_VARIABLE, RANDOM_NEURONS, SHUFFLED_SOURCES, WRONG_LAYER

FLOOR = "no-intervention floor"


def describe_control(name: str) -> str:
    """Return what a control is called in a sentence and in the report."""
    return {
        FLOOR: FLOOR,
        WRONG_LAYER: "student at a wrong layer",
        RANDOM_NEURONS: "student with random neurons",
        OTHER_VARIABLE: "student at the sites of another variable",
        SHUFFLED_SOURCES: "student with shuffled sources",
    }.get(name, f"{name} student")


def control_meanings(student: str, name: str) -> tuple[str, str]:
    """Return what it means that a student passed a control, and that it failed it."""
    meanings = {
        FLOOR: (
            f"{student} follows the intervention; its unmoved answers alone would not score this.",
            f"What {student} scores can be had, up to the margin, without reacting to the intervention.",
        ),
        WRONG_LAYER: (
            f"The layer matters: {student}, swapped at another layer, does not reach this.",
            f"Swapped at another layer, {student} reaches the same up to the margin: the score does not single out the "
            "aligned layer.",
        ),
        RANDOM_NEURONS: (
            f"The neurons matter: {student}, swapped at as many others of the same layer, does not reach this.",
            "As many other neurons of the same layer reach the same up to the margin: the score does not single out "
            "the aligned ones.",
        ),
        OTHER_VARIABLE: (
            f"The pairing matters: {student}, swapped at the sites of another variable, does not reach this.",
            "The sites of another variable reach the same up to the margin: the score does not tell the variables "
            "apart.",
        ),
        SHUFFLED_SOURCES: (
            f"The source matters: {student}, given another source than its teacher, does not reach this.",
            f"Given another source than its teacher, {student} reaches the same up to the margin: the score does not "
            "depend on what is swapped in.",
        ),
    }
    untrained = (
        f"Training brought this about: {name} with the same interventions does not reach it.",
        f"{name} reaches the same up to the margin: what is scored is not shown to come from training.",
    )
    return meanings.get(name, untrained)
