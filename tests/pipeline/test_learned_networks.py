"""Learned sites of networks in a config: of a program's variables, and of a network that teaches."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from iit_toolkit import pipeline
from iit_toolkit.config.loading import load_config
from iit_toolkit.interchange.learned import LearnedSubspaces
from tests.pipeline.test_networks import ALIGNMENT, CONFIG, call, made
from tests.pipeline.test_networks import place as place
from tests.pipeline.test_networks import planted as planted_network

LEARNED: dict[str, Any] = {
    "name": "learned",
    "variables": [
        {
            "name": name,
            "teacher": [{"variable": name}],
            "student": [{"component": "2.output", "subspace": {"rank": 1}}],
        }
        for name in ("left", "right")
    ],
}
TRAINING: dict[str, Any] = {"steps": 200, "batch_size": 128, "subspace_learning_rate": 0.1}


def config(**changes: Any) -> Any:
    """Return the config of directions that are learned on trained weights, which stay as they are."""
    document = {
        **CONFIG,
        "student": {"network": "planted.py:network", "weights": "weights"},
        "arms": {"das": {"alignment": LEARNED, "training": {"frozen": True}}},
        "training": TRAINING,
        **changes,
    }
    Path("learned.yaml").write_text(yaml.safe_dump(document))
    return load_config("learned.yaml")


def planted() -> dict[str, Tensor]:
    """Save a network whose variables are turned; return the direction (4,) of each."""
    mix = planted_network(made(), turned=True)[2].weight.data
    halves = {"left": [1.0, 1.0, 0.0, 0.0], "right": [0.0, 0.0, 1.0, 1.0]}
    return {name: mix @ torch.tensor(half).double() / math.sqrt(2) for name, half in halves.items()}


def angle(basis: Tensor, direction: Tensor) -> float:
    return math.degrees(math.acos(min(1.0, float((basis.T @ direction).norm()))))


def test_a_programs_variables_are_found_on_trained_weights_beside_a_random_network(place: Path) -> None:
    directions = planted()
    folder = pipeline.run(config(), "run")
    own, control = (
        LearnedSubspaces.load(folder / file)
        for file in ("das/subspaces.safetensors", "subspaces/untrained.safetensors")
    )
    for name, direction in directions.items():
        assert angle(own.basis(f"{name}/0"), direction) < 8
    assert own.steps == control.steps == 200
    weights, before = (load_file(file / "model.safetensors") for file in (folder / "das", Path("weights")))
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    results = json.loads((folder / "results.json").read_text())
    assert results["verdict"]["label"] == "SUPPORTED", results["verdict"]["sentence"]
    measured = results["summary"]["students"]
    assert measured["das"]["variables"]["left"]["iia"]["all"]["value"] > 0.99
    assert measured["untrained"]["variables"]["left"]["iia"]["all"]["value"] < 0.9
    assert results["evaluation"]["held-out"]["accuracy"]["untrained"]["value"] < 0.9  # a random network, no trained one
    cases = pd.read_parquet(folder / "outcomes.parquet")
    network, inputs = made()["network"](), made()["rows"]()[1]["inputs"]
    network.load_state_dict(before)
    some = cases[(cases["student"] == "das") & (cases["variable"] == "left")]
    base, source = (inputs[torch.tensor(some[name].to_numpy())] for name in ("base", "source"))
    basis, hidden = own.basis("left/0"), network[:3](base)
    answers = network[3:](hidden + (network[:3](source) - hidden) @ basis @ basis.T).argmax(1)
    assert answers.tolist() == some["student_cf"].tolist()

    kept = {name: (folder / name).read_bytes() for name in ("das/subspaces.safetensors", "outcomes.parquet")}
    shutil.rmtree(folder / "subspaces")
    pipeline.run(config(), "run", resume=True)  # the control's are learned anew, and are the same
    assert all((folder / name).read_bytes() == content for name, content in kept.items())
    assert torch.equal(LearnedSubspaces.load(folder / "subspaces/untrained.safetensors").basis("left/0"),
                       control.basis("left/0"))  # fmt: skip

    exported = pipeline.export(folder, "exported", "das")
    assert (exported / "subspaces/untrained.safetensors").is_file()
    code, printed, said = call("verify", "--from", "exported", "-o", "again")
    assert code == 0 and "REPRODUCED" in printed and "NOT REPRODUCED" not in printed, printed + said
    again = json.loads((place / "again" / "results.json").read_text())
    assert again["verdict"] == results["verdict"] | {"student": again["verdict"]["student"]}


@pytest.mark.usefixtures("place")
def test_directions_train_with_a_network_and_are_learned_afterwards_on_an_arm_without_them() -> None:
    planted()
    arms = {"iit": {"alignment": LEARNED}, "task": {}}
    small = {"steps": 5, "batch_size": 32}
    folder = pipeline.run(config(arms=arms, training=small, student={"network": "planted.py:network"}, seed=0), "run")
    own = LearnedSubspaces.load(folder / "iit/subspaces.safetensors")
    others = [LearnedSubspaces.load(folder / f"subspaces/{name}.safetensors") for name in ("task", "untrained")]
    assert [one.steps for one in (own, *others)] == [5, 5, 5]
    assert not torch.allclose(own.basis("left/0"), others[1].basis("left/0"), atol=1e-4)
    results = json.loads((folder / "results.json").read_text())
    assert set(results["summary"]["students"]) == {"iit", "task", "untrained"}
    assert "learned" in (folder / "report.md").read_text()


@pytest.mark.usefixtures("place")
def test_a_network_that_teaches_is_swapped_at_directions_that_each_student_finds() -> None:
    """The turned teacher's are found by a student that has the variables in known neurons."""
    directions = planted()
    straight = made()["planted"](torch.eye(4).double())
    Path("straight").mkdir()
    save_file({name: one.contiguous() for name, one in straight.state_dict().items()}, "straight/model.safetensors")
    variables = [
        {**one, "teacher": [{"component": "2.output", "subspace": {"rank": 1}}]} for one in ALIGNMENT["variables"]
    ]
    arm = {
        "alignment": {"name": "of the teacher", "variables": variables},
        "training": {"frozen": True},
        "weights": {"causal_ce": 1.0},
    }
    Path("labelled.py").write_text(
        "from planted import program, rows\n"
        "def labelled():\n"
        "    return [{**some, 'labels': program.answers(program.run(some))} for some in rows()]\n"
    )
    networks = {
        "data": {"path": "labelled.py:labelled"},
        "teacher": {"network": "planted.py:network", "weights": "weights"},
        "student": {"network": "planted.py:network", "weights": "straight"},
    }
    folder = pipeline.run(config(**networks, arms={"das": arm}), "run")
    own = LearnedSubspaces.load(folder / "das/subspaces.safetensors")
    for name, direction in directions.items():
        assert angle(own.basis(f"{name}/teacher-0"), direction) < 8
    results = json.loads((folder / "results.json").read_text())
    assert results["summary"]["students"]["das"]["variables"]["left"]["iia"]["all"]["value"] > 0.99
    with pytest.raises(ValueError, match="another one for every student") as caught:
        taught = {**CONFIG["verification"], "program": "planted.py:program"}
        pipeline.validate(config(**networks, arms={"das": arm}, verification=taught))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"a": {"alignment": ALIGNMENT, "training": {"frozen": True}}}}, "trains learned subspaces alone"),
        (
            {"arms": {"a": {"alignment": LEARNED, "weights": {"task": 1.0}}}},
            r"arms\.a\.weights: learned subspaces need",
        ),
        ({"arms": {"a": {}}, "verification": {"alignment": LEARNED}}, "but no arm trains them"),
        ({"arms": {"a": {"alignment": LEARNED, "weights": {"causal_ce": 1.0, "whole": 1.0}}}}, "there is none; set it"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_cannot_be_learned_is_refused_before_anything_is_trained(changes: dict[str, Any], said: str) -> None:
    planted()
    with pytest.raises(ValueError, match=said) as caught:
        pipeline.run(config(**changes), "run")
    assert "\n" not in str(caught.value) and not list(Path("run").glob("*/model.safetensors"))
