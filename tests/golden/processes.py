"""Some of the trajectories, trained by two processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.golden import trajectories

CASES = [trajectories.CASES[index] for index in (1, 12)]
_WORK = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from iit_toolkit.runs import processes
from tests.golden import trajectories
from tests.golden.processes import CASES

folder = Path(sys.argv[1])
with processes.parting():
    found = {trajectories.name_of(*case): trajectories.trained(folder / str(i), case) for i, case in enumerate(CASES)}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
"""


def in_two_processes(folder: Path) -> dict[str, Any]:
    """Train the cases by two processes; return what the first found, whose weights the other has, too."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    own = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    own |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WORK, str(folder)],
            env={**os.environ, **own, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = [one.communicate(timeout=300)[1] for one in started]
    assert [one.returncode for one in started] == [0, 0], told[0][-3000:] + told[1][-3000:]
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    for name, one in first.items():
        assert one["weights"] == second[name]["weights"], name
    return first
