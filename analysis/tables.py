"""Writes the result tables of the documents from the committed result files.

    python -m analysis.tables            writes the tables anew
    python -m analysis.tables --check    fails if a table is not what its result file gives

The documents are README.md, docs/*.md and experiments/*/README.md. A table is between `<!-- KIND:NAME -->` and
`<!-- /KIND -->`. Its files are in `experiments/NAME`. Kinds:

* `results`: all of `results.json`.
* `repeated`: that run beside an earlier one, `results-earlier.json`.
* `minimal-pairs`: the students verified one by one on pairs, `minimal-pairs/ARM.json`.
* `suite`: the arms and the teacher of the runs in `results/`.
* `arms`: a few of these arms and measures, in words.
* `claims`: the paper's claims tested on these runs.
* `sizes`: a plain and a causal arm on numbers of examples over seeds, `results/SIZE-SEED.json`, with the scores of
  their teacher, `teacher.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from analysis.paper_claims import claims_table
from iit_toolkit.analysis.report.markdown import markdown_table
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.studies.comparison import StudyComparison
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure, difference, pair
from iit_toolkit.analysis.studies.text import headline, scale, spread
from iit_toolkit.pipeline.suite.report import compared

ROOT = Path(__file__).resolve().parents[1]
_KINDS = "results|repeated|minimal-pairs|suite|arms|claims|sizes"
_TABLE = re.compile(rf"(<!-- ({_KINDS}):([\w-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


_ARMS = {
    "plain": "plain distillation",
    "plain-compute": "plain distillation with the compute of full",
    "middle": "DIITO with diito/middle",
    "full": "DIITO with diito/full",
    "aligned-mse": "aligned hidden states matched, no interchanges",
    "recipe": "a better recipe, with interchanges",
}
_MEASURES = {
    "perplexity, enwiki2015-test": "perplexity, enwiki2015-test",
    "effective IIA outside, above floor, mean of full-0, full-1": "effective IIA above floor",
    "training PFLOP": "training PFLOP",
}


def tables(kind: str, name: str) -> str:
    """Return one kind of an experiment's tables in Markdown."""
    folder = ROOT / "experiments" / name
    if kind == "repeated":
        return _repeated({one.stem: _read(one) for one in sorted(folder.glob("results*.json"), reverse=True)})
    if kind == "minimal-pairs":
        return _minimal_pairs(
            {one.stem: _read(one) for one in sorted(folder.glob("minimal-pairs/*.json"), reverse=True)}
        )
    if kind in ("suite", "arms", "claims"):
        comparison = compared(folder / "results")
        if kind == "arms":
            return _arms(comparison)
        table = headline(comparison) if kind == "suite" else claims_table(comparison)
        return f"{table}\n\n{scale(comparison.study)} {comparison.scope}"
    if kind == "sizes":
        return _sizes(_read(folder / "teacher.json"), [_read(one) for one in folder.glob("results/*.json")])
    results = _read(folder / "results.json")
    computes = {name: measured["variables"] for name, measured in results["summary"]["students"].items()}
    return "\n\n".join([_answers(results), _computes(computes), _scale(results)])


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _arms(comparison: StudyComparison) -> str:
    """Return the arms and measures that a newcomer needs."""
    rows = [[arm, what, *(spread(comparison.rows[name], arm) for name in _MEASURES)] for arm, what in _ARMS.items()]
    seeds = {value is not None for name in _MEASURES for arm in _ARMS for value in comparison.rows[name].values[arm]}
    if seeds != {True}:
        raise ValueError("an arm of this table lacks a seed")
    note = (
        f"Mean ± standard deviation over {len(comparison.study.seeds)} seeds. Effective IIA is outside the swapped "
        "positions, as a mean over `full-0` and `full-1`: at the last block, a swap changes nothing outside. A PFLOP "
        "is 10^15 multiplications and additions."
    )
    return f"{markdown_table(['arm', 'what it is', *_MEASURES.values()], rows)}\n\n{note}"


