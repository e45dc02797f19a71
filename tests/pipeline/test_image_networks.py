"""A ViT and a ResNet that a program teaches, by YAML and command line; and a ViT as the teacher of a smaller one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests import images as given
from tests.pipeline.test_networks import call


def patches(width: int) -> dict[str, Any]:
    """Return the sites of both halves in a ViT."""
    block = "model.vit.layers.0.output"
    return {
        "top": {"component": block, "neurons": [width, 3 * width]},
        "bottom": {"component": block, "neurons": [3 * width, 5 * width]},
    }


SITES: dict[str, dict[str, Any]] = {
    "vit": patches(given.WIDTH),
    "small_vit": patches(given.WIDTH // 2),
    "resnet": {
        "top": {"component": "model.resnet.encoder.stages.1.output", "neurons": [0, 3]},
        "bottom": {"component": "model.resnet.encoder.stages.1.output", "neurons": [3, 6]},
    },
}


def alignment(network: str, *, teacher: str | None = None) -> dict[str, Any]:
    variables = [
        {"name": name, "teacher": [{"variable": name} if teacher is None else SITES[teacher][name]], "student": [site]}
        for name, site in SITES[network].items()
    ]
    return {"name": "halves", "variables": variables}


def config(network: str) -> dict[str, Any]:
    return {
        "name": network,
        "teacher": {"program": "images.py:program"},
        "student": {"network": f"images.py:{network}"},
        "data": {"path": "images.py:rows"},
        "arms": {"iit": {"alignment": alignment(network)}, "task": {}},
        "training": {"steps": 40, "batch_size": 64, "learning_rate": 0.01},
        "verification": {"pairs": 100, "resamples": 100, "batch_size": 100},
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("images.py").write_text(Path(given.__file__).read_text())
    return tmp_path


def done(*arguments: str) -> str:
    code, printed, said = call(*arguments)
    assert code == 0, printed + said
    return printed


def swapped(network: torch.nn.Module, path: str, base: torch.Tensor, source: torch.Tensor, part: Any) -> torch.Tensor:
    """Return answers with a part of what a module gives for `source` in the run on `base`, by hooks by hand."""
    module, noted = network.get_submodule(path), list[torch.Tensor]()
    with torch.no_grad():
        handle = module.register_forward_hook(lambda _module, _args, output: noted.append(output.clone()))
        network(source)
        handle.remove()

        def put(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
            changed = output.clone()
            changed[:, part] = noted[0][:, part]
            return changed

        handle = module.register_forward_hook(put)
        answers = network(base).argmax(1)
        handle.remove()
    return answers


PARTS = {
    "vit": ("model.vit.layers.0", {"top": list(given.TOP), "bottom": list(given.BOTTOM)}),
    "resnet": ("model.resnet.encoder.stages.1", {"top": [0, 1, 2], "bottom": [3, 4, 5]}),
}


@pytest.mark.parametrize("network", PARTS)
def test_a_network_of_images_goes_from_validate_to_report(place: Path, network: str) -> None:
    Path("run.yaml").write_text(yaml.safe_dump(config(network)))
    assert "Classifier" in done("explain", "run.yaml")
    done("validate", "run.yaml")
    done("run", "run.yaml", "-o", "run")
    done("report", "run")
    assert "top" in (place / "run" / "report.html").read_text()
    results = json.loads((place / "run" / "results.json").read_text())
    assert (
        results["arms"]["iit"]["history"][-1]["loss/causal_ce"] < results["arms"]["iit"]["history"][0]["loss/causal_ce"]
    )
    trained = getattr(given, network)().eval()
    trained.load_state_dict(load_file("run/iit/model.safetensors"))
    held_out = given.rows()[1]
    cases, (path, parts) = pd.read_parquet("run/outcomes.parquet"), PARTS[network]
    for number, (variable, part) in enumerate(parts.items()):
        some = cases[(cases["student"] == "iit") & (cases["variable"] == variable)]
        base, source = (torch.tensor(some[name].to_numpy()) for name in ("base", "source"))
        by_hand = swapped(trained, path, held_out["inputs"][base], held_out["inputs"][source], part)
        assert by_hand.tolist() == some["student_cf"].tolist()
        bright = held_out["bright"][base].clone()
        bright[:, number] = held_out["bright"][source][:, number]
        assert (bright[:, 0] == bright[:, 1]).long().tolist() == some["teacher_cf"].tolist()


def test_a_vit_that_a_program_taught_teaches_a_smaller_one(place: Path) -> None:
    taught = {**config("vit"), "arms": {"iit": {"alignment": alignment("vit")}}}
    taught["training"] = {**taught["training"], "steps": 100}
    Path("first.yaml").write_text(yaml.safe_dump(taught))
    done("run", "first.yaml", "-o", "first")
    between = alignment("small_vit", teacher="vit")
    second = {
        **taught,
        "teacher": {"network": "images.py:vit", "weights": "first/iit"},
        "student": {"network": "images.py:small_vit"},
        "arms": {"causal": {"alignment": between}},
        "verification": {**taught["verification"], "alignment": between, "program": "images.py:program"},
    }
    Path("second.yaml").write_text(yaml.safe_dump(second))
    done("validate", "second.yaml")
    done("run", "second.yaml", "-o", "second")
    assert "Along the chain" in (place / "second" / "report.md").read_text()
    cases = pd.read_parquet("second/outcomes.parquet")
    cases = cases[cases["student"] == "causal"]
    changed = cases["teacher_cf"] != cases["teacher_base"]
    assert float(changed.mean()) > 0.2
    assert float((cases["student_cf"] == cases["teacher_cf"])[changed].mean()) > 0.9
