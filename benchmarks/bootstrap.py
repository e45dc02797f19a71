"""What 10,000 resamples cost, from cases to intervals.

Run from the repository root: `python -m benchmarks.bootstrap`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time

import numpy as np

from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import Floats, Ints, sum_by_cluster

CASES, RESAMPLES, REPEATS = 100_000, 10_000, 3
DESIGNS = {
    "512 pairs, each base with a source of its own": (512, 512),
    "5,000 pairs, each base with a source of its own": (5_000, 5_000),
    "100,000 pairs, each base with a source of its own": (100_000, 100_000),
    "100,000 pairs, 1,000 bases x 100 sources": (1_000, 100),
}


def main() -> None:
    """Time every design and print the table."""
    print(f"{CASES:,} cases, {RESAMPLES:,} resamples, one core, best of {REPEATS}; CPU seconds\n")
    print("| cases in | share and difference of two students | all 46 quantities of three students |")
    print("|---|--:|--:|")
    for name, (bases, sources) in DESIGNS.items():
        times = [
            min(measure(bases, sources, students, quantities) for _ in range(REPEATS))
            for students, quantities in ((2, 1), (3, 45))
        ]
        print(f"| {name} | " + " | ".join(f"{one:.2f}" for one in times) + " |")


def measure(bases: int, sources: int, students: int, quantities: int) -> float:
    """CPU seconds from cases to intervals."""
    base, source = cases(bases, sources)
    generator = np.random.default_rng(0)
    columns = {"cases": np.ones(CASES)}
    columns |= {
        f"{student}/{quantity}": generator.random(CASES) < 0.3
        for student in range(students)
        for quantity in range(quantities)
    }
    start = time.process_time()
    pair = base * sources + source
    pairs, codes = np.unique(pair, return_inverse=True)
    sums: dict[str, Floats] = sum_by_cluster(codes, columns, len(pairs))
    resampled = Resampled(sums, base=pairs // sources, source=bases + pairs % sources, resamples=RESAMPLES, seed=0)
    for student in range(students):
        resampled.share(f"{student}/0", "cases")
        resampled.difference((f"{student}/0", "cases"), ("1/0", "cases"))
    return time.process_time() - start


def cases(bases: int, sources: int) -> tuple[Ints, Ints]:
    """Return base and source of every case."""
    case = np.arange(CASES)
    if bases == sources:
        return case % bases, (case + 1) % sources
    return case // sources, case % sources


if __name__ == "__main__":
    main()
