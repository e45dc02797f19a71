"""What targeted interchanges keep of a teacher's computation: measures of suites on minimal pairs, and their pages.

    python -m analysis.targeted targeted runs/targeted    measures the runs of a suite, and writes all anew; committed
                                                          measures of other arms and seeds stay
    python -m analysis.targeted                           writes tables and figures from the committed measures

A study is a folder of `experiments`, such as `targeted`, with its measures in `measures.json`. Its tables stand in its
own README.md and in docs/results.md, between `<!-- STUDY:TABLE -->` and `<!-- /STUDY -->`. Its figure is
`kept.svg`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.measures import Records, measured, merged
from analysis.targeted_arms import CAUSES, CLOSEST, ONE_FACTOR, OTHER_STUDENTS, TREATMENT
from iit_toolkit.analysis.report.figures.style import PALETTE, STYLE, Drawing, save
from iit_toolkit.analysis.report.markdown import markdown_table
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure, difference, pair
from iit_toolkit.runs.folder import write_json

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
SPLITS = {"words": "new words", "templates": "new words and templates", "texts": "new words and texts"}
_COMPARED = ("effect R²", "KL recovered", "effective IIA")
_BY_FAMILY = ("effect R²", "KL recovered")
_TABLE = re.compile(r"(<!-- ([\w/-]+):([\w-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
_RATIOS = {
    "effect R²": ("explained", "effect_size"),
    "KL recovered": ("recovered", "kl_ignored"),
    "effective IIA": ("effective", "changed"),
    "its floor": ("effective_floor", "changed"),
}
Chosen = Callable[[str, str], bool]


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
    """Return the arms, in the order in which they were measured."""
    return list(dict.fromkeys(record["arm"] for record in records))


def splits_of(records: Records) -> dict[str, str]:
    """Return what is held out in these records, with its title."""
    found = {name.split(", ")[1] for record in records for name in record["groups"]}
    return {split: title for split, title in SPLITS.items() if split in found}


def _of(records: Records, arm: str) -> Records:
    return sorted((one for one in records if one["arm"] == arm), key=lambda one: one["seed"])


def _spread(values: list[float | None], digits: int = 3) -> str:
    known = [one for one in values if one is not None]
    if not known:
        return "-"
    return f"{mean(known):.{digits}f}" + (f" ± {stdev(known):.{digits}f}" if len(known) > 1 else "")


def arms_table(records: Records) -> str:
    """Return every arm with its measures on both splits, mean and standard deviation over seeds."""
    sets, splits = list(records[0]["general"]), splits_of(records)
    head = ["arm", "seeds", "SUPPORTED", "steps", "TFLOP"]
    head += [f"{ratio}, {title}" for ratio in _RATIOS for title in splits.values()]
    head += sets
    lines: list[list[str]] = []
    for arm in arms_of(records):
        runs = _of(records, arm)
        supported = sum(one["verdict"]["label"] == "SUPPORTED" for one in runs)
        line = [arm, str(len(runs)), f"{supported} of {len(runs)}", f"{runs[0]['steps']}", f"{runs[0]['tflop']:.2f}"]
        line += [
            _spread([value(one, ratio, of_split(split)) for one in runs])
            for ratio in _RATIOS
            for split in splits_of(records)
        ]
        lines.append([*line, *(_spread([one["general"][name] for one in runs], _digits(name)) for name in sets)])
    return markdown_table(head, lines)


def short_table(records: Records) -> str:
    """Return every arm with what it keeps, in few columns."""
    head = ["arm", "SUPPORTED", *(f"effect R², {t}" for t in splits_of(records).values())]
    lines: list[list[str]] = []
    for arm in arms_of(records):
        runs = _of(records, arm)
        supported = sum(one["verdict"]["label"] == "SUPPORTED" for one in runs)
        spreads = [_spread([value(one, "effect R²", of_split(split)) for one in runs]) for split in splits_of(records)]
        lines.append([arm, f"{supported} of {len(runs)}", *spreads])
    counts = sorted({len(_of(records, arm)) for arm in arms_of(records)})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f"{markdown_table(head, lines)}\n\nMean ± standard deviation over {seeds} seeds."


def _shared_seeds(records: Records, treatment: str, rival: str) -> set[int]:
    return {one["seed"] for one in _of(records, treatment)} & {one["seed"] for one in _of(records, rival)}


def _paired(
    records: Records,
    treatment: str,
    rival: str,
    measure: StudyMeasure,
    of: Callable[[dict[str, Any]], float | None],
) -> str:
    seeds = _shared_seeds(records, treatment, rival)
    values = {arm: tuple(of(one) for one in _of(records, arm) if one["seed"] in seeds) for arm in (treatment, rival)}
    return difference(pair(Row(measure, values), treatment, rival))


def _kept(records: Records, treatment: str, rival: str, ratio: str, chosen: Chosen) -> str:
    return _paired(records, treatment, rival, StudyMeasure(ratio, True, 3), lambda one: value(one, ratio, chosen))


def _is_perplexity(name: str) -> bool:
    return name.startswith("perplexity")


def _digits(name: str) -> int:
    return 1 if _is_perplexity(name) else 3


def _compared(found: float, name: str) -> float:
    return float(np.log(found)) if _is_perplexity(name) else found


def _differences_head(records: Records) -> list[str]:
    ratios = [f"{ratio}, {title}" for ratio in _COMPARED for title in splits_of(records).values()]
    return ["seeds", *ratios, *(f"log {name}" if _is_perplexity(name) else name for name in records[0]["general"])]


def _differences(records: Records, treatment: str, rival: str) -> list[str]:
    """Return how many seeds two arms share, and the one minus the other in what a student keeps and in general."""
    cells = [str(len(_shared_seeds(records, treatment, rival)))]
    for ratio in _COMPARED:
        for chosen in map(of_split, splits_of(records)):
            cells.append(_kept(records, treatment, rival, ratio, chosen))
    for name in records[0]["general"]:
        general = StudyMeasure(name, not _is_perplexity(name), 3)
        cells.append(_paired(records, treatment, rival, general, lambda one, n=name: _compared(one["general"][n], n)))
    return cells


def rivals_table(records: Records, treatment: str = TREATMENT) -> str:
    """Return the treatment minus every rival, paired by seed, with 95% t intervals."""
    rivals = (arm for arm in arms_of(records) if arm != treatment)
    lines = [[arm, *_differences(records, treatment, arm)] for arm in rivals]
    return markdown_table([f"{treatment} minus", *_differences_head(records)], lines)


def causes_table(records: Records) -> str:
    """Return pairs of arms that differ in one factor, the one minus the other."""
    lines = [
        [cause, f"{one} minus {other}", *_differences(records, one, other)]
        for cause, one, other in CAUSES
        if {one, other} <= set(arms_of(records))
    ]
    return markdown_table(["factor", "difference", *_differences_head(records)], lines)


def families_table(records: Records) -> str:
    """Return effect R² by family and split."""
    families = sorted({name.split(", ")[0] for name in records[0]["groups"]})
    head = ["arm", *(f"{family}, {split}" for family in families for split in splits_of(records))]
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
                for split in splits_of(records)
            ),
        ]
        for arm in arms_of(records)
    ]
    return markdown_table(head, lines)


def family_rivals_table(records: Records) -> str:
    """Return the treatment minus its closest rivals in what students keep, by family and split."""
    groups = sorted(records[0]["groups"], key=lambda name: (name.split(", ")[0], name.split(", ")[1] == "templates"))
    lines: list[list[str]] = []
    for arm in (arm for arm in arms_of(records) if arm in CLOSEST):
        for name in groups:
            family, split = name.split(", ")
            kept = [_kept(records, TREATMENT, arm, ratio, _group(name)) for ratio in _BY_FAMILY]
            lines.append([arm, family, SPLITS[split], *kept])
    return markdown_table(["causal minus", "family", "held out", *_BY_FAMILY], lines)


def _group(name: str) -> Chosen:
    return lambda family, split: f"{family}, {split}" == name


def draw(records: Records) -> Drawing:
    """Draw every run's effect R² by arm, new words beside new templates."""
    arms, splits = arms_of(records), splits_of(records)
    rows = [
        (arm, int(one["seed"]), split, value(one, "effect R²", of_split(split)))
        for arm in arms
        for one in _of(records, arm)
        for split in splits_of(records)
    ]
    figure = Figure(figsize=(8, 0.45 * len(arms) + 1.3), layout="constrained")
    for place, (split, title) in enumerate(splits.items()):
        axes = figure.add_subplot(1, len(splits), place + 1)
        for line, arm in enumerate(arms):
            found = [row[3] or 0.0 for row in rows if (row[0], row[2]) == (arm, split)]
            colour = PALETTE[0] if arm == TREATMENT else "0.45"
            axes.plot(found, [line] * len(found), "o", ms=4.5, color=colour, alpha=0.7)
            axes.plot([mean(found)], [line], "|", ms=16, mew=2.2, color=colour)
        axes.set_yticks(range(len(arms)), labels=arms if not place else [""] * len(arms))
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_xlabel("effect R²")
        axes.set_title(title)
    return Drawing("kept", figure, "", "", pd.DataFrame(rows, columns=["arm", "seed", "split", "effect_r2"]))


