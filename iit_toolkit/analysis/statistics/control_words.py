"""What controls are called, and what it means that a student passes or fails one."""

from __future__ import annotations

from iit_toolkit.analysis.statistics.outcomes import OTHER_VARIABLE, RANDOM_NEURONS, SHUFFLED_SOURCES, WRONG_LAYER

FLOOR = "no-intervention floor"
TOO_FLEXIBLE = (
    "Subspaces that were learned on the untrained student score as high, up to the margin. Such a map succeeds on a "
    "random network, so its score says nothing about this one."
)


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
            f"{student} follows the intervention: without reacting to it, {student} would not score this high.",
            f"{student} would score as high, up to the margin, without reacting to the intervention.",
        ),
        WRONG_LAYER: (
            f"The layer matters: swapped at another layer, {student} does not score this high.",
            f"Swapped at another layer, {student} scores as high, up to the margin. So the score does not single out "
            "the aligned layer.",
        ),
        RANDOM_NEURONS: (
            f"The neurons matter: swapped at as many other neurons of the layer, {student} does not score this high.",
            f"Swapped at as many other neurons of the layer, {student} scores as high, up to the margin. So the score "
            "does not single out the aligned ones.",
        ),
        OTHER_VARIABLE: (
            f"The pairing matters: swapped at the sites of another variable, {student} does not score this high.",
            f"Swapped at the sites of another variable, {student} scores as high, up to the margin. So the score does "
            "not distinguish the variables.",
        ),
        SHUFFLED_SOURCES: (
            f"The source matters: with another source than its teacher's, {student} does not score this high.",
            f"With another source than its teacher's, {student} scores as high, up to the margin. So the score does "
            "not depend on what is swapped in.",
        ),
    }
    untrained = (
        f"Training made the difference: with the same interventions, the {name} student does not score this high.",
        f"The {name} student scores as high, up to the margin. So the score is not shown to come from training.",
    )
    return meanings.get(name, untrained)
