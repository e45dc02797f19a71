"""Runs whose teacher is a program or a network, by YAML and command line, and against hooks written by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from iit_toolkit import pipeline
from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.analysis.statistics.planning import plan
from iit_toolkit.cli import main
from iit_toolkit.config.loading import load_config
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.interchange.certify_program import certify_program
from iit_toolkit.pipeline.networks.objects import program_named
from iit_toolkit.pipeline.networks.prepare import program_variables, with_program
from iit_toolkit.pipeline.networks.rows import rows_of

PLANTED = """
import torch
import iit_toolkit as iit

program = iit.CausalModel(
    parents={"inputs": (), "left": ("inputs",), "right": ("inputs",), "same": ("left", "right")},
    functions={
        "left": lambda inputs: inputs[:, 0] == inputs[:, 1],
        "right": lambda inputs: inputs[:, 2] == inputs[:, 3],
        "same": torch.eq,
    },
    domains={name: (False, True) for name in ("left", "right", "same")},
    answer="same",
)
LAYERS = [
    ([[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]], [0, 0, 0, 0]),
    ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], [0, -1, 0, -1]),
    ([[1, -1, -1, 1], [-1, 1, 1, -1]], [0, 0]),
    ([[8, 8], [-8, -8]], [-4, 4]),
]


def network():
    first, second, third, fourth = (torch.nn.Linear(len(weight[0]), len(weight)) for weight, _ in LAYERS)
    turned, relu = torch.nn.Linear(4, 4, bias=False), torch.nn.ReLU
    return torch.nn.Sequential(first, relu(), turned, second, relu(), third, relu(), fourth).double()


def planted(mix):
    made = network()
    for layer, (weight, bias) in zip((made[0], made[3], made[5], made[7]), LAYERS):
        layer.weight.data, layer.bias.data = torch.tensor(weight).double(), torch.tensor(bias).double()
    made[2].weight.data = mix
    made[3].weight.data = made[3].weight @ mix.T
    return made


def rows():
    drawn = torch.randint(2, (900, 4), generator=torch.Generator().manual_seed(0)).double()
    return {"inputs": drawn[:300]}, {"inputs": drawn[300:]}
"""
PARTS = {"left": [0, 1], "right": [2, 3]}
ALIGNMENT = {
    "name": "planted",
    "variables": [
        {
            "name": name,
            "teacher": [{"variable": name}],
            "student": [{"component": "2.output", "neurons": [low, low + 2]}],
        }
        for name, low in (("left", 0), ("right", 2))
    ],
}
CONFIG: dict[str, Any] = {
    "name": "planted",
    "teacher": {"program": "planted.py:program"},
    "student": {"network": "planted.py:network"},
    "data": {"path": "planted.py:rows"},
    "arms": {"iit": {"alignment": ALIGNMENT}, "task": {}},
    "training": {"steps": 3, "batch_size": 32},
    "verification": {"pairs": 300, "resamples": 200, "batch_size": 64},
}


def call(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("planted.py").write_text(PLANTED)
    Path("planted.yaml").write_text(yaml.safe_dump(CONFIG))
    Path("alignment.yaml").write_text(yaml.safe_dump(ALIGNMENT))
    return tmp_path


def made() -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(PLANTED, found)
    return found


def planted(found: dict[str, Any], *, turned: bool) -> nn.Sequential:
    """Return the planted network, its hidden vector turned or not, and save its weights."""
    mix = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)).double()).Q
    network = found["planted"](mix if turned else torch.eye(4).double())
    Path("weights").mkdir()
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, "weights/model.safetensors")
    return network


def written() -> list[Path]:
    return sorted(one for one in Path().rglob("*") if "__pycache__" not in one.parts)  # of the config's Python


def by_hooks(network: nn.Sequential, base: Tensor, source: Tensor, neurons: list[int]) -> Tensor:
    """One row at a time: note the source's neurons by a hook, then put them into the run on the base by another."""
    answers: list[int] = []
    for one, other in zip(base, source, strict=True):
        noted: list[Tensor] = []
        handle = network[2].register_forward_hook(lambda _m, _a, output, noted=noted: noted.append(output.clone()))
        network(other[None])
        handle.remove()

        def put(_module: nn.Module, _args: object, output: Tensor, noted: list[Tensor] = noted) -> Tensor:
            changed = output.clone()
            changed[0, neurons] = noted[0][0, neurons]
            return changed

        handle = network[2].register_forward_hook(put)
        answers.append(int(network(one[None]).argmax()))
        handle.remove()
    return torch.tensor(answers)


