"""Tables of the experiments' pages, from planted results."""

from __future__ import annotations

from typing import Any

from analysis.tables import _sizes as sizes  # pyright: ignore[reportPrivateUsage]


def share(value: float) -> dict[str, Any]:
    return {"value": value, "cases": 30}


def student(value: float) -> dict[str, Any]:
    measured = {
        "iia": {"all": {"cases": 256}, "outside": share(value)},
        "effective_iia": {"outside": share(value - 0.2)},
    }
    return {"variables": {"block-0": measured}}


def run(examples: int, seed: int, plain: float, causal: float) -> dict[str, Any]:
    accuracy = {"untrained": share(0.5), "plain": share(plain), "causal": share(causal)}
    return {
        "seed": seed,
        "data": {"train": {"examples": examples}},
        "arms": {"plain": {"steps": 63, "cpu_seconds": 9.0}, "causal": {"steps": 63, "cpu_seconds": 17.0}},
        "evaluation": {"validation": {"accuracy": accuracy}},
        "summary": {"students": {"plain": student(plain), "causal": student(causal)}},
    }


def test_sizes_are_paired_by_seed_within_each_size() -> None:
    teacher = {"scores": {"validation": {"accuracy": 84.0}}, "data": {"train": {"examples": 10000}}}
    runs = [run(1000, 42, 0.7, 0.75), run(500, 88, 0.72, 0.79), run(500, 42, 0.7, 0.75), run(500, 66, 0.71, 0.77)]
    lines = sizes(teacher, runs).splitlines()
    assert lines[0] == "Teacher, fine-tuned on 10,000 examples: accuracy 0.840."
    # by hand: differences .05, .06, .07; the t quantile of 2 degrees of freedom, 4.303, times .01 / sqrt(3) is .0248
    assert (
        "| 500 | 63 | 9 s, 17 s | 42, 66, 88 | 0.500 | 0.710 (0.700, 0.710, 0.720) | 0.770 (0.750, 0.770, 0.790) "
        "| +0.060 [+0.035, +0.085] | BEATS |"
    ) in lines
    assert (
        "| 1,000 | block-0 | changed: 30 | 0.500 (0.500) | 0.550 (0.550) | +0.050 [no interval] | INCONCLUSIVE |"
    ) in lines
    assert sum(line.startswith("| 500 | block-0 | all: 256 |") for line in lines) == 1


def test_a_time_that_is_not_that_of_the_whole_training_is_not_told() -> None:
    teacher = {"scores": {"validation": {"accuracy": 84.0}}, "data": {"train": {"examples": 10000}}}
    one, two = run(500, 42, 0.7, 0.75), run(500, 66, 0.71, 0.77)
    two["arms"]["causal"]["resumed_at_step"] = 40
    assert "| 500 | 63 | 9 s, n/a (resumed) | 42, 66 |" in sizes(teacher, [one, two])
