"""How exactly the engine agrees with its plain twin: every architecture, every kind of site, both precisions.

Run from the repository root: `python -m benchmarks.exactness`.
Writes `docs/equivalence.md` and `docs/equivalence.json`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tests.cases import SITE_KINDS, both
from tests.families import FAMILIES, LAYERS, make_model
from tests.twin import difference, gradient_difference

DOCS = Path(__file__).resolve().parents[1] / "docs"
PACKAGES = ("torch", "transformers", "pyvene")
PRECISIONS = (torch.float32, torch.float64)

HEADER = """# The engine equals a plain implementation

The engine saves computation in two ways. It takes in-batch sources from the base run. It restarts counterfactual runs
after the last block that no swap reaches. The plain twin (`tests/twin.py`) does neither. It runs source, base and
counterfactual from the input. It uses hand-written hooks and a Python loop over rows and positions, and no pyvene.

Models are tiny and random ({layers} blocks, large weights). They run in training mode, without dropout. Batches are
padded, spans differ in length and place from row to row, and gradients flow through all runs.

* *Answers*: the largest difference in any logit or last hidden state, relative to the largest logit.
* *Gradients*: the largest difference in any parameter's gradient, relative to that parameter's largest gradient.

Llama, Qwen3 and ModernBERT compute norms or rotary embeddings in float32 even if the model is in float64.

{cases} cases; {versions}; CPU. `python -m benchmarks.exactness` writes this page. `equivalence.json` holds every case.
`tests/invariants/test_engine_twin.py` checks all of them.
"""


def main() -> None:
    """Run every case, print the tables, and write them to `docs/`."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = [measure(family, kind, dtype) for family in FAMILIES for kind in SITE_KINDS for dtype in PRECISIONS]
    versions = {package: version(package).split("+")[0] for package in PACKAGES}
    names = {family: type(make_model(family)).__name__ for family in FAMILIES}
    text = HEADER.format(
        layers=LAYERS,
        cases=len(cases),
        versions=", ".join(f"{name} {number}" for name, number in versions.items()),
    )
    text += table("architecture", names, cases, lambda case: case["architecture"])
    text += table("kind of site", {kind: kind for kind in SITE_KINDS}, cases, lambda case: case["site"])
    (DOCS / "equivalence.md").write_text(text, encoding="utf-8")
    content = {"versions": versions, "cases": cases}
    (DOCS / "equivalence.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)


def measure(family: str, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """Compare the engine with its twin in one case."""
    ours, our_gradients, plain, plain_gradients = both(family, kind, dtype)
    return {
        "architecture": family,
        "site": kind,
        "precision": str(dtype).removeprefix("torch."),
        "answers": float(f"{difference(ours, plain):.1e}"),
        "gradients": float(f"{gradient_difference(our_gradients, plain_gradients):.1e}"),
    }


def table(title: str, rows: dict[str, str], cases: list[dict[str, Any]], key: Callable[[Any], str]) -> str:
    """Return a Markdown table of the worst case of each row."""
    lines = [
        f"\n| {title} | answers, float32 | answers, float64 | gradients, float32 | gradients, float64 |",
        "|---|--:|--:|--:|--:|",
    ]
    for row, label in rows.items():
        worst = [
            max(case[what] for case in cases if key(case) == row and case["precision"] == precision)
            for what in ("answers", "gradients")
            for precision in ("float32", "float64")
        ]
        lines.append(f"| {label} | " + " | ".join("0" if value == 0 else f"{value:.0e}" for value in worst) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
