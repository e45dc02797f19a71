"""What a verification costs in memory, against the number of its variables and its batch size.

    python -m benchmarks.verification_memory          1, 10 and 100 variables, in batches of 4 and 16; writes
                                                      docs/verification-memory.json
    python -m benchmarks.verification_memory 50 --batch 64   50 variables in batches of 64; prints only

The embedded teacher against 3 of its layers and an untrained student, with all controls of the first. There are 32
pairs of 24 random tokens, on one thread. Variables are a few neurons each, at 15 places (5 components of 3 blocks) in
turn. Every size has a process of its own. What it holds is its peak resident memory: before (models loaded, and a
verification of one variable made), and after verifying; the tables that it returns are named apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging

from benchmarks.memory import high_water
from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.distillation.students import student_from_config, student_from_teacher
from iit_toolkit.runs.provenance import provenance

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "verification-memory.json"
VARIABLES, BATCHES = (1, 10, 100), (4, 16)
PAIRS, TOKENS, NEURONS = 32, 24, 4
COMPONENTS = ("block_input", "block_output", "attention_output", "mlp_output", "mlp_activation")
LAYERS = {"teacher": (0, 2, 4), "student": (0, 1, 2)}
JUDGED = "student"


def main() -> None:
    """Measure every size, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variables", nargs="*", type=int, help="numbers of variables; the usual, and written, if none")
    parser.add_argument("--batch", type=int, nargs="*", default=BATCHES, help="base rows of a batch")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.variables[0], arguments.batch[0])))
        return
    sizes = [(count, batch) for batch in arguments.batch for count in arguments.variables or VARIABLES]
    found = [in_a_process(*size) for size in sizes]
    print("| variables | batch | MB before | verified | more | tables, MB |\n|--:|--:|--:|--:|--:|--:|")
    for one in found:
        print(f"| {one['variables']} | {one['batch_size']} | {one['before_mb']} | {one['verified_mb']} |", end=" ")
        print(f"{one['verified_mb'] - one['before_mb']} | {one['tables_mb']:.1f} |")
    if not arguments.variables:
        document = {
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "provenance": provenance(),
            "pairs": PAIRS,
            "tokens": TOKENS,
            "sizes": found,
        }
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def in_a_process(variables: int, batch_size: int) -> dict[str, Any]:
    """Measure one size in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.verification_memory", str(variables), "--batch", str(batch_size)]
    printed = subprocess.run([*command, "--one"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def measure(variables: int, batch_size: int) -> dict[str, Any]:
    """Verify this many variables."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    teacher: Any = AutoModelForMaskedLM.from_pretrained(ASSETS / "teacher", dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "teacher")
    torch.manual_seed(0)
    students = {
        JUDGED: student_from_teacher(teacher, list(LAYERS["teacher"])).eval(),
        "untrained": student_from_config(teacher, {"num_hidden_layers": 3}).eval(),
    }
    ids = torch.randint(len(tokenizer.all_special_ids), len(tokenizer), (PAIRS, TOKENS))
    rows = [{"input_ids": row, "example_id": index} for index, row in enumerate(ids)]

    def verified(count: int, pairs: int) -> Verification:
        return verify(
            teacher,
            students,
            alignment(count),
            rows,
            MaskedLanguageCollator(tokenizer),
            task="masked_lm",
            pairs=pairs,
            batch_size=batch_size,
            judged=JUDGED,
        )

    verified(1, PAIRS)
    before = high_water()
    found = verified(variables, PAIRS)
    peak = high_water()
    assert found.controls is not None
    tables = sum(int(frame.memory_usage(index=True).sum()) for frame in (found.outcomes, found.controls))
    return {
        "variables": variables,
        "batch_size": batch_size,
        "before_mb": round(before),
        "verified_mb": round(peak),
        "tables_mb": tables / 2**20,
    }


def alignment(count: int) -> Alignment:
    """Return this many variables of a few neurons each, at all places in turn."""
    places = [(component, layer) for component in COMPONENTS for layer in range(3)]
    variables: list[dict[str, Any]] = []
    for index in range(count):
        component, layer = places[index % len(places)]
        low = NEURONS * (index // len(places))
        sides = {
            side: [{"component": component, "layer": layers[layer], "neurons": [low, low + NEURONS]}]
            for side, layers in LAYERS.items()
        }
        variables.append({"name": f"v{index}", **sides})
    return Alignment.from_dict({"name": "many", "variables": variables})


if __name__ == "__main__":
    main()
