"""Whole runs of tiny models, one of each task and three seeds of the first, and all that is written from them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from iit_toolkit import pipeline
from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.cli import main
from iit_toolkit.config.run_config import RunConfig
from tests.downstream.tiny import questions, tiny_tokenizer
from tests.drawing import figures_drawn, no_figures_drawn
from tests.golden.trajectories import alignment, model

RUNS = {
    "masked_lm-42": ("masked_lm", 42),
    "masked_lm-43": ("masked_lm", 43),
    "masked_lm-44": ("masked_lm", 44),
    "causal_lm-42": ("causal_lm", 42),
    "sequence_classification-42": ("sequence_classification", 42),
}
REPORTED = [name for name, (_, seed) in RUNS.items() if seed == 42]
DRAWN = "masked_lm-42"
"""The run whose report has its figures."""
SOURCES = {"masked_lm": "dataset", "causal_lm": "in_batch", "sequence_classification": "fixed"}
"""The kind of sources of each task's alignment, which brings its positions."""
OUTCOMES = ("outcomes.parquet", "controls.parquet")
STORED = ("config.yaml", "alignment.yaml", "results.json", *OUTCOMES, "examples.parquet", "answers.parquet")
"""The files of a run folder that a report is made of."""
WHOLE = (".md", ".tex", ".csv")
"""The files that are recorded as they are; of others, the digest is."""


def config(task: str, seed: int) -> RunConfig:
    """The config of a run whose files lie in the working directory."""
    data: dict[str, Any] = {"path": "json", "data_files": {"train": "train.json", "validation": "held-out.json"}}
    data |= {"label_column": "label"} if task == "sequence_classification" else {"packing": False}
    data["max_length"] = 24
    return RunConfig.model_validate(
        {
            "name": task,
            "seed": seed,
            "task": task,
            "teacher": "teacher",
            "student": {"layers": 2},
            "data": data,
            "arms": {
                "plain": {},
                "longer": {"training": {"max_steps": 10}},
                "causal": {"alignment": "aligned.yaml"},
            },
            "training": {"max_steps": 6, "per_device_train_batch_size": 4, "logging_steps": 2},
            "verification": {"pairs": 30 if task == "causal_lm" else 60, "batch_size": 8, "resamples": 200},
            "evaluation": {"again": data},
        }
    )


def run(name: str, place: Path) -> Path:
    """Make teacher and texts in a folder and run there; return the run folder, which has no figures."""
    task, seed = RUNS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        model(task, 4, 16).save_pretrained("teacher")
        tiny_tokenizer().save_pretrained("teacher")
        Path("aligned.yaml").write_text(alignment(SOURCES[task], projected=task != "causal_lm").to_yaml())
        for split, count in (("train", 24), ("held-out", 80)):
            rows = questions(count, count, length=14)
            lines = [{"text": row["context"], "label": index % 3} for index, row in enumerate(rows)]
            Path(f"{split}.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        with no_figures_drawn():
            pipeline.run(config(task, seed), "run")
    return place / "run"


def keep(folder: Path, target: Path) -> None:
    """Copy what a report is made of, without what tells machine and time."""
    target.mkdir(parents=True, exist_ok=True)
    for name in STORED:
        shutil.copyfile(folder / name, target / name)
    results = plain(json.loads((folder / "results.json").read_text()))
    (target / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def plain(results: dict[str, Any]) -> dict[str, Any]:
    """Results as they would be of a certain machine, which takes a quarter of a second for every step."""
    provenance = {
        "git_commit": "0" * 40, "git_dirty": False, "versions": {"iit_toolkit": "0.1.0"}, "platform": "Linux",
        "hardware": {"cpu": "CPU", "cores": 2, "memory_gb": 8.0, "cuda": []},
    }  # fmt: skip
    results |= {"provenance": provenance, "created": "2026-01-01T00:00:00+00:00"}
    results["verification"] = {"seconds": 2.0, "cpu_seconds": 1.0}
    for arm in results["arms"].values():
        arm |= {"provenance": provenance, "seconds": arm["steps"] / 4, "cpu_seconds": arm["steps"] / 4}
        arm["cost"] |= {"step_seconds": 0.25}
        for line in arm["history"]:
            line |= {"step_seconds": 0.25} if "step_seconds" in line else {}
            line |= {name: 1.0 for name in line if name.startswith("train_") and name != "train_loss"}
    return results


def written_from(stored: Path, experiments: Path, target: Path) -> dict[str, Path]:
    """Write every report, table and card of the stored runs and of the committed experiments, by a name for each."""
    for name in REPORTED:
        folder = target / name
        shutil.copytree(stored / name, folder)
        with figures_drawn() if name == DRAWN else no_figures_drawn():
            for form in (None, "latex", "json"):
                write_report(folder, form)
        results = json.loads((folder / "results.json").read_text())
        for arm in results["arms"]:
            (folder / f"card-{arm}.md").write_text(model_card(results, arm))
        for file in STORED:
            (folder / file).unlink()
    seeds = [str(stored / name) for name in RUNS if name.startswith("masked_lm")]
    call("compare", *seeds, "-o", str(target / "compare"))
    for experiment in ("causal-weight", "paper-claims"):
        call("suite", "report", str(experiments / experiment / "results"), "-o", str(target / experiment))
    files = (path for path in sorted(target.rglob("*")) if path.is_file() and path.suffix != ".png")
    return {path.relative_to(target).as_posix(): path for path in files}


def committed(name: str) -> Path:
    """Where a file would be committed beside the results that it is made from, below the experiments."""
    experiment, _, rest = name.partition("/")
    return Path(experiment) / "report" / rest


def call(*arguments: str) -> None:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