@pytest.mark.parametrize("turned", [False, True])
def test_a_verification_is_a_plain_loop_of_hooks(place: Path, turned: bool) -> None:
    found = made()
    network = planted(found, turned=turned)
    folder = pipeline.verify(load_config("planted.yaml"), "weights", "alignment.yaml", place / "run")
    results = json.loads((folder / "results.json").read_text())
    cases = pd.read_parquet(folder / "outcomes.parquet")
    inputs = found["rows"]()[1]["inputs"]
    for variable, neurons in PARTS.items():
        some = cases[(cases["student"] == "student") & (cases["variable"] == variable)]
        assert len(some) == 300
        base, source = (inputs[torch.tensor(some[name].to_numpy())] for name in ("base", "source"))
        by_hand = by_hooks(network, base, source, neurons)
        assert by_hand.tolist() == some["student_cf"].tolist()
        at = {"left": 0, "right": 2}[variable]
        mixed = base.clone()
        mixed[:, at : at + 2] = source[:, at : at + 2]
        truth = ((mixed[:, 0] == mixed[:, 1]) == (mixed[:, 2] == mixed[:, 3])).long()
        assert truth.tolist() == some["teacher_cf"].tolist()
        iia = results["summary"]["students"]["student"]["variables"][variable]["iia"]["all"]["value"]
        assert iia == pytest.approx(float((by_hand == truth).double().mean()), abs=1e-12)
        assert (iia == 1.0) != turned
    assert results["verdict"]["label"] == ("NOT SUPPORTED" if turned else "SUPPORTED")
    assert results["evaluation"]["held-out"]["accuracy"]["student"]["value"] == 1.0


def test_the_control_of_a_finished_student_is_not_that_student(place: Path) -> None:
    """Without arms nothing is trained, and the folder that the config names may hold the student that is judged."""
    planted(made(), turned=False)
    config = load_config("planted.yaml", ["student.weights=weights"])
    folder = pipeline.verify(config, "weights", "alignment.yaml", place / "run")
    results = json.loads((folder / "results.json").read_text())
    assert results["verdict"]["label"] == "SUPPORTED", results["verdict"]["sentence"]
    assert results["evaluation"]["held-out"]["accuracy"]["untrained"]["value"] < 0.9


def test_a_pilot_says_how_many_rows_a_network_needs(place: Path) -> None:
    """The plan is that of the first 64 rows' verification, and nothing is written."""
    planted(made(), turned=False)
    config = load_config("planted.yaml", ["verification.pairs=64"])
    there = written()
    planned, rows = pipeline.plan_verification(config, "weights", "alignment.yaml")
    assert rows == 600 and written() == there
    folder = pipeline.verify(config, "weights", "alignment.yaml", place / "pilot")
    outcomes, controls = (pd.read_parquet(folder / f"{name}.parquet") for name in ("outcomes", "controls"))
    pilot: Any = SimpleNamespace(outcomes=outcomes, controls=controls, judged="student", learned=False)
    assert planned == plan(pilot, "student", resamples=200, seed=config.seed)
    asked = ("verify", "planted.yaml", "--student", "weights", "--alignment", "alignment.yaml", "--plan")
    code, printed, said = call(*asked)
    assert code == 0 and "64 pairs" in printed and "600" in printed, printed + said
    code, printed, said = call(*asked, "data.eval_rows=10")
    assert code == 2 and "a pilot needs 20 held-out rows or more, but the data give 10" in said, printed + said


def test_every_verb_works_on_a_program(place: Path) -> None:
    small = ["verification.pairs=60", "verification.resamples=100", "data.eval_rows=200"]
    assert call("init", "symbolic")[0] == 0
    for seed in (0, 1):
        steps = ["training.steps=4", "training.batch_size=64", f"seed={seed}"]
        code, printed, said = call("run", "symbolic.yaml", *small, *steps, "-o", f"runs/{seed}")
        assert code == 0, said
        assert "accuracy" in printed and "untrained" in printed and "wrong-map" in printed
    run = place / "runs" / "0"
    results = json.loads((run / "results.json").read_text())
    assert set(results["arms"]) == {"iit", "task", "wrong-map"}
    assert [one["name"] for one in results["program"]["variables"]] == ["inputs", "left", "right", "same"]
    checks = {one["name"]: one for one in results["program"]["checks"]}
    assert checks["program: answers"]["passed"] and "random pairs" in checks["program: left"]["detail"]
    program = program_named("symbolic.py:program", "here")
    config = load_config(run / "config.yaml")
    assert isinstance(config, NetworkRunConfig)
    held_out = rows_of(config.data, program, []).single["held-out"].columns
    again = certify_program(program, held_out, held_out["labels"], ["left", "right"])
    assert [one.detail for one in again] == [one["detail"] for one in results["program"]["checks"]]
    history = results["arms"]["iit"]["history"]
    assert [line["step"] for line in history] == [1, 2, 3, 4] and "loss/causal_ce" in history[0]
    assert results["comparison"]["baseline"] == "task" and results["arms"]["iit"]["cost"]["flops"] > 0
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    for shown in (page, text):
        assert "changes the answer in" in shown and "erplexity" not in shown and "okens" not in shown
    assert "left: True" in page or "left: False" in page
    assert (run / "iit" / "model.safetensors").is_file() and "pytorch" in (run / "iit" / "README.md").read_text()
    for arguments in (
        ("report", "runs/0"),
        ("ls", "runs"),
        ("compare", "runs/0", "runs/1"),
        ("explain", "symbolic.yaml"),
        ("export", "runs/0", "--arm", "iit", "-o", "exported"),
    ):
        code, printed, said = call(*arguments)
        assert code == 0 and printed, said
    assert call("gate", "runs/0", "--min-lower", "-5")[0] == 0
    schema = json.loads(call("schema", "--networks")[1])
    assert set(yaml.safe_load(Path("symbolic.yaml").read_text())) <= set(schema["properties"])
    assert call("gate", "runs/0", "--min-lower", "0.99")[0] == 1
    code, printed, said = call("verify", "--from", "exported", "-o", "again")
    assert code == 0 and "REPRODUCED: the answers in all 120 cases" in printed.replace("\n", " "), printed + said
    assert (place / "exported" / "symbolic.py").read_text() == Path("symbolic.py").read_text()
    assert "`teacher.program=...`" in (place / "exported" / "README.md").read_text()


