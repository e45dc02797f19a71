"""What a verification costs in memory and time, against the number of its pairs.

    python -m benchmarks.verification                  256, 1,024 and 4,096 pairs; writes docs/verification-cost.json
    python -m benchmarks.verification 512 --tokens 64  512 pairs of 64 tokens; prints only

The embedded teacher (6 layers, 5,000 words) against 3 of its layers and an untrained student, with all controls of the
first. Rows are random, on one thread. Every number of pairs has a process of its own. What it holds is its peak
resident memory: before (models loaded, and a verification of one batch made), after verifying, and after the tables are
written, summarised and judged. Times are CPU times of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging

from benchmarks.memory import high_water
from iit_toolkit.alignment import preset
from iit_toolkit.analysis.statistics.leak import find_leaks
from iit_toolkit.analysis.statistics.outcomes import write_outcomes
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.distillation.students import student_from_config, student_from_teacher
from iit_toolkit.runs.provenance import provenance

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "verification-cost.json"
PAIRS = (256, 1_024, 4_096)
TOKENS, BATCH = 24, 16
JUDGED = "student"


def main() -> None:
    """Measure every number of pairs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*", type=int, help="numbers of pairs; the usual, and written down, if none")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="tokens of a row")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.pairs[0], arguments.tokens)))
        return
    found = [in_a_process(pairs, arguments.tokens) for pairs in arguments.pairs or PAIRS]
    document = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "tokens": arguments.tokens,
        "batch_size": BATCH,
        "sizes": found,
    }
    print_table(found)
    if not arguments.pairs:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def in_a_process(pairs: int, tokens: int) -> dict[str, float]:
    """Measure one number of pairs in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.verification", str(pairs), "--tokens", str(tokens), "--one"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def measure(pairs: int, tokens: int) -> dict[str, float]:
    """Verify this many pairs, and judge them."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    teacher: Any = AutoModelForMaskedLM.from_pretrained(ASSETS / "teacher", dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "teacher")
    torch.manual_seed(0)
    students = {
        JUDGED: student_from_teacher(teacher, [0, 2, 4]).eval(),
        "untrained": student_from_config(teacher, {"num_hidden_layers": 3}).eval(),
    }
    ids = torch.randint(len(tokenizer.all_special_ids), len(tokenizer), (max(pairs, BATCH), tokens))
    rows = [{"input_ids": row, "example_id": index} for index, row in enumerate(ids)]

    def verified(count: int) -> Verification:
        return verify(
            teacher,
            students,
            preset("diito/middle", 6, 3),
            rows,
            MaskedLanguageCollator(tokenizer),
            task="masked_lm",
            pairs=count,
            batch_size=BATCH,
            judged=JUDGED,
        )

    finish(verified(BATCH))
    before, started = high_water(), time.process_time()
    verification = verified(pairs)
    peak, verifying = high_water(), time.process_time()
    file_bytes = finish(verification)
    finished = time.process_time()
    assert verification.controls is not None
    frames = (verification.outcomes, verification.controls)
    return {
        "pairs": pairs,
        "cases": sum(map(len, frames)),
        "verify_seconds": verifying - started,
        "finish_seconds": finished - verifying,
        "before_mb": round(before),
        "verified_mb": round(peak),
        "finished_mb": round(high_water()),
        "tables_mb": sum(map(size, frames)) / 2**20,
        "examples_mb": size(verification.examples) / 2**20,
        "files_mb": file_bytes / 2**20,
    }


def finish(verification: Verification) -> int:
    """Write the tables, summarise and judge; return the bytes of the files."""
    outcomes, controls = verification.outcomes, verification.controls
    assert controls is not None
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("outcomes.parquet", "controls.parquet")]
        for frame, file in zip((outcomes, controls), files, strict=True):
            write_outcomes(frame, file)
        written = sum(file.stat().st_size for file in files)
    summarise(outcomes)
    judge(outcomes, JUDGED, controls=controls)
    find_leaks(controls, margin=0.05)
    return written


def size(frame: pd.DataFrame) -> int:
    """Return the bytes that a table holds, with the numbers in its lists."""
    held = int(frame.memory_usage(index=True).sum())
    for column in frame:
        first = frame[column].iloc[0]
        if isinstance(first, list):
            held += sum(sys.getsizeof(one) + sum(sys.getsizeof(token) for token in one) for one in frame[column])
    return held


def print_table(found: list[dict[str, float]]) -> None:
    """Print the sizes, and what each further pair and case holds."""
    print("| pairs | cases | CPU s, verify | the same, ms per pair | CPU s, write and judge |", end=" ")
    print("MB before | verified | written and judged | tables, MB | examples, MB | files, MB |")
    print("|--:" * 11 + "|")
    for one in found:
        per_pair = 1e3 * one["verify_seconds"] / one["pairs"]
        print(f"| {one['pairs']:,} | {one['cases']:,} | {one['verify_seconds']:.1f} | {per_pair:.1f} |", end=" ")
        print(
            f"{one['finish_seconds']:.1f} | {one['before_mb']} | {one['verified_mb']} | {one['finished_mb']} |", end=""
        )
        print(f" {one['tables_mb']:.1f} | {one['examples_mb']:.1f} | {one['files_mb']:.1f} |")
    if len(found) > 1:
        first, last = found[0], found[-1]
        cases = last["cases"] - first["cases"]
        print(f"\nPeak memory, bytes per further case, from {first['pairs']:,} to {last['pairs']:,} pairs:", end=" ")
        grown = {name: (last[f"{name}_mb"] - first[f"{name}_mb"]) * 2**20 / cases for name in ("verified", "finished")}
        print(f"{grown['verified']:.0f} verified, {grown['finished']:.0f} written and judged.")


if __name__ == "__main__":
    main()
