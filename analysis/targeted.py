"""What targeted interchanges keep of a teacher's computation: measures of a suite on minimal pairs, and their page.

    python -m analysis.targeted runs/targeted    measures the runs of a suite, and writes all anew
    python -m analysis.targeted                  writes tables and figure from the committed measures

Measures lie in `experiments/targeted/measures.json`; tables stand in `experiments/targeted/README.md`, README.md and
docs/results.md, between `<!-- targeted:NAME -->` and `<!-- /targeted -->`. The figure is
`experiments/targeted/kept.svg`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, cast

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.examples import read_examples
from iit_toolkit.analysis.report.figures.style import PALETTE, STYLE, Drawing, save
from iit_toolkit.analysis.report.markdown import markdown_table
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.analysis.statistics.quantities import counted, graded
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure, difference, pair
from iit_toolkit.runs.folder import RunFolder, write_json

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "targeted"
SPLITS = {"words": "new words", "templates": "new words and templates"}
TREATMENT = "causal"
CLOSEST = ("plain-compute", "aligned-mse")
_TABLE = re.compile(r"(<!-- targeted:([\w-]+) -->\n).*?(<!-- /targeted -->)", re.DOTALL)
_SUMS = ("cases", "changed", "effective", "effective_floor", "effect_size", "explained", "kl_ignored", "recovered")
_RATIOS = {
    "effect R²": ("explained", "effect_size"),
    "KL recovered": ("recovered", "kl_ignored"),
    "effective IIA": ("effective", "changed"),
    "its floor": ("effective_floor", "changed"),
}
Records = list[dict[str, Any]]
Chosen = Callable[[str, str], bool]


def measured(suite: Path) -> Records:
    """Measure every finished run of a suite: one arm and seed each, with the sums of every family and split."""
    homes = sorted(home for home in suite.glob("*/seed-*") if (home / "report.html").is_file())
    return [_record(RunFolder(home), home.parent.name, int(home.name.removeprefix("seed-"))) for home in homes]


def _record(run: RunFolder, arm: str, seed: int) -> dict[str, Any]:
    results, outcomes, examples = run.read_results(), read_outcomes(run.outcomes), read_examples(run.examples)
    assert examples is not None
    trained, verdict = results["arms"][arm], results["verdict"]
    [variable] = verdict["variables"].values()
    kinds: dict[int, str] = dict(zip(examples["base"].tolist(), examples["family"].tolist(), strict=True))
    cases = cast(pd.DataFrame, outcomes[outcomes["student"] == arm])
    of_case = np.array([kinds[base] for base in cases["base"].tolist()])
    return {
        "arm": arm,
        "seed": seed,
        "verdict": {
            "label": verdict["label"],
            "score": _interval(variable["score"]),
            "leads": {
                one["name"]: {**_interval(one["difference"]), "passed": one["passed"]}
                for one in variable["controls"]
                if one["applies"]
            },
        },
        "steps": trained["steps"],
        "tflop": trained["cost"]["flops"] * trained["micro_batches_run"] / 1e12,
        "cpu_seconds": trained["cpu_seconds"],
        "perplexity": {name: found["perplexity"][arm]["value"] for name, found in results["evaluation"].items()},
        "hardware": trained["provenance"]["hardware"]["cpu"],
        "groups": {name: _sums(cast(pd.DataFrame, cases[of_case == name])) for name in sorted(set(kinds.values()))},
    }


def _interval(estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: estimate[name] for name in ("value", "low", "high")}


def _sums(cases: pd.DataFrame) -> dict[str, float]:
    columns = {name: cases[name].to_numpy() for name in cases.columns}
    quantities = {**counted(columns), **graded(columns)}
    return {name: float(quantities[f"{name}/outside"].sum()) for name in _SUMS}


def value(record: Mapping[str, Any], ratio: str, chosen: Chosen) -> float | None:
    """Return a measure of one run, over the chosen families and splits."""
    over, under = (
        sum(sums[part] for name, sums in record["groups"].items() if chosen(*name.split(", ")))
        for part in _RATIOS[ratio]
    )
    return over / under if under else None


def of_split(split: str) -> Chosen:
    """Choose all families of one split."""
    return lambda _, found: found == split


def arms_of(records: Records) -> list[str]:
    """Return the arms, in the order of the suite's file."""
    named = re.findall(r"^  ([\w-]+): \{", (FOLDER / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    found = {record["arm"] for record in records}
    return [arm for arm in named if arm in found]


def _of(records: Records, arm: str) -> Records:
    return sorted((one for one in records if one["arm"] == arm), key=lambda one: one["seed"])


def _spread(values: list[float | None], digits: int = 3) -> str:
    known = [one for one in values if one is not None]
    if not known:
        return "-"
    return f"{mean(known):.{digits}f}" + (f" ± {stdev(known):.{digits}f}" if len(known) > 1 else "")


def arms_table(records: Records) -> str:
    """Return every arm with its measures on both splits, mean and standard deviation over seeds."""
    sets = list(records[0]["perplexity"])
    head = ["arm", "seeds", "SUPPORTED", "steps", "TFLOP"]
    head += [f"{ratio}, {title}" for ratio in _RATIOS for title in SPLITS.values()]
    head += [f"perplexity, {name}" for name in sets]
    lines: list[list[str]] = []
    for arm in arms_of(records):
        runs = _of(records, arm)
        supported = sum(one["verdict"]["label"] == "SUPPORTED" for one in runs)
        line = [arm, str(len(runs)), f"{supported} of {len(runs)}", f"{runs[0]['steps']}", f"{runs[0]['tflop']:.2f}"]
        line += [_spread([value(one, ratio, of_split(split)) for one in runs]) for ratio in _RATIOS for split in SPLITS]
        lines.append([*line, *(_spread([one["perplexity"][name] for one in runs], 1) for name in sets)])
    return markdown_table(head, lines)


def short_table(records: Records) -> str:
    """Return every arm with what it keeps, in few columns."""
    head = ["arm", "SUPPORTED", *(f"effect R², {t}" for t in SPLITS.values())]
    lines: list[list[str]] = []
    for arm in arms_of(records):
        runs = _of(records, arm)
        supported = sum(one["verdict"]["label"] == "SUPPORTED" for one in runs)
        spreads = [_spread([value(one, "effect R²", of_split(split)) for one in runs]) for split in SPLITS]
        lines.append([arm, f"{supported} of {len(runs)}", *spreads])
    return f"{markdown_table(head, lines)}\n\nMean ± standard deviation over {len(_of(records, TREATMENT))} seeds."


def _paired(records: Records, rival: str, measure: StudyMeasure, of: Callable[[dict[str, Any]], float | None]) -> str:
    seeds = sorted({one["seed"] for one in _of(records, TREATMENT)} & {one["seed"] for one in _of(records, rival)})
    values = {arm: tuple(of(one) for one in _of(records, arm) if one["seed"] in seeds) for arm in (TREATMENT, rival)}
    return difference(pair(Row(measure, values), TREATMENT, rival))


def rivals_table(records: Records) -> str:
    """Return the treatment minus every rival, paired by seed, with 95% t intervals."""
    sets = list(records[0]["perplexity"])
    head = ["causal minus", "seeds", *(f"{r}, {t}" for r in ("effect R²", "effective IIA") for t in SPLITS.values())]
    lines: list[list[str]] = []
    for arm in arms_of(records):
        if arm == TREATMENT:
            continue
        line = [arm, str(len({one["seed"] for one in _of(records, arm)}))]
        for ratio in ("effect R²", "effective IIA"):
            for split in SPLITS:
                chosen = of_split(split)
                line.append(
                    _paired(
                        records,
                        arm,
                        StudyMeasure(ratio, True, 3),
                        lambda one, ratio=ratio, chosen=chosen: value(one, ratio, chosen),
                    )
                )
        line += [
            _paired(
                records,
                arm,
                StudyMeasure("log perplexity", False, 3),
                lambda one, name=name: float(np.log(one["perplexity"][name])),
            )
            for name in sets
        ]
        lines.append(line)
    return markdown_table([*head, *(f"log perplexity, {name}" for name in sets)], lines)


def families_table(records: Records) -> str:
    """Return effect R² by family and split."""
    families = sorted({name.split(", ")[0] for name in records[0]["groups"]})
    head = ["arm", *(f"{family}, {split}" for family in families for split in SPLITS)]
    lines = [
        [
            arm,
            *(
                _spread(
                    [
                        value(one, "effect R²", lambda f, s, family=family, split=split: (f, s) == (family, split))
                        for one in _of(records, arm)
                    ]
                )
                for family in families
                for split in SPLITS
            ),
        ]
        for arm in arms_of(records)
    ]
    return markdown_table(head, lines)


def family_rivals_table(records: Records) -> str:
    """Return the treatment minus its closest rivals in effect R², by family and split."""
    groups = sorted(records[0]["groups"], key=lambda name: (name.split(", ")[0], name.split(", ")[1] == "templates"))
    measure, lines = StudyMeasure("effect R²", True, 3), list[list[str]]()
    for arm in (arm for arm in arms_of(records) if arm in CLOSEST):
        lines += [
            [
                arm,
                name.split(", ")[0],
                SPLITS[name.split(", ")[1]],
                _paired(records, arm, measure, lambda one, name=name: value(one, "effect R²", _group(name))),
            ]
            for name in groups
        ]
    return markdown_table(["causal minus", "family", "held out", "effect R²"], lines)


def _group(name: str) -> Chosen:
    return lambda family, split: f"{family}, {split}" == name


def draw(records: Records) -> Drawing:
    """Draw every run's effect R² by arm, new words beside new templates."""
    arms = arms_of(records)
    rows = [
        (arm, int(one["seed"]), split, value(one, "effect R²", of_split(split)))
        for arm in arms
        for one in _of(records, arm)
        for split in SPLITS
    ]
    figure = Figure(figsize=(8, 0.45 * len(arms) + 1.3), layout="constrained")
    for place, (split, title) in enumerate(SPLITS.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        for line, arm in enumerate(arms):
            found = [row[3] or 0.0 for row in rows if (row[0], row[2]) == (arm, split)]
            colour = PALETTE[0] if arm == TREATMENT else "0.45"
            axes.plot(found, [line] * len(found), "o", ms=4.5, color=colour, alpha=0.7)
            axes.plot([mean(found)], [line], "|", ms=16, mew=2.2, color=colour)
        axes.set_yticks(range(len(arms)), labels=arms if not place else [""] * len(arms))
        axes.invert_yaxis()
        axes.set_xlabel("effect R²")
        axes.set_title(title)
    return Drawing("kept", figure, "", "", pd.DataFrame(rows, columns=["arm", "seed", "split", "effect_r2"]))


def scale(records: Records) -> str:
    """Say what the numbers are."""
    hardware = ", ".join(sorted({record["hardware"] for record in records}))
    return (
        "Mean ± standard deviation over seeds. A seed draws the order of the rows, the verified pairs and the masks of "
        f"perplexity. Training took {sum(record['cpu_seconds'] for record in records) / 3600:.1f} CPU hours on "
        f"{hardware}."
    )


TABLES: dict[str, Callable[[Records], str]] = {
    "arms": lambda records: f"{arms_table(records)}\n\n{scale(records)}",
    "short": short_table,
    "rivals": rivals_table,
    "families": families_table,
    "family-rivals": family_rivals_table,
}


def page(text: str, records: Records) -> str:
    """Return a page with its tables written anew."""

    def written(found: re.Match[str]) -> str:
        return f"{found[1]}{TABLES[found[2]](records)}\n{found[3]}"

    return _TABLE.sub(written, text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", type=Path, help="the folder of a suite, to measure its runs")
    return parser.parse_args()


def documents() -> Iterator[Path]:
    """Yield the documents that hold tables."""
    root = FOLDER.parents[1]
    yield from (FOLDER / "README.md", root / "README.md", root / "docs" / "results.md")


def main() -> None:
    """Measure if asked, and write tables and figure."""
    given, stored = _arguments(), FOLDER / "measures.json"
    if given.suite is not None:
        write_json(stored, {"runs": measured(given.suite)})
    records: Records = json.loads(stored.read_text(encoding="utf-8"))["runs"]
    for path in documents():
        path.write_text(page(path.read_text(encoding="utf-8"), records), encoding="utf-8")
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        save(FOLDER, draw(records))


if __name__ == "__main__":
    main()
