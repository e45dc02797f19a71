"""The neurons in the guide are those of the committed trace."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_neurons_is_that_of_the_committed_trace() -> None:
    found = json.loads((ROOT / "experiments" / "traces" / "minilm-neurons.json").read_text())["neurons"]
    guide = (ROOT / "docs" / "guide" / "trace.md").read_text(encoding="utf-8")

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    rows = [f"| {one['neurons']} | {share(one['chosen'])} | {share(one['random'])} |" for one in found["shares"]]
    assert "\n".join(rows) in guide
    for neuron in found["order"][:2]:
        assert f"neurons: [{neuron}, {neuron + 1}]" in guide
