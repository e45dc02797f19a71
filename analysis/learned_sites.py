"""Learned sites of every rank: what they score on trained networks, and on random ones.

    python -m analysis.learned_sites

It reads `experiments/learned-sites/results`, and writes the tables of `experiments/learned-sites/README.md`, between
`<!-- learned-sites:NAME -->` and `<!-- /learned-sites -->`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from iit_toolkit.analysis.report.markdown import markdown_table

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "learned-sites"
NETWORKS = {"iit": "trained by interchanges", "task": "trained on the labels", "random": "random"}
"""The networks, and what each of their tables is called."""
_TABLE = re.compile(r"(<!-- learned-sites:([\w-]+) -->\n).*?(<!-- /learned-sites -->)", re.DOTALL)
NONE = "No results yet: `python experiments/learned-sites/run.py` makes them."
_HEAD = (
    "rank",
    "directions",
    "directions, control",
    "IIA",
    "IIA, control",
    "effect R²",
    "effect R², control",
    "above all controls",
    "leak",
    "verdict",
)
Records = Sequence[dict[str, Any]]


def read(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Return the records of all seeds, in their order."""
    paths = sorted((folder / "results").glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def table(records: Records, network: str) -> str:
    """Return the table of a network: by rank, means over seeds with standard deviations, and the verdicts."""
    lines: list[list[str]] = []
    for rank in records[0]["settings"]["maps"]:
        own = [line for one in records for line in one["lines"] if (line["network"], line["rank"]) == (network, rank)]
        cells = [
            _cell([line[name] for line in own]) for name in ("iia", "control_iia", "effect_r2", "control_effect_r2")
        ]
        kept = [_range([number for line in own for number in line["directions"][one]]) for one in (0, 1)]
        judged = [label for line in own for label in line["variables"]]
        beyond = f"{judged.count('SUPPORTED')} of {len(judged)}"
        leaks = [line["leak"] for line in own if line["leak"] is not None]
        verdicts = Counter(line["label"] for line in own).most_common()
        said = ", ".join(f"{label} {count} of {len(own)}" for label, count in verdicts)
        lines.append([rank, *kept, *cells, beyond, _cell(leaks) if leaks else "n/a", said])
    return markdown_table(_HEAD, lines)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _cell(values: Sequence[float]) -> str:
    return f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def page(text: str, records: Records) -> str:
    """Return the page with its tables written anew."""
    return _TABLE.sub(lambda found: f"{found[1]}{table(records, found[2]) if records else NONE}\n{found[3]}", text)


def main() -> None:
    """Write the tables."""
    readme = FOLDER / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8"), read()), encoding="utf-8")


if __name__ == "__main__":
    main()
