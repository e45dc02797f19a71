"""Records anew what is held fast: `python -m tests.golden.record [trajectories] [runs] [reports]`.

To be run only where a record is meant to change; the commit says which did, and why.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.golden import runs, trajectories
from tests.golden.processes import in_two_processes

RECORDS = Path(__file__).parent / "records"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def made_on() -> dict[str, str]:
    """What the last bits of a result depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def read(name: str) -> Any:
    """Read a record."""
    return json.loads((RECORDS / f"{name}.json").read_text())


def write(name: str, record: Any) -> None:
    """Write a record, with the machine that made it."""
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps({"made_on": made_on(), "record": record}, indent=1) + "\n")


def shortened(trained: dict[str, Any]) -> dict[str, Any]:
    """Of a training, each step's loss and gradient norm, and all that was logged at the first and the last."""
    logged = trained["logged"]
    steps = [[line["loss"], line["grad_norm"]] for line in logged]
    return {"steps": steps, "first": logged[0], "last": logged[-1], "weights": trained["weights"]}


def record_trajectories() -> None:
    """Record every case, and some of them by two processes."""
    found: dict[str, Any] = {}
    for case in trajectories.CASES:
        with tempfile.TemporaryDirectory() as folder:
            found[trajectories.name_of(*case)] = shortened(trajectories.trained(Path(folder), case))
    with tempfile.TemporaryDirectory() as folder:
        for name, one in in_two_processes(Path(folder)).items():
            found[f"{name}, two processes"] = shortened(one)
    write("trajectories", found)


def record_runs() -> None:
    """Record what a report is made of."""
    shutil.rmtree(RECORDS / "runs", ignore_errors=True)
    for name in runs.RUNS:
        with tempfile.TemporaryDirectory() as folder:
            runs.keep(runs.run(name, Path(folder)), RECORDS / "runs" / name)
    write("runs", sorted(runs.RUNS))


def record_reports() -> None:
    """Record what is written from the recorded runs: texts as they are, of other files the digests."""
    shutil.rmtree(RECORDS / "reports", ignore_errors=True)
    digests: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in runs.written_from(RECORDS / "runs", EXPERIMENTS, Path(folder)).items():
            if (EXPERIMENTS / runs.committed(name)).is_file():
                continue
            if path.suffix in runs.WHOLE:
                target = RECORDS / "reports" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            else:
                digests[name] = runs.digest(path)
    write("reports", digests)


if __name__ == "__main__":
    torch.set_num_threads(1)
    known = {"trajectories": record_trajectories, "runs": record_runs, "reports": record_reports}
    for chosen in sys.argv[1:] or known:
        known[chosen]()