def scale(records: Records) -> str:
    """Say what the numbers are."""
    hardware = ", ".join(sorted({record["hardware"] for record in records}))
    return (
        "Mean ± standard deviation over seeds. A seed draws the order of the rows, the verified pairs and the masks of "
        f"perplexity. Training took {sum(record['cpu_seconds'] for record in records) / 3600:.1f} CPU hours on "
        f"{hardware}. Before training, the student of `{TREATMENT}`, a control of every verdict, has an effect R² of "
        f"{round(mean(map(before_training, _of(records, TREATMENT))), 3) + 0.0:.3f} over all held-out pairs."
    )


def before_training(record: Mapping[str, Any]) -> float:
    """Return the effect R² of the untrained student that a run was held against, over all families and splits."""
    verdict = record["verdict"]
    return verdict["score"]["value"] - verdict["leads"]["untrained"]["value"]


def tasks_table(records: Records) -> str:
    """Return the scores of fine-tuned students, and the treatment's lead over the arm in the mean of all tasks."""
    scored = [one for one in records if "tasks" in one]
    names = list(scored[0]["tasks"])
    lines: list[list[str]] = []
    for arm in arms_of(scored):
        runs = _of(scored, arm)
        cells = [_spread([one["tasks"][name] for one in runs], 1) for name in names]
        overall = _spread([_mean_score(one) for one in runs], 1)
        lead = "" if arm == TREATMENT else _paired(scored, TREATMENT, arm, StudyMeasure("mean", True, 1), _mean_score)
        lines.append([arm, str(len(runs)), *cells, overall, lead])
    return markdown_table(["arm", "seeds", *names, "mean", f"{TREATMENT} minus the arm, mean"], lines)