@pytest.mark.usefixtures("place")
def test_a_run_is_resumed_with_the_students_that_are_there() -> None:
    folder = pipeline.train(load_config("planted.yaml"), "run", "iit")
    before = (folder / "iit" / "model.safetensors").read_bytes()
    (folder / "iit" / "training.json").write_text(
        (folder / "iit" / "training.json").read_text().replace('"seconds": ', '"seconds": 99')
    )
    pipeline.run(load_config("planted.yaml"), "run", resume=True)
    results = json.loads((folder / "results.json").read_text())
    assert results["arms"]["iit"]["seconds"] > 98 > results["arms"]["task"]["seconds"]
    assert (folder / "iit" / "model.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="is not the config that is to be resumed"):
        pipeline.run(load_config("planted.yaml", ["training.steps=4"]), "run", resume=True)


def test_each_side_of_two_networks_is_aligned_with_the_program_by_its_own_sites() -> None:
    upper, lower = Site.module("0.output", (0, 2)), Site.module("4.input")
    between = Alignment.pairs(positions="all", left=(upper, lower), right=(lower, upper))
    for side, sites in (("teacher", (upper, lower)), ("student", (lower, upper))):
        aligned = with_program(between, side)
        assert [one.student for one in aligned.variables] == [(site,) for site in sites]
        assert program_variables(aligned) == program_variables(between) == ["left", "right"]
        assert aligned.positions == between.positions


def test_a_chain_of_abstraction(place: Path) -> None:
    """A turned teacher answers as its program does but has not its variables; a copy follows the teacher alone."""
    planted(made(), turned=True)
    variables = [{**one, "teacher": one["student"]} for one in ALIGNMENT["variables"]]
    Path("alignment.yaml").write_text(yaml.safe_dump({"name": "networks", "variables": variables}))
    document = {
        **CONFIG,
        "teacher": {"network": "planted.py:network", "weights": "weights"},
        "arms": {},
        "verification": {**CONFIG["verification"], "program": "planted.py:program"},
    }
    Path("chain.yaml").write_text(yaml.safe_dump(document))
    folder = pipeline.verify(load_config("chain.yaml"), "weights", "alignment.yaml", place / "run")
    results = json.loads((folder / "results.json").read_text())
    assert results["verdict"]["label"] == "SUPPORTED"
    assert [(line["upper"], line["lower"]) for line in results["chain"]] == [
        ("program", "teacher"),
        ("teacher", "student"),
        ("teacher", "untrained"),
        ("program", "student"),
        ("program", "untrained"),
    ]
    assert results["chain"][1]["variables"]["left"]["iia"]["value"] == 1.0
    chain = {line["lower"]: line["variables"] for line in results["chain"] if line["upper"] == "program"}
    assert chain["untrained"]["left"]["iia"]["value"] < 0.95
    assert chain["teacher"] == chain["student"] and chain["teacher"]["left"]["iia"]["value"] < 0.95
    assert "Along the chain" in (folder / "report.html").read_text()


def test_pairs_are_balanced_in_training_and_verification(place: Path) -> None:
    paired = {**ALIGNMENT, "sources": {"kind": "paired"}}
    Path("alignment.yaml").write_text(yaml.safe_dump(paired))
    document = {
        **CONFIG,
        "data": {**CONFIG["data"], "balance": "changed"},
        "arms": {"iit": {"alignment": "alignment.yaml"}},
    }
    Path("paired.yaml").write_text(yaml.safe_dump(document))
    folder = pipeline.run(load_config("paired.yaml", ["verification.resamples=100"]), place / "run")
    cases = pd.read_parquet(folder / "outcomes.parquet")
    some = cases[(cases["student"] == "iit") & (cases["variable"] == "left")]
    inputs = made()["rows"]()[1]["inputs"]
    base, source = (inputs[torch.tensor(some[name].to_numpy())] for name in ("base", "source"))
    moved = (base[:, 0] == base[:, 1]) != (source[:, 0] == source[:, 1])
    assert moved.tolist() == (some["teacher_cf"] != some["teacher_base"]).tolist()
    assert 0.4 < float(moved.double().mean()) < 0.6
    assert "Alignment planted; sources: paired." in (folder / "report.md").read_text()


@pytest.mark.usefixtures("place")
def test_a_small_language_model_in_a_module_is_a_student() -> None:
    """Its block's output (rows, tokens, width) is flattened: the last token's neurons come last."""
    Path("language.py").write_text(
        "import torch\nfrom transformers import GPT2Config, GPT2Model\nimport iit_toolkit as iit\n"
        "program = iit.CausalModel(\n"
        "    {'inputs': (), 'sum': ('inputs',), 'odd': ('sum',)},\n"
        "    {'sum': lambda inputs: inputs.sum(1), 'odd': lambda sum: sum % 2},\n"
        "    {'sum': range(9), 'odd': (0, 1)}, 'odd')\n"
        "class Reader(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.gpt = GPT2Model(GPT2Config(vocab_size=4, n_positions=4, n_embd=8, n_layer=1, n_head=2))\n"
        "        self.head = torch.nn.Linear(8, 2)\n"
        "    def forward(self, inputs):\n"
        "        return self.head(self.gpt(inputs).last_hidden_state[:, -1])\n"
        "def bare():\n"
        "    return Reader().gpt\n"
        "def rows():\n"
        "    drawn = torch.randint(3, (300, 3), generator=torch.Generator().manual_seed(0))\n"
        "    return {'inputs': drawn[:150]}, {'inputs': drawn[150:]}\n"
    )
    site = {"component": "gpt.h[0].output", "neurons": [16, 24]}
    variable = {"name": "sum", "teacher": [{"variable": "sum"}], "student": [site]}
    document = {
        **CONFIG,
        "teacher": {"program": "language.py:program"},
        "student": {"network": "language.py:Reader"},
        "data": {"path": "language.py:rows"},
        "arms": {"iit": {"alignment": {"name": "sum", "variables": [variable]}}},
    }
    Path("language.yaml").write_text(yaml.safe_dump(document))
    checks = pipeline.validate(load_config("language.yaml"))
    assert all(check.passed for check in checks), checks
    pipeline.train(load_config("language.yaml", ["training.steps=1"]), "run", "iit")
    with pytest.raises(ValueError, match="returns a GPT2Model, whose answers are no"):
        pipeline.validate(load_config("language.yaml", ["student.network=language.py:bare"]))


@pytest.mark.usefixtures("place")
def test_rows_of_a_program_and_their_balance() -> None:
    Path("carry.py").write_text(
        "import torch\nimport iit_toolkit as iit\n"
        "program = iit.CausalModel(\n"
        "    {'a': (), 'b': (), 'carry': ('a', 'b')}, {'carry': lambda a, b: a + b > 7},\n"
        "    {'a': range(5), 'b': range(5), 'carry': (False, True)}, 'carry')\n"
    )
    program = program_named("carry.py:program", "here")

    def drawn(**changes: Any) -> Any:
        data = {"source": "program", "train_rows": 400, "eval_rows": 100, **changes}
        config = NetworkRunConfig.model_validate({**CONFIG, "data": data})
        return rows_of(config.data, program, ["carry"])

    plain = drawn()
    assert {split: len(rows) for split, rows in plain.single.items()} == {"train": 400, "held-out": 100}
    columns = plain.single["train"].columns
    assert torch.equal(columns["inputs"], torch.stack([columns["a"], columns["b"]], 1).float())
    assert 0 < float(columns["labels"].float().mean()) < 0.1
    assert float(drawn(balance="answers").single["train"].columns["labels"].float().mean()) == 0.5
    pairs = drawn(balance="changed", train_rows=2000).drawn["train"].columns
    before = pairs["labels"]
    after = program.answers(
        program.run(pairs, {"carry": program.run({"a": pairs["source_a"], "b": pairs["source_b"]})["carry"]})
    )
    assert float((before != after).float().mean()) > 0.3


def test_an_alignment_with_a_program_is_drawn() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    texts = [one.get_text() for one in Alignment.from_dict(ALIGNMENT).plot(object(), network).texts]
    assert any("left" in one for one in texts) and not any(one.startswith("block") for one in texts)
