"""Train and verify every arm and seed of the gallery; what is done already is not done again.

    python experiments/gallery/run.py [--seeds 0 1 2] [--tasks equality-program equality-student ...]

An arm and seed is one file, `results/TASK/ARM-SEED.json`. Files of other settings are written anew. A task without its
data is left out, and said so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import arms
import carry
import digits
import equality
import handset
import lessons
import mqnli
import pvr
import torch
import two_choice
import vision
from torch import nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.files.json_files import read_object
from iit_toolkit.interchange.sides import Teacher
from iit_toolkit.runs.folder import write_json

Network = TypeVar("Network", bound=nn.Module)
RESULTS = Path(__file__).parent / "results"
PROGRAMS = {
    "equality-program": equality.TASK,
    "mqnli": mqnli.TASK,
    "carry": carry.TASK,
    "two-choice": two_choice.TASK,
    "mnist-pvr": pvr.TASK,
    "vision-vit": vision.VIT,
    "vision-resnet": vision.RESNET,
}
OF_DIGITS = ("mnist-pvr", "vision-vit", "vision-resnet")
STUDENTS = {
    "equality-student": equality.LESSON,
    "mqnli-student": mqnli.LESSON,
    "carry-student": carry.LESSON,
    "two-choice-student": two_choice.LESSON,
}
TASKS = ("handset", *PROGRAMS, *STUDENTS)


def main() -> None:
    """Run what is not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    torch.set_num_threads(1)
    given = parser.parse_args()
    for task in given.tasks:
        if task in OF_DIGITS and not digits.DIGITS.is_file():
            print(f"{task} is left out: there are no digits at {digits.DIGITS}", flush=True)
            continue
        for seed in given.seeds:
            if task in PROGRAMS:
                _by_program(task, PROGRAMS[task], seed)
            elif task in STUDENTS:
                _by_network(task, STUDENTS[task], seed)
            else:
                _by_search(seed)


def _by_program(name: str, task: arms.Task, seed: int) -> None:
    """Train and verify every arm of a task."""
    tests = cache(task.tests)
    for arm in task.arms:
        _record(
            name,
            arm,
            seed,
            {**task.training, **task.settings},
            lambda arm=arm: arms.train(task, arm, seed),
            lambda network: _verified(task.program, network, task.alignment(), tests()),
        )


def _by_network(name: str, lesson: lessons.Lesson, seed: int) -> None:
    """Train and verify every student of a network that was trained by a program."""
    task = lesson.task
    teacher, tests = cache(lambda: arms.train(task, lesson.teacher, seed)), cache(task.tests)
    for arm in lessons.STUDENT_ARMS:
        _record(
            name,
            arm,
            seed,
            {**task.training, **task.settings},
            lambda arm=arm: lessons.train_by_network(lesson, arm, teacher(), seed),
            lambda network: _verified(teacher(), network, lesson.alignment(), tests()),
            prepare=teacher,
        )


def _by_search(seed: int) -> None:
    """Search for the blocks of every student whose weights are set by hand."""
    students = cache(handset.students)
    for arm in handset.ARMS:
        _record(
            "handset",
            arm,
            seed,
            {"rows": handset.ROWS, "blocks": handset.BLOCKS},
            lambda arm=arm: students(seed)[arm],
            lambda network: handset.searched(network, seed),
        )


def _record(
    task: str,
    arm: str,
    seed: int,
    settings: dict[str, Any],
    train: Callable[[], Network],
    verified: Callable[[Network], dict[str, Any]],
    prepare: Callable[[], object] = lambda: None,
) -> None:
    """Write the record of an arm and seed, unless it is there; what `prepare` costs is not counted."""
    path = RESULTS / task / f"{arm}-{seed}.json"
    if path.is_file() and read_object(path)["settings"] == settings:
        return
    prepare()
    started = time.process_time()
    network = train()
    cpu = time.process_time() - started
    found = verified(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": settings, "arm": arm, "seed": seed, "cpu_seconds": round(cpu, 1), **found})
    print(f"{task} {arm}, seed {seed}: {found['label']}, accuracy {found['accuracy']:.3f}", flush=True)


def _verified(
    teacher: Teacher, network: nn.Module, aligned: iit.Alignment, tests: Mapping[str, arms.Columns]
) -> dict[str, Any]:
    """Verify a network on the first test set, tell its accuracy on others, and return what the tables show."""
    (_, first), *others = tests.items()
    rows = TensorRows(first)
    verification = iit.verify(teacher, network, aligned, rows, pairs=len(rows), batch_size=500)
    verdict = iit.judge(verification)
    cases = verification.outcomes
    variables: dict[str, dict[str, float]] = {}
    for name, judged in verdict.variables.items():
        own = cases[cases["variable"] == name]
        same, changed = own["student_cf"] == own["teacher_cf"], own["teacher_cf"] != own["teacher_base"]
        variables[name] = {
            "iia": float(same.mean()),
            "effective_iia": float(same[changed].mean()),
            "changed": float(changed.mean()),
            "effect_r2": judged.score.value,
        }
    found: dict[str, Any] = {
        "label": verdict.label,
        "accuracy": float((cases["student_base"] == cases["gold"]).mean()),
        "agreement": float((cases["student_base"] == cases["teacher_base"]).mean()),
        "variables": variables,
        "leak": max((leak.difference.value for leak in verdict.leaks), default=None),
    }
    with torch.no_grad():
        accuracies = {
            name: float((network(columns["inputs"]).argmax(1) == columns["labels"]).float().mean())
            for name, columns in others
        }
    return {**found, "other_accuracy": accuracies} if accuracies else found


if __name__ == "__main__":
    main()
