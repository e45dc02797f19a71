"""Peak memory of the vocabulary losses against the number of tokens and the vocabulary.

    python -m benchmarks.loss_memory

Prints the table and writes docs/loss-memory.json. Every cell is a process of its own. It takes both losses of that
many tokens, with their gradients. What counts is how far its peak resident memory lies above what it held before,
inputs and weights included. Beside it stand the logits that one model would hold in float32, were they held.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.memory import high_water
from iit_toolkit.distillation.vocabulary_loss import Head, vocabulary_losses
from iit_toolkit.runs.provenance import provenance

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "loss-memory.json"
TOKENS = (1_024, 4_096, 16_384)
WORDS = (2_000, 30_522, 151_936)
WIDTH = 256


def main() -> None:
    """Measure every cell, print the table and write it down."""
    if len(sys.argv) == 3:
        print(json.dumps(grown(int(sys.argv[1]), int(sys.argv[2]))))
        return
    cells = {f"{tokens} x {words}": cell(tokens, words) for tokens in TOKENS for words in WORDS}
    print("| tokens | " + " | ".join(f"{words:,} words" for words in WORDS) + " |")
    print("|--:|" + "--:|" * len(WORDS))
    for tokens in TOKENS:
        found = [f"{cells[f'{tokens} x {words}']:,.0f} ({logits(tokens, words):,.0f})" for words in WORDS]
        print(f"| {tokens:,} | " + " | ".join(found) + " |")
    corners = {(tokens, words): cells[f"{tokens} x {words}"] for tokens in TOKENS[::2] for words in WORDS[::2]}
    (low, high), (few, many) = TOKENS[::2], WORDS[::2]
    product = corners[high, many] - corners[high, few] - corners[low, many] + corners[low, few]
    at_once = logits(high - low, many - few)
    print("\nMB beyond what was held before; in brackets one model's logits in float32.")
    print(f"What grows with tokens and words, from the corners: {product:,.0f} MB; with logits {at_once:,.0f} MB each.")
    document = {"provenance": provenance(), "width": WIDTH, "mb": cells, "grows_with_both_mb": product}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cell(tokens: int, words: int) -> float:
    """MB that one call adds, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loss_memory", str(tokens), str(words)]
    return float(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def grown(tokens: int, words: int) -> float:
    """MB by which the peak of this process grows while it takes the losses and their gradients."""
    torch.set_num_threads(1)
    student, teacher = (Head(torch.randn(tokens, WIDTH), torch.randn(words, WIDTH) / 16) for _ in range(2))
    leaves = [student.features.requires_grad_(), student.weight.requires_grad_()]
    labels = torch.randint(words, (tokens,))
    labels[torch.rand(tokens) >= 0.15] = -100
    before = high_water()
    vocabulary_losses(student, teacher, labels).total.backward()
    assert all(leaf.grad is not None for leaf in leaves)
    return high_water() - before


def logits(tokens: int, words: int) -> float:
    """MB of the logits of one model in float32."""
    return tokens * words * 4 / 2**20


if __name__ == "__main__":
    main()