def _repeated(runs: dict[str, dict[str, Any]]) -> str:
    """Return what two runs of one config have in common: numbers, but not times."""
    rows: list[list[str]] = []
    for run, results in runs.items():
        for arm, trained in results["arms"].items():
            perplexities = [f"{one['perplexity'][arm]['value']:.4f}" for one in results["evaluation"].values()]
            effective = results["summary"]["students"][arm]["variables"]["middle"]["effective_iia"]["outside"]
            rows.append(
                [
                    f"{run}.json",
                    arm,
                    f"{trained['history'][-1]['loss']:.5f}",
                    *perplexities,
                    f"{effective['value']:.4f} of {effective['cases']:,}",
                    _cpu_time(trained),
                ]
            )
    sets = [f"perplexity, {name}" for name in next(iter(runs.values()))["evaluation"]]
    return markdown_table(["run", "student", "last logged loss", *sets, "effective IIA, outside", "CPU time"], rows)


def _minimal_pairs(runs: dict[str, dict[str, Any]]) -> str:
    """Students that were verified one by one."""
    computes = {arm: run["summary"]["students"]["student"]["variables"] for arm, run in runs.items()}
    first = next(iter(runs.values()))
    computes["untrained"] = first["summary"]["students"]["untrained"]["variables"]
    verdicts = [
        f"Verdict on {arm}: **{run['verdict']['label']}**. {run['verdict']['sentence']}" for arm, run in runs.items()
    ]
    [(split, data)] = first["data"].items()
    skipped = "; ".join(f"{count:,}: {reason}" for reason, count in data["skipped_pairs"].items())
    note = f"Pairs verified, from {split}: {data['examples']:,}. Pairs left out before the draw: {skipped}."
    return "\n\n".join([_computes(computes), *verdicts, note])


