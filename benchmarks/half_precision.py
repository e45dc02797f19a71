"""How far gradients in bfloat16 are from those in float32, on a trained teacher and real text.

    python -m benchmarks.half_precision config.yaml

The config is one of `iit-toolkit run` with an alignment, such as experiments/wikipedia-mlm/config.yaml. Its student, as
it is before training, takes one causal step per batch without dropout, in float32 and in every way to use bfloat16.
Prints the table and writes docs/half-precision.json. The last line, two batches in float32, gives the measure: what the
choice of the batch changes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from transformers.utils import logging

from iit_toolkit.config.loading import load_text_config
from iit_toolkit.distillation.from_settings import make_objective
from iit_toolkit.interchange import Interchange, draw_swap, other_rows
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.provenance import provenance

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "half-precision.json"
BATCHES, ROWS = 5, 8
WAYS: dict[str, tuple[bool, dict[str, str]]] = {
    "teacher": (False, {"teacher_dtype": "bfloat16"}),
    "losses": (False, {"loss_dtype": "bfloat16"}),
    "both models": (True, {}),
    "both models and losses": (True, {"loss_dtype": "bfloat16"}),
}
"""What is in bfloat16: whether the whole step is under autocast, and settings of the training."""


def main() -> None:
    """Compare the gradients, print the table and write it down."""
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    prepared = Prepared(load_text_config(sys.argv[1]))
    student = prepared.new_student().eval()
    name = next(name for name, arm in prepared.config.arms.items() if arm.alignment is not None)
    alignment = prepared.arm_alignment(name, student)
    assert alignment is not None
    settings = prepared.arm_training(name, Path("unused"))

    def gradient(batch: dict[str, Tensor], seed: int, autocast: bool = False, **options: str) -> Tensor:
        objective = make_objective(student, prepared.teacher, alignment, replace(settings, **options))
        generator = torch.Generator().manual_seed(seed)
        ordinary = ~batch["special_tokens_mask"]
        swap = draw_swap(alignment.positions, other_rows(ROWS, generator), ordinary, ordinary, generator)
        student.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            total = objective(batch, [Interchange(alignment.variables[0].name, swap)]).total
        total.backward()
        return torch.cat([one.grad.flatten() for one in student.parameters() if one.grad is not None])

    rows = prepared.train_rows
    batches = [
        prepared.collator([rows[index] for index in range(start, start + ROWS)])
        for start in range(0, BATCHES * ROWS, ROWS)
    ]
    exact = [gradient(batch, number) for number, batch in enumerate(batches)]
    found = {
        way: [
            distance(gradient(batch, number, autocast, **options), exact[number])
            for number, batch in enumerate(batches)
        ]
        for way, (autocast, options) in WAYS.items()
    }
    found["none, another batch"] = [distance(exact[number - 1], exact[number]) for number in range(BATCHES)]
    print("| in bfloat16 | distance of the gradient, relative | 1 - cosine |")
    print("|---|--:|--:|")
    for way, distances in found.items():
        relative, angle = (median(one[part] for one in distances) for part in (0, 1))
        print(f"| {way} | {relative:.1e} | {angle:.1e} |")
    document = {"provenance": provenance(), "batches": BATCHES, "rows": ROWS, "relative_and_angle": found}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def distance(found: Tensor, exact: Tensor) -> tuple[float, float]:
    """Length of the difference relative to the exact gradient's, and 1 - cosine."""
    found, exact = found.double(), exact.double()
    relative = (found - exact).norm() / exact.norm()
    return float(relative), float(1 - found @ exact / (found.norm() * exact.norm()))


if __name__ == "__main__":
    main()
