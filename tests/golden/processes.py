"""Some of the trajectories, trained by two processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iit_toolkit.runs import processes
from tests.forked import two_processes
from tests.golden import trajectories

CASES = [trajectories.CASES[index] for index in (1, 12)]


def in_two_processes(folder: Path) -> dict[str, Any]:
    """Train the cases by two processes; return what the first found, whose weights the other has, too."""

    def work(rank: int) -> None:
        with processes.parting():
            found = {
                trajectories.name_of(*case): trajectories.trained(folder / str(index), case)
                for index, case in enumerate(CASES)
            }
            (folder / f"{rank}.json").write_text(json.dumps(found))

    ended = two_processes(work, folder)
    assert [one.code for one in ended] == [0, 0], ended[0].stderr[-3000:] + ended[1].stderr[-3000:]
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    for name, one in first.items():
        assert one["weights"] == second[name]["weights"], name
    return first
