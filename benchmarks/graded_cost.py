"""What graded measures cost a verification: time and memory, with them against without, in turn.

    python -m benchmarks.graded_cost    writes docs/graded-cost.json

The embedded teacher against 3 of its layers and an untrained student, with all controls of the first; one variable of
whole block outputs, 64 pairs of 64 random tokens, on one thread. "Without" computes KL(teacher || student) of both runs
as before, and no effect. Every verification has a process of its own; the two kinds take turns. CPU time is that of the
verification; memory is how much the peak of the process rises in it, above that of the loaded models.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging

from benchmarks.memory import high_water
from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.verification import answers
from iit_toolkit.analysis.verification.verify import verify
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.distillation.students import student_from_config, student_from_teacher
from iit_toolkit.runs.provenance import provenance

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "graded-cost.json"
PAIRS, TOKENS, ROUNDS = 64, 64, 5


def main() -> None:
    """Measure both kinds in turn, print the ratios and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=("with", "without"), help=argparse.SUPPRESS)
    asked = parser.parse_args().one
    if asked:
        print(json.dumps(measure(graded=asked == "with")))
        return
    rounds = [{kind: in_a_process(kind) for kind in ("with", "without")} for _ in range(ROUNDS)]
    ratios = {what: [one["with"][what] / one["without"][what] for one in rounds] for what in ("cpu_seconds", "peak_mb")}
    found = {what: statistics.median(values) for what, values in ratios.items()}
    print(" ".join(f"{what}: {value:.3f}" for what, value in found.items()))
    document = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "pairs": PAIRS,
        "tokens": TOKENS,
        "median_ratios": found,
        "ratios": ratios,
        "rounds": rounds,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def in_a_process(kind: str) -> dict[str, float]:
    """Measure one verification in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.graded_cost", "--one", kind]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def measure(*, graded: bool) -> dict[str, float]:
    """Verify once."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    if not graded:
        answers._graded = _divergences  # pyright: ignore[reportPrivateUsage]
    teacher: Any = AutoModelForMaskedLM.from_pretrained(ASSETS / "teacher", dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "teacher")
    torch.manual_seed(0)
    students = {
        "student": student_from_teacher(teacher, [0, 2, 4]).eval(),
        "untrained": student_from_config(teacher, {"num_hidden_layers": 3}).eval(),
    }
    ids = torch.randint(len(tokenizer.all_special_ids), len(tokenizer), (PAIRS, TOKENS))
    rows = [{"input_ids": row, "example_id": index} for index, row in enumerate(ids)]
    collator = MaskedLanguageCollator(tokenizer)
    before, started = high_water(), time.process_time()
    verify(teacher, students, Alignment.pairs(middle=(3, 1)), rows, collator, task="masked_lm", judged="student")
    return {"cpu_seconds": time.process_time() - started, "peak_mb": high_water() - before}


def _divergences(truth: answers.Answers, run: answers.Answers) -> dict[str, Tensor]:
    """Compute what was computed before: two divergences, over all cases at once."""

    def kl(teacher: Tensor, student: Tensor) -> Tensor:
        chances = teacher.exp()
        return (chances * (teacher - student)).masked_fill_(chances == 0, 0.0).sum(-1).double()

    found = {"kl": kl(truth.base, run.base), "kl_cf": kl(truth.counterfactual, run.counterfactual)}
    nothing = torch.zeros_like(found["kl"])
    names = ("kl_ignored", "teacher_effect", "student_effect", "effect_error", "teacher_moved", "student_moved")
    return {**found, **dict.fromkeys(names, nothing)}


if __name__ == "__main__":
    main()
