"""The same seed gives the same results, apart from what the clock says; another seed gives others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import yaml

from iit_toolkit.runs.folder import RunFolder
from tests.downstream.tiny import questions, save_tiny_model
from tests.pipeline.test_run import TINY, call

TIMES = {"created", "seconds", "cpu_seconds", "step_seconds"}
"""The keys of results.json that hold times."""
WITHOUT_FIGURES = """
import sys
from iit_toolkit.cli import main
from tests.drawing import no_figures_drawn

with no_figures_drawn():
    main(sys.argv[1:])
"""
TABLES = ("outcomes", "controls", "examples", "answers")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A tiny run, one with another seed, and the first again in another process, which orders sets its own way."""
    place = tmp_path_factory.mktemp("same-seed")
    for seed, name in enumerate(("text", "held-out")):
        lines = [row["context"].replace("?", "") for row in questions(40, seed, length=16)]
        (place / f"{name}.txt").write_text("\n".join(lines))
    data = {"path": "text", "data_files": {"train": "text.txt", "validation": "held-out.txt"}, "packing": False}
    config = {
        "name": "same-seed",
        "teacher": str(save_tiny_model(place / "teacher")),
        "student": {"layers": 1},
        "data": data,
        "mlm": {"smoothing": 0.7},
        "arms": {"plain": {}, "causal": {"alignment": "diito/late"}},
        "training": {"logging_steps": 1},
        "evaluation": {"again": {**data, "max_length": 32}},
    }
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        for name, seed in (("first", 42), ("other", 43)):
            call("run", "config.yaml", *TINY, f"seed={seed}", "-o", name)
    own = {"HF_DATASETS_CACHE": str(place / ".other-cache"), "OMP_NUM_THREADS": "1"}  # sums over threads differ
    own["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", WITHOUT_FIGURES, "run", "config.yaml", *TINY, "seed=42", "-o", "again"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=os.environ | own)
    assert done.returncode == 0, done.stderr
    return {name: RunFolder.open(place / name) for name in ("first", "again", "other")}


def without_times(document: Any) -> Any:
    """The document without the keys of `TIMES`."""
    if isinstance(document, dict):
        return {key: without_times(value) for key, value in document.items() if key not in TIMES}
    return [without_times(one) for one in document] if isinstance(document, list) else document


def keys(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        yield from document
    for one in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from keys(one)


def tables(folder: RunFolder) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(getattr(folder, name)) for name in TABLES}


def test_the_same_seed_gives_the_same_results_apart_from_times(runs: dict[str, RunFolder]) -> None:
    first, again = (runs[name].read_results() for name in ("first", "again"))
    assert set(keys(first)) >= TIMES
    assert first["created"] <= again["created"] and first["arms"]["plain"]["seconds"] > 0
    assert without_times(first) == without_times(again)


def test_the_same_seed_gives_the_same_tables_and_students(runs: dict[str, RunFolder]) -> None:
    first, again = (tables(runs[name]) for name in ("first", "again"))
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True, obj=name)
    for arm in ("plain", "causal"):
        weights = [runs[name].arm(arm) / "model.safetensors" for name in ("first", "again")]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_another_seed_gives_other_results(runs: dict[str, RunFolder]) -> None:
    first, other = (without_times(runs[name].read_results()) for name in ("first", "other"))
    assert first["data"] == other["data"] and first["alignment"] == other["alignment"]
    for part in ("summary", "verdict", "comparison", "evaluation"):
        assert first[part] != other[part]
    for arm in ("plain", "causal"):
        assert first["arms"][arm]["history"] != other["arms"][arm]["history"]
    assert not tables(runs["first"])["outcomes"].equals(tables(runs["other"])["outcomes"])