def _sizes(teacher: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Return a plain and a causal arm on each number of training examples, paired by seed."""
    by_size: dict[int, list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: (run["data"]["train"]["examples"], run["seed"])):
        by_size.setdefault(run["data"]["train"]["examples"], []).append(run)
    accuracies: list[list[str]] = []
    agreements: list[list[str]] = []
    for size, found in by_size.items():
        steps, seeds = found[0]["arms"]["plain"]["steps"], [run["seed"] for run in found]
        held_out = [run["evaluation"]["validation"]["accuracy"] for run in found]
        cells = _paired({arm: tuple(one[arm]["value"] for one in held_out) for arm in ("plain", "causal")})
        untrained = f"{held_out[0]['untrained']['value']:.3f}"
        seconds = ", ".join(_cpu_time(*(run["arms"][arm] for run in found)) for arm in ("plain", "causal"))
        accuracies.append([f"{size:,}", f"{steps:,}", seconds, ", ".join(map(str, seeds)), untrained, *cells])
        for variable in found[0]["summary"]["students"]["plain"]["variables"]:
            measured = {
                arm: [run["summary"]["students"][arm]["variables"][variable] for run in found]
                for arm in ("plain", "causal")
            }
            changed = ", ".join(str(one["effective_iia"]["outside"]["cases"]) for one in measured["plain"])
            for name, key in (("all", "iia"), ("changed", "effective_iia")):
                values = {arm: tuple(one[key]["outside"]["value"] for one in ones) for arm, ones in measured.items()}
                pairs = found[0]["summary"]["students"]["plain"]["variables"][variable]["iia"]["all"]["cases"]
                cases = f"{pairs:,}" if key == "iia" else changed
                agreements.append([f"{size:,}", variable, f"{name}: {cases}", *_paired(values)])
    scores = teacher["scores"]["validation"]["accuracy"] / 100
    head = ["plain", "causal", "causal minus plain", "outcome"]
    return "\n\n".join(
        [
            f"Teacher, fine-tuned on {teacher['data']['train']['examples']:,} examples: accuracy {scores:.3f}.",
            "Accuracy on the validation set:",
            markdown_table(
                ["examples", "steps", "CPU time, plain and causal", "seeds", "untrained", *head], accuracies
            ),
            "Counterfactual label agreement, on all verified pairs and on those in which the swap changes the "
            "teacher's label:",
            markdown_table(["examples", "variable", "pairs", *head], agreements),
            "Mean (each seed). Differences are paired by seed, with 95% t intervals over seeds. Steps are equal, CPU "
            "times are not.",
        ]
    )


def _paired(values: dict[str, tuple[float | None, ...]]) -> list[str]:
    """Both arms with each seed's value, their difference, and what it shows."""
    compared = pair(Row(StudyMeasure("share", True, 3), values), "causal", "plain")
    return [*(_each(values[arm]) for arm in ("plain", "causal")), difference(compared), compared.outcome]


def _each(values: tuple[float | None, ...]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.3f} ({', '.join(f'{value:.3f}' for value in known)})" if known else "n/a"


def _answers(results: dict[str, Any]) -> str:
    sets = list(results["evaluation"])
    rows: list[list[str]] = []
    for student, measured in results["summary"]["students"].items():
        arm = results["arms"].get(student)
        perplexities = [_interval(results["evaluation"][name]["perplexity"][student], 2) for name in sets]
        behaviour = measured["behaviour"]
        trained = ["-", "-"] if arm is None else [f"{arm['steps']:,}", _cpu_time(arm)]
        rows.append(
            [student, *trained, *perplexities, _interval(behaviour["kl"]), _interval(behaviour["top1_agreement"])]
        )
    if sets:
        teacher = [_interval(results["evaluation"][name]["perplexity"]["teacher"], 2) for name in sets]
        rows.append(["teacher", "-", "-", *teacher, "0", "1"])
    heads = [f"perplexity, {name}" for name in sets]
    return markdown_table(["student", "steps", "CPU time", *heads, "KL to teacher (nats)", "top-1 agreement"], rows)


def _computes(students: dict[str, dict[str, Any]]) -> str:
    rows: list[list[str]] = []
    graded = {
        name: MEASURES[name].title
        for name in ("effect_r2", "kl_recovered")
        if all(one.get(name) for variables in students.values() for one in variables.values())
    }
    for student, variables in students.items():
        for variable, found in variables.items():
            effective = found["effective_iia"]["outside"]
            rows.append(
                [
                    student,
                    variable,
                    *(_interval(found[name]["outside"]) for name in graded),
                    _interval(effective),
                    _interval(found["effective_floor"]["outside"]),
                    _interval(found["margin"]),
                    _interval(found["effective_iia"]["inside"]),
                    _interval(found["iia"]["all"]),
                    f"{effective['cases']:,} ({effective['clusters']:,}{_texts(effective)})",
                ]
            )
    return markdown_table(
        [
            "student",
            "variable",
            *(f"{title}, outside" for title in graded.values()),
            "effective IIA, outside",
            "its no-intervention floor",
            "above floor (paired)",
            "effective IIA, inside",
            "IIA, all",
            "changed cases outside (base examples)",
        ],
        rows,
    )


def _scale(results: dict[str, Any]) -> str:
    arms = "; ".join(f"{name}: {arm['tokens']:,} tokens" for name, arm in results["arms"].items())
    hardware = results["provenance"]["hardware"]
    verdict, comparison = results["verdict"], results["comparison"]
    first = next(iter(next(iter(results["summary"]["students"].values()))["variables"].values()))
    known = first["iia"]["all"].get("texts") is not None
    over = "the texts of bases and sources" if known else "base and source examples"
    devices = ", ".join(hardware["cuda"]) or f"{hardware['cpu']}, {hardware['cores']} cores"
    return (
        f"Verdict on {verdict['student']}: **{verdict['label']}**. {verdict['sentence']}\n\n"
        f"{comparison['sentence']}\n\n"
        f"One seed ({results['seed']}); {arms}; brackets are 95% intervals over {over}; {devices}."
    )


def _texts(estimate: dict[str, Any]) -> str:
    """` of 47 texts`, where they are known and fewer than the examples."""
    texts = estimate.get("texts")
    return "" if texts in (None, estimate["clusters"]) else f" of {texts:,} texts"


def _cpu_time(*arms: dict[str, Any]) -> str:
    """Return the mean CPU time of trainings; what was resumed has that of its last part only."""
    if any(arm.get("resumed_at_step") for arm in arms):
        return "n/a (resumed)"
    return f"{mean(arm['cpu_seconds'] for arm in arms):,.0f} s"


def _interval(estimate: dict[str, Any], digits: int = 3) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "n/a"
    return f"{value:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def main(arguments: list[str]) -> int:
    """Write, or with `--check` compare, every table; return the exit code."""
    parser = argparse.ArgumentParser(description="Writes the result tables of the documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a table is stale")
    check = parser.parse_args(arguments).check
    stale: list[str] = []
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("experiments/*/README.md"))):
        text = path.read_text(encoding="utf-8")
        fresh = _TABLE.sub(lambda match: f"{match[1]}{tables(match[2], match[3])}\n{match[4]}", text)
        if fresh != text and check:
            stale.append(str(path.relative_to(ROOT)))
        elif fresh != text:
            path.write_text(fresh, encoding="utf-8")
    if stale:
        print(f"stale tables in {', '.join(stale)}: run python -m analysis.tables")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
