"""Which arms of the targeted studies are compared with which, by their names."""

from __future__ import annotations

TREATMENT = "causal"
OTHER_STUDENTS = ("half-", "gpt2-")
"""How arms are named whose students have another width or family; they are compared with each other."""
CLOSEST = ("plain-compute", "plain", "aligned-mse", "aligned-mse-10", "spans")
CAUSES = (
    ("the swapped positions: words that differ, not random spans", "causal", "spans"),
    ("the swapped block: 2, not the middle one", "spans", "spans-block-3"),
    ("the swapped part: a whole vector, not half of its neurons", "spans", "spans-neurons"),
    ("the swapped part: a whole vector, not what half of the heads write", "spans", "spans-heads"),
    ("the compared tokens: all, not the answers", "spans-all-tokens", "spans"),
    ("their weight: by effect, not equal", "spans-by-effect", "spans-all-tokens"),
    ("the compared tokens, of words: all, not the answers", "words-all-tokens", "causal"),
    ("their weight, of words: by effect, not equal", "words-by-effect", "words-all-tokens"),
    ("the steps: twice as many", "spans-long", "spans"),
    ("the steps of plain distillation: twice as many", "plain-long", "plain-compute"),
    ("interchanges at all: spans, not plain distillation", "spans", "plain-compute"),
    ("interchanges at all, with equal steps: spans", "spans", "plain"),
    ("interchanges at all, at the middle block", "spans-block-3", "plain-compute"),
    ("interchanges at all, of half of the neurons", "spans-neurons", "plain-compute"),
    ("interchanges at all, of what half of the heads write", "spans-heads", "plain-compute"),
    ("interchanges at all, with all tokens compared", "spans-all-tokens", "plain-compute"),
    ("interchanges at all, with twice the steps", "spans-long", "plain-long"),
    ("the steps of interchanges of words: twice as many", "causal-long", "causal"),
    ("the steps of aligned MSE: twice as many", "aligned-mse-10-long", "aligned-mse-10"),
    ("interchanges of words, not plain distillation, with twice the steps", "causal-long", "plain-long"),
    ("interchanges of words, not aligned MSE, with twice the steps", "causal-long", "aligned-mse-10-long"),
    ("interchanges of words with twice the steps, not a shorter aligned MSE", "causal-long", "aligned-mse-10"),
    ("aligned MSE beside interchanges of words, with twice the steps", "causal-mse-10-long", "causal-long"),
    ("interchanges of words beside aligned MSE, with twice the steps", "causal-mse-10-long", "aligned-mse-10-long"),
    ("both losses, not plain distillation, with twice the steps", "causal-mse-10-long", "plain-long"),
    ("both losses with twice the steps, not a shorter aligned MSE", "causal-mse-10-long", "aligned-mse-10"),
    ("the map of interchanges of words, not a wrong one, with twice the steps", "causal-long", "wrong-map-long"),
    ("interchanges of spans, not aligned MSE, with twice the steps", "spans-long", "aligned-mse-10-long"),
    ("interchanges of spans, not aligned MSE", "spans", "aligned-mse-10"),
    ("the swapped position: the words that differ, not the third token", "causal", "wrong-position"),
    ("interchanges of the third token, not plain steps", "wrong-position", "plain"),
)
"""What may explain what an arm keeps, above all that random spans bring nothing, and two arms that differ in it."""
ONE_FACTOR = (
    "spans-",
    "words-",
    "plain-long",
    "causal-long",
    "aligned-mse-10-long",
    "causal-mse-10-long",
    "wrong-map-long",
)
"""How arms are named that are compared for one factor; they stand in the tables `causes` and `arms`."""
