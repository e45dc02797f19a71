"""A suite in words: Markdown, LaTeX, and the paper's claims."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.paper_claims import CLAIMS, claims_table, judge_claim
from iit_toolkit.analysis.studies.comparison import StudyComparison, compare_study
from iit_toolkit.analysis.studies.read_suite import read_suite
from iit_toolkit.analysis.studies.text import headline, scale, to_latex, to_markdown
from tests.analysis.studies.suite_tree import results, write_tree


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def compared(root: Path) -> StudyComparison:
    return compare_study(
        read_suite(root), ["plain", "plain-compute"], variables=["early", "middle"], measure="effective_iia"
    )


def cells(text: str, *first: str) -> dict[str, str]:
    """The row that begins so, of the first table that has one, by its columns."""
    for table in re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for row in rows[2:]:
            if tuple(row[: len(first)]) == first:
                return dict(zip(rows[0], row, strict=True))
    raise AssertionError(f"no row {first}")


def test_the_headline_holds_every_arm_and_the_teacher(compared: StudyComparison) -> None:
    text = headline(compared)
    plain, middle, teacher = (cells(text, arm) for arm in ("plain", "middle", "teacher"))
    assert plain["perplexity, encyclopedia"] == "100.00 ± 10.00 (3)"
    assert plain["effective IIA outside, mean of early, middle"] == "0.260 ± 0.010 (3)"
    assert plain["score, mean of 2 GLUE tasks"] == "68.00 ± 0.50 (3)"
    assert plain["training PFLOP"] == "0.200 ± 0.000 (3)"
    assert middle["perplexity, encyclopedia"] == "97.50 ± 3.54 (2)"
    assert cells(text, "late")["score, mean of 2 GLUE tasks"] == "-"
    assert teacher["perplexity, encyclopedia"] == "50.00 ± 2.00 (3)"
    assert teacher["score, mean of 2 GLUE tasks"] == "87.50 (1)" and teacher["training PFLOP"] == "-"


def test_means_over_other_seeds_are_called_no_comparison(compared: StudyComparison, root: Path, tmp_path: Path) -> None:
    said = "Arms with different seeds cannot be compared by their means"  # middle has two seeds, the others three
    assert said in headline(compared) and said in to_markdown(compared) and said in to_latex(compared)
    for arm in ("plain", "full"):
        shutil.copytree(root / arm, tmp_path / arm, ignore=shutil.ignore_patterns("finetune"))
    assert said not in headline(compare_study(read_suite(tmp_path), ["plain"]))


def test_markdown_holds_differences_and_outcomes(compared: StudyComparison) -> None:
    text = to_markdown(compared)
    steps, compute = text.split("## Differences at equal steps")[1].split("## Differences at equal compute")
    full = cells(steps, "full", "plain")
    assert full["perplexity, encyclopedia"] == "-10.00 [-19.94, -0.06] (3) BEATS"
    assert full["perplexity, encyclopedia, relative change (%)"].startswith("-9.8 [")
    assert cells(steps, "middle")["perplexity, encyclopedia"].endswith("(2) INCONCLUSIVE")
    assert cells(compute, "full", "plain-compute")["perplexity, encyclopedia"].startswith("-0.33 [")
    assert cells(text.split("## Effective IIA outside\n")[1], "full")["middle"] == "0.610 ± 0.010 (3)"
    assert cells(steps.split("**Effective IIA outside**")[1], "full", "plain")["last"].startswith("+0.300")
    assert "* full and plain each made 100 steps; plain had 0.57 times the training FLOPs of full." in steps
    assert "n/a: the student of narrow" in steps and "## Effective IIA outside, above floor" in text
    assert not re.search(r"\bnan\b|None", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_scale_is_told(compared: StudyComparison) -> None:
    assert scale(compared.study) == (
        "Teacher example/teacher-12l (22,500,000 parameters); students of 5,000,000 to 11,900,000 parameters; "
        "100 to 172 steps; 640,000 to 1,100,800 tokens read; data train: 131,072 tokens; validation: 7,680 tokens; "
        "3 fine-tuning seeds; on some cpu, 2 cores."
    )


def test_the_scale_names_the_machine_that_trained_not_the_one_that_verified(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "full" / "seed-42" / "results.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    hardware = {"cpu": "its cpu", "cores": 4, "cuda": []}
    document["arms"]["full"]["provenance"] = {**document["provenance"], "hardware": hardware}
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "on its cpu, 4 cores and some cpu, 2 cores." in scale(read_suite(tmp_path))


def test_latex_is_escaped_and_even(compared: StudyComparison) -> None:
    text = to_latex(replace(compared, arms=(*compared.arms[:2], "full")))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\bottomrule") == 2
    assert r"full & perplexity, encyclopedia & $-$10.00 [$-$19.94, $-$0.06] & 3 & BEATS \\" in text
    assert r"relative change (\%)" in text and r"100.00 $\pm$ 10.00 (3)" in text
    assert "teacher & 50.00" in text
    for table in re.findall(r"\\begin\{tabular\}\{(l+)\}(.*?)\\end", text, re.DOTALL):
        rows = [line for line in table[1].splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.split(r"(?<!\\)&", line)) for line in rows} == {len(table[0])}


def test_claims_are_judged_by_intervals(compared: StudyComparison) -> None:
    text = claims_table(compared)
    full = cells(text, "lower perplexity, FULL", "perplexity, encyclopedia")
    assert full["the paper"] == "15.69 → 13.59 (-13.4%)"
    assert full["ours, equal steps"] == "100.00 → 90.00 (-10.0%); -10.00 [-19.94, -0.06], n = 3"
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    verdicts = {what: re.findall(r"\| (holds|does not hold|inconclusive|not run) ", one) for what, one in lines.items()}
    assert verdicts["lower perplexity, FULL"] == ["holds", "inconclusive"]
    assert verdicts["lower perplexity, LATE"] == ["does not hold", "inconclusive"]
    assert verdicts["lower perplexity, MIDDLE"] == ["inconclusive", "inconclusive"]
    assert verdicts["lower perplexity, FULL+COS"] == ["not run", "not run"]
    assert verdicts["higher GLUE mean, LATE"] == ["not run", "not run"]
    assert verdicts["higher SQuAD F1, FULL"] == ["inconclusive", "inconclusive"]
    assert "| 79.99 → 81.33 | 70.25 → 72.25; +2.00 [no interval], n = 2 |" in lines["higher SQuAD F1, FULL"]
    assert "| 15.69 → 13.45 (-14.3%) | - | not run | - | not run |" in lines["lower perplexity, FULL+COS"]


def test_our_numbers_are_of_the_seeds_that_both_arms_have(compared: StudyComparison) -> None:
    middle = next(claim for claim in CLAIMS if claim.arm == "middle")
    ours = judge_claim(compared, middle, "perplexity, encyclopedia", "equal steps")
    assert ours.numbers.startswith("105.00 → 97.50 (-7.1%); -7.50 [") and ours.verdict == "inconclusive"
    assert ours.p is None  # two seeds


def test_without_fine_tuning_and_compute_claims_are_not_run(root: Path, tmp_path: Path) -> None:
    for arm in ("plain", "full"):
        shutil.copytree(root / arm, tmp_path / arm, ignore=shutil.ignore_patterns("finetune"))
    text = claims_table(compare_study(read_suite(tmp_path), ["plain"]))
    assert cells(text, "higher GLUE mean, FULL")["measure"] == "score, mean of GLUE tasks"
    assert text.count("| holds |") == 1 and text.count("| not run |") == 2 * len(CLAIMS) - 1
    assert "* Equal compute: n/a: no arm had the same compute; plain had 0.57 times" in text


def test_many_claims_are_corrected(compared: StudyComparison, root: Path, tmp_path: Path) -> None:
    written = "* Of 2 tests at equal steps, the claim holds in 1; after Holm's correction over all of them, in {}"
    lost = "It does not hold in 1; after the correction, in {}."
    text = claims_table(compared)
    assert f"{written.format(1)}. {lost.format(1)}" in text  # LATE differs for sure, so FULL may have p = 0.0497
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    for place, path in enumerate(sorted(tmp_path.glob("late/*/results.json"))):
        path.write_text(json.dumps(results("late", place, (120.0, 90.0, 130.0)[place])), encoding="utf-8")
    unsure = compare_study(read_suite(tmp_path), ["plain", "plain-compute"], variables=["early", "middle"])
    assert f"{written.format(0)} (not: lower perplexity, FULL). It does not hold in 0." in claims_table(unsure)