def _mean_score(record: dict[str, Any]) -> float:
    return mean(record["tasks"].values())


def _named(records: Records, prefix: str) -> Records:
    return [one for one in records if one["arm"].startswith(prefix)]


def _without(records: Records, prefixes: tuple[str, ...]) -> Records:
    return [one for one in records if not one["arm"].startswith(prefixes)]


TABLES: dict[str, Callable[[Records], str]] = {
    "arms": lambda records: f"{arms_table(records)}\n\n{scale(records)}",
    "short": lambda records: short_table(_without(records, ONE_FACTOR)),
    "rivals": lambda records: rivals_table(_without(records, OTHER_STUDENTS + ONE_FACTOR)),
    "causes": causes_table,
    "half-rivals": lambda records: rivals_table(_named(records, "half-"), "half-causal"),
    "gpt2-rivals": lambda records: rivals_table(_named(records, "gpt2-"), "gpt2-causal"),
    "families": families_table,
    "tasks": tasks_table,
    "family-rivals": family_rivals_table,
}


def page(text: str, studies: Mapping[str, Records]) -> str:
    """Return a page with the tables of studies written anew."""

    def written(found: re.Match[str]) -> str:
        study, table = found[2], found[3]
        return f"{found[1]}{TABLES[table](studies[study])}\n{found[4]}" if study in studies else found[0]

    return _TABLE.sub(written, text)


def stored_studies() -> dict[str, Records]:
    """Return the committed measures of every study."""
    return {
        path.parent.relative_to(EXPERIMENTS).as_posix(): json.loads(path.read_text(encoding="utf-8"))["runs"]
        for path in sorted(EXPERIMENTS.glob("**/measures.json"))
    }


def documents(studies: Iterable[str]) -> list[Path]:
    """Return the documents that hold tables."""
    own = [EXPERIMENTS / study / "README.md" for study in studies]
    return [*own, ROOT / "docs" / "results.md"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", help="the study whose runs are measured, such as targeted")
    parser.add_argument("suite", nargs="?", type=Path, help="the folder of its runs")
    given = parser.parse_args()
    if (given.study is None) != (given.suite is None):
        parser.error("give a study and the folder of its runs, or neither")
    return given


def main() -> None:
    """Measure if asked, and write tables and figures."""
    given = _arguments()
    if given.study is not None:
        config = (EXPERIMENTS / given.study / "config.yaml").read_text(encoding="utf-8")
        arms = re.findall(r"^  ([\w-]+): \{", config, re.MULTILINE)
        path, stored = EXPERIMENTS / given.study / "measures.json", stored_studies().get(given.study, [])
        write_json(path, {"runs": merged(measured(given.suite, arms), stored, arms)})
    studies = stored_studies()
    for path in documents(studies):
        path.write_text(page(path.read_text(encoding="utf-8"), studies), encoding="utf-8")
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        for study, records in studies.items():
            save(EXPERIMENTS / study, draw(records))


if __name__ == "__main__":
    main()
