"""Learn sites of every rank on trained and on random networks; what is done already is not done again.

    python experiments/learned-sites/run.py [--seeds 0 1 2]

The task is the gallery's hierarchical equality. A seed is one file, `results/SEED.json`; one of other settings is
written anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import iit_toolkit as iit
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.files.json_files import read_object
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.runs.folder import write_json

sys.path.append(str(Path(__file__).resolve().parents[1] / "gallery"))
import arms
import equality

RESULTS = Path(__file__).parent / "results"
SITE = "1.output"
"""What the first hidden layer of 16 neurons gives."""
RANKS = (1, 4, 15, 16)
"""16 is the whole layer, of which nothing is learned."""
MOST = 8
"""Directions that a variable takes at most if the boundary is learned: both together could fill the layer."""
PLAIN, STRICT = {"causal_ce": 1.0}, {"causal_ce": 1.0, "strict": 1.0}
BOUNDED = {"boundary": "learned", "rotation": "shared"}
MAPS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    **{str(rank): ({"rank": rank}, PLAIN) for rank in RANKS},
    "4, strict": ({"rank": 4}, STRICT),
    "learned": ({"rank": MOST, **BOUNDED}, {**PLAIN, "boundary": 0.1}),
    "learned, strict": ({"rank": MOST, **BOUNDED}, {**STRICT, "boundary": 0.1}),
}
"""What is learned: how both variables' sites are declared, and the weights of the terms."""
LEARNING: dict[str, Any] = {"steps": 300, "batch_size": 256, "subspace_learning_rate": 0.05}
TRAINED = ("iit", "task")
SETTINGS = {
    **LEARNING,
    "maps": {name: list(one) for name, one in MAPS.items()},
    "site": SITE,
    "network": {**equality.TRAINING, "rows": equality.ROWS},
}


def main() -> None:
    """Run what is not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    torch.set_num_threads(1)
    for seed in parser.parse_args().seeds:
        path = RESULTS / f"{seed}.json"
        if path.is_file() and read_object(path)["settings"] == SETTINGS:
            continue
        started = time.process_time()
        lines = _lines(seed)
        path.parent.mkdir(exist_ok=True)
        cpu = round(time.process_time() - started, 1)
        write_json(path, {"settings": SETTINGS, "seed": seed, "cpu_seconds": cpu, "lines": lines})


def _lines(seed: int) -> list[dict[str, Any]]:
    """Return what every network scores by every map, beside a random network by the same."""
    networks: dict[str, nn.Module] = {arm: arms.train(equality.TASK, arm, seed) for arm in TRAINED}
    networks["random"] = equality.network(2000 + seed, layers=3).eval()
    control = equality.network(3000 + seed, layers=3).eval()
    rows = TensorRows(equality.columns(equality.ROWS, seed))
    lines: list[dict[str, Any]] = []
    for kind, (declared, weights) in MAPS.items():
        site = iit.Site.module(SITE) if declared["rank"] == equality.NEURONS else iit.Site.learned(SITE, **declared)
        aligned = iit.Alignment.pairs("learned", positions="all", left=("left", site), right=("right", site))
        of_control = _learned(control, aligned, rows, seed, weights)
        for name, network in networks.items():
            subspaces = _learned(network, aligned, rows, seed, weights), of_control
            found = _verified({"student": network, "untrained": control}, aligned, subspaces)
            lines.append({"network": name, "rank": kind, **found})
            print(f"seed {seed}, rank {kind}, {name}: {found['label']}, {found['effect_r2']:.3f}", flush=True)
    return lines


def _learned(
    network: nn.Module, aligned: iit.Alignment, rows: TensorRows, seed: int, weights: dict[str, float]
) -> LearnedSubspaces | None:
    """Return subspaces that were learned on a network, which stays as it is; `None` for the whole layer."""
    if not aligned.learns:
        return None
    found = iit.new_subspaces(network, aligned, rows, seed)
    train_network(
        network, equality.TASK.program, aligned, rows, subspaces=found, frozen=True, weights=weights, seed=seed,
        **LEARNING,
    )  # fmt: skip
    return found


def _verified(
    networks: dict[str, nn.Module],
    aligned: iit.Alignment,
    subspaces: tuple[LearnedSubspaces | None, LearnedSubspaces | None],
) -> dict[str, Any]:
    """Verify the first network beside the second on test rows, and return the lowest of both variables' scores."""
    rows = TensorRows(equality.columns(equality.TEST_ROWS, 10_000))
    learned = {name: one for name, one in zip(networks, subspaces, strict=True) if one is not None}
    check = iit.verify(
        equality.TASK.program, networks, aligned, rows, pairs=len(rows), batch_size=500, judged="student",
        subspaces=learned or None,
    )  # fmt: skip
    of_student, of_control = (check.summary.students[name].variables.values() for name in networks)
    return {
        "label": check.verdict.label,
        "directions": [_directions(one) for one in subspaces],
        "variables": [one.label for one in check.verdict.variables.values()],
        "leak": max((leak.difference.value or 0.0 for leak in check.verdict.leaks), default=None),
        "iia": min(one.iia.all.value for one in of_student),
        "effect_r2": min(one.effect_r2.outside.value for one in of_student),
        "control_iia": min(one.iia.all.value for one in of_control),
        "control_effect_r2": min(one.effect_r2.outside.value for one in of_control),
    }


def _directions(subspaces: LearnedSubspaces | None) -> list[int]:
    """Return how many directions the swap of either variable moves."""
    return [equality.NEURONS] * 2 if subspaces is None else [subspaces[key].directions for key in subspaces]


if __name__ == "__main__":
    main()
