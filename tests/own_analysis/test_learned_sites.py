"""The tables of learned sites, and the committed results that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from analysis import learned_sites


def record(*scores: tuple[str, float], leak: float | None = 0.25) -> dict[str, Any]:
    lines = [
        {"network": "iit", "rank": str(rank), "label": label, "variables": [label, "SUPPORTED"], "leak": leak,
         "iia": score, "control_iia": 0.5, "effect_r2": score - 0.1, "control_effect_r2": 0.0,
         "directions": [[rank, rank + int(10 * score)], [1, 1]]}
        for rank, (label, score) in enumerate(scores, 1)
    ]  # fmt: skip
    return {"settings": {"maps": {line["rank"]: [] for line in lines}}, "lines": lines}


def test_a_table_has_means_and_deviations_and_counts_verdicts() -> None:
    records = [record(("SUPPORTED", 1.0), ("INCONCLUSIVE", 0.5)), record(("NOT SUPPORTED", 0.8), ("INCONCLUSIVE", 0.5))]
    _, _, first, second = learned_sites.table(records, "iit").splitlines()
    assert first.startswith(
        "| 1 | 1 to 11 | 1 | 0.900 ± 0.141 | 0.500 ± 0.000 | 0.800 ± 0.141 | 0.000 ± 0.000 | 3 of 4 |"
    )
    assert first.endswith("| 0.250 ± 0.000 | SUPPORTED 1 of 2, NOT SUPPORTED 1 of 2 |")
    assert second.endswith("| 2 of 4 | 0.250 ± 0.000 | INCONCLUSIVE 2 of 2 |")
    assert "| n/a | SUPPORTED 1 of 1 |" in learned_sites.table([record(("SUPPORTED", 1.0), leak=None)], "iit")


def test_the_page_is_that_of_the_committed_results(gallery_module: Callable[[str], ModuleType]) -> None:
    readme, records = (learned_sites.FOLDER / "README.md").read_text(encoding="utf-8"), learned_sites.read()
    assert learned_sites.page(readme, records) == readme
    assert len({str(one["settings"]) for one in records}) <= 1
    training = gallery_module("equality").TRAINING
    for one in records:
        assert training.items() <= one["settings"]["network"].items()  # those of the gallery, as they are now
        found = [(line["rank"], line["network"]) for line in one["lines"]]
        assert found == [(rank, name) for rank in one["settings"]["maps"] for name in learned_sites.NETWORKS]
