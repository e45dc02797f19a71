"""Which verdicts are right, on small systems whose truth is known, and from how many pairs on.

    python -m benchmarks.verdicts            writes docs/verdicts.md and docs/verdicts.json
    python -m benchmarks.verdicts --page     writes docs/verdicts.md anew, of the numbers in docs/verdicts.json

Every system is verified as the product does it: pairs are drawn, teacher and student are swapped, controls are run, and
the verdict is given. Only where the controls swap is chosen here, since the networks are no transformers.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoTokenizer

from benchmarks.verdict_equality import equality_teacher
from benchmarks.verdict_networks import Network, NetworkSide, Site
from benchmarks.verdict_page import document
from benchmarks.verdict_systems import System, systems
from benchmarks.verdict_tasks import OBJECTS, V1, V2, right_answer
from benchmarks.verdict_trained import trained
from iit_toolkit.alignment.positions import AllPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics import verdict
from iit_toolkit.analysis.statistics.judged_cases import JudgedCases
from iit_toolkit.analysis.statistics.leak import find_leaks
from iit_toolkit.analysis.statistics.measures import JUDGED
from iit_toolkit.analysis.statistics.outcomes import OTHER_VARIABLE, RANDOM_NEURONS, UNTRAINED, WRONG_LAYER
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.analysis.verification.cases import DrawnPairs, Pairs, draw_pairs
from iit_toolkit.analysis.verification.controls import Plan
from iit_toolkit.analysis.verification.verify import Controls, Verification, tabulate
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.data.collate import ClassificationCollator
from iit_toolkit.runs.provenance import provenance

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUMBERS, PAGE = DOCS / "verdicts.json", DOCS / "verdicts.md"
PAIRS = (32, 64, 128, 256, 512)
SEEDS = 5
RESAMPLES, MARGIN = 500, 0.05
VARIABLES = (V1, V2)
STUDENT = "student"


def main() -> None:
    """Verify and judge every system; write numbers and page after every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how often everything is drawn")
    arguments = parser.parse_args()
    if arguments.page:
        PAGE.write_text(document(json.loads(NUMBERS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        for pairs in PAIRS:
            found += of_seed(pairs, seed)
            print(f"seed {seed}, {pairs} pairs: {time.process_time():.0f} s", flush=True)
        numbers = json.dumps(counted(found, seed + 1), indent=1) + "\n"
        NUMBERS.write_text(numbers, encoding="utf-8")
        PAGE.write_text(document(json.loads(numbers)), encoding="utf-8")


def of_seed(pairs: int, seed: int) -> list[dict[str, Any]]:
    """Judge every system by every measure."""
    chosen = every_system()
    tasks = dict.fromkeys(system.task for system in chosen)
    return [one for task in tasks for one in judged([one for one in chosen if one.task == task], pairs, seed)]


def counted(verdicts: Sequence[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """Return what docs/verdicts.json holds."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "cpu_seconds": round(time.process_time()),
        "settings": {"pairs": PAIRS, "seeds": seeds, "resamples": RESAMPLES, "margin": MARGIN, "measures": JUDGED},
        "systems": [
            {"name": system.name, "task": system.task, "valid": system.valid, "what": system.what}
            | {"by_pairs": {pairs: _counted(verdicts, system.name, pairs) for pairs in PAIRS}}
            for system in every_system()
        ],
    }


def _counted(verdicts: Iterable[dict[str, Any]], name: str, pairs: int) -> dict[str, Any]:
    """Count the labels of a system by measure, and the seeds with a leak; return mean scores, too."""
    mine = [one for one in verdicts if (one["system"], one["pairs"]) == (name, pairs)]
    return {
        "labels": {measure: dict(Counter(one["labels"][measure] for one in mine)) for measure in JUDGED},
        "scores": {
            measure: {
                variable: round(sum(one["scores"][measure][variable] for one in mine) / len(mine), 3)
                for variable in VARIABLES
            }
            for measure in JUDGED
        },
        "leaks": sum(one["leaks"] for one in mine),
    }


def every_system() -> list[System]:
    """Return all systems: valid ones first, and those of two answers first."""
    learned = [
        ("trained", True, "learned by interchange interventions on V1 and V2", lambda: trained()),
        ("trained, crossed", False, "learned the same with V1 and V2 exchanged", lambda: trained(crossed=True)),
    ]
    more = [System(name, "equality", valid, what, make, equality_teacher) for name, valid, what, make in learned]
    return sorted([*systems(), *more], key=lambda system: (not system.valid, system.task))


def judged(chosen: Sequence[System], pairs: int, seed: int) -> list[dict[str, Any]]:
    """Verify systems of one task on the same pairs, and judge each by every measure."""
    found: list[dict[str, Any]] = []
    drawing = drawn(chosen[0].task, pairs, seed)
    for system in chosen:
        verification = verified(system, *drawing, seed)
        verdicts = by_measure(verification, seed)
        found.append(
            {
                "system": system.name,
                "pairs": pairs,
                "labels": {measure: one.label for measure, one in verdicts.items()},
                "scores": {
                    measure: {name: one.score.value for name, one in found_by.variables.items()}
                    for measure, found_by in verdicts.items()
                },
                "leaks": any(leak.passed is False for one in verdicts.values() for leak in one.leaks),
            }
        )
    return found


def rows(task: str, count: int, seed: int, first_token: int) -> list[dict[str, Any]]:
    """Return inputs of four objects; of `equality`, the four patterns of equal and different are equally often there.

    Args:
        task: The task.
        count: How many.
        seed: Of the draw.
        first_token: The token of object 0.
    """
    generator = random.Random(seed)
    made: list[dict[str, Any]] = []
    for index in range(count):
        objects = [generator.randrange(OBJECTS) for _ in range(4)]
        if task == "equality":
            for first, same in ((0, index % 2 == 0), (2, index // 2 % 2 == 0)):
                other = (objects[first] + generator.randrange(1, OBJECTS)) % OBJECTS
                objects[first + 1] = objects[first] if same else other
        label = int(right_answer(task, torch.tensor([objects])))
        made.append({"input_ids": [first_token + one for one in objects], "label": label, "example_id": index})
    return made


def by_measure(verification: Verification, seed: int) -> dict[str, Verdict]:
    """Judge by every measure. Their verdicts share what they resample, which takes most of the time."""
    outcomes, controls = verification.outcomes, verification.controls
    assert controls is not None
    settings: dict[str, Any] = {"margin": MARGIN, "resamples": RESAMPLES, "seed": seed}
    cases, leaks = JudgedCases(outcomes, STUDENT, controls, UNTRAINED), find_leaks(controls, **settings)
    for name in ("resampled", "distinguishing"):
        setattr(cases, name, cache(getattr(cases, name)))
    with (
        patch.object(verdict, "JudgedCases", return_value=cases),
        patch.object(verdict, "find_leaks", return_value=leaks),
    ):
        return {measure: verdict.judge(verification, measure=measure, **settings) for measure in JUDGED}


@dataclass(frozen=True)
class KeptPairs(DrawnPairs):
    """Pairs that are drawn once for all systems.

    Attributes:
        kept: The batches that were drawn.
    """

    kept: dict[range, Pairs] = field(default_factory=dict[range, Pairs])

    def _batch(self, bases: range) -> Pairs:
        if bases not in self.kept:
            self.kept[bases] = super()._batch(bases)
        return self.kept[bases]


def drawn(task: str, pairs: int, seed: int) -> tuple[DrawnPairs, int]:
    """Draw pairs as the product does; return them, and the token of object 0."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "teacher")
    first_token = len(tokenizer.all_special_ids)
    found = draw_pairs(
        rows(task, pairs, seed, first_token),
        ClassificationCollator(tokenizer),
        AllPositions(kind="all"),
        Sources(),
        task="sequence_classification",
        pairs=pairs,
        batch_size=pairs,
        seed=seed,
        what="verifying",
        shuffled=True,
    )
    return KeptPairs(*(getattr(found, one.name) for one in fields(found))), first_token


def plan_controls(teacher: Network, student: Network, seed: int) -> tuple[Controls, dict[str, Site], dict[str, Site]]:
    """Choose where the controls swap, as `iit_toolkit.analysis.verification.controls` does for transformers.

    Returns:
        The controls, and their sites in teacher and student.
    """
    generator, plan = random.Random(seed), Plan()
    of_teacher: dict[str, Site] = {}
    of_student: dict[str, Site] = {}
    for variable, other in zip(VARIABLES, reversed(VARIABLES), strict=True):
        by, there = generator.choice(list(_moved(student, variable).items()))
        along = {one: site for one, site in _moved(teacher, variable).items() if (one > 0) == (by > 0)}
        chosen = {
            WRONG_LAYER: (there, along[min(along, key=lambda one: abs(one - by))] if along else None),
            RANDOM_NEURONS: tuple(_others(network, variable, generator) for network in (student, teacher)),
            OTHER_VARIABLE: (student.sites[other], teacher.sites[other]),
        }
        for control, (site, elsewhere) in chosen.items():
            plan.shuffled[control, variable] = ()
            of_student[f"{variable}, {control}"] = site
            if elsewhere is not None:
                plan.elsewhere[control, variable] = ()
                of_teacher[f"{variable}, {control}"] = elsewhere
    sides = (of_teacher, teacher), (of_student, student)
    unaligned = [*(f"layer {layer}" for layer in _free(student)), "unaligned neurons"]
    plan.teacher.update(dict.fromkeys(unaligned, ()))
    plan.student.update(dict.fromkeys(unaligned, ()))
    for layer in _free(student):
        nearest = min(_free(teacher), key=lambda one: abs(one - layer))
        for (sites, network), where in zip(sides, (nearest, layer), strict=True):
            sites[f"layer {layer}"] = Site(where, tuple(range(_widths(network)[where])))
    for sites, network in sides:
        sites["unaligned neurons"] = _rest(network)
    return Controls(STUDENT, plan), of_teacher, of_student


def _moved(network: Network, variable: str) -> dict[int, Site]:
    """Return the neurons of a variable in other layers, by the number of layers they are moved by."""
    own, widths = network.sites[variable], _widths(network)
    layers = [layer for layer, width in enumerate(widths) if layer != own.layer and max(own.neurons) < width]
    return {layer - own.layer: Site(layer, own.neurons) for layer in layers}


def _others(network: Network, variable: str, generator: random.Random) -> Site:
    """Draw as many other neurons of the layer."""
    own = network.sites[variable]
    others = sorted(set(range(_widths(network)[own.layer])).difference(own.neurons))
    return Site(own.layer, tuple(generator.sample(others, len(own.neurons))), own.basis)


def _free(network: Network) -> list[int]:
    """Return the layers, but the last, that hold no variable."""
    return [layer for layer in range(len(_widths(network)) - 1) if layer != network.sites[V1].layer]


def _widths(network: Network) -> list[int]:
    """Return how many neurons every layer has."""
    return [state.shape[1] for state in network.states(torch.zeros(1, 4, dtype=torch.long))]


def _rest(network: Network) -> Site:
    """Return the neurons of the aligned layer that no variable holds."""
    own = network.sites[V1]
    held = {neuron for site in network.sites.values() for neuron in site.neurons}
    return Site(own.layer, tuple(sorted(set(range(_widths(network)[own.layer])) - held)), own.basis)


@torch.no_grad()
def verified(system: System, pairs: DrawnPairs, first_token: int, seed: int) -> Verification:
    """Verify a system with all controls."""
    teacher, student = system.teacher(), system.student()
    controls, of_teacher, of_student = plan_controls(teacher, student, seed)
    sides = NetworkSide(teacher, first_token, of_teacher), NetworkSide(student, first_token, of_student)
    return tabulate(sides[0], {STUDENT: sides[1]}, VARIABLES, pairs, controls=controls)


if __name__ == "__main__":
    main()
