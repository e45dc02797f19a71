"""Train and verify every arm and seed of the gallery; what is done already is not done again.

    python experiments/gallery/run.py [--seeds 0 1 2]

An arm and seed is one file, `results/TASK/ARM-SEED.json`. Files of other settings are written anew.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import equality
import torch
from torch import nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.files.json_files import read_object
from iit_toolkit.runs.folder import write_json

RESULTS = Path(__file__).parent / "results"
SETTINGS = {**equality.TRAINING, "rows": equality.ROWS, "test_rows": equality.TEST_ROWS}


def main() -> None:
    """Run what is not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    torch.set_num_threads(1)
    for seed in parser.parse_args().seeds:
        teacher: nn.Sequential | None = None
        for task, arms in (("program", equality.PROGRAM_ARMS), ("student", equality.STUDENT_ARMS)):
            for arm in arms:
                path = RESULTS / f"equality-{task}" / f"{arm}-{seed}.json"
                if _done(path):
                    continue
                if task == "student" and teacher is None:
                    teacher = equality.train_by_program("iit", seed)
                started = time.process_time()
                if task == "program":
                    network = equality.train_by_program(arm, seed)
                    teacher = network if arm == "iit" else teacher
                else:
                    assert teacher is not None
                    network = equality.train_by_network(arm, teacher, seed)
                cpu = time.process_time() - started
                found = _verified(equality.program() if task == "program" else teacher, network, task)
                path.parent.mkdir(parents=True, exist_ok=True)
                record = {"settings": SETTINGS, "arm": arm, "seed": seed, "cpu_seconds": round(cpu, 1), **found}
                write_json(path, record)
                print(f"{task} {arm}, seed {seed}: {found['label']}, accuracy {found['accuracy']:.3f}", flush=True)


def _done(path: Path) -> bool:
    return path.is_file() and read_object(path)["settings"] == SETTINGS


def _verified(teacher: Any, network: nn.Sequential, task: str) -> dict[str, Any]:
    """Verify a network by the alignment, and return what the tables show."""
    aligned = equality.alignment(*equality.PARTS, of_program=task == "program")
    rows = TensorRows(equality.columns(equality.TEST_ROWS, 10_000))
    verification = iit.verify(teacher, network, aligned, rows, pairs=equality.TEST_ROWS, batch_size=500)
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
    return {
        "label": verdict.label,
        "accuracy": float((cases["student_base"] == cases["gold"]).mean()),
        "agreement": float((cases["student_base"] == cases["teacher_base"]).mean()),
        "variables": variables,
        "leak": max((leak.difference.value for leak in verdict.leaks), default=None),
    }


if __name__ == "__main__":
    main()
