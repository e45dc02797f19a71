"""Searches for the variables of a program or network, from the command line to their files, in a planted network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from iit_toolkit import pipeline
from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.stored_search import read_stored_search
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import load_config
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.networks.search import halves
from iit_toolkit.runs.folder import RunFolder
from tests.cli.test_bad_programs import refused as refused
from tests.pipeline.test_networks import call, made, planted
from tests.pipeline.test_networks import place as place

pytestmark = pytest.mark.usefixtures("place")

ORDER = [0, 2, 1, 3]
"""Neurons in an order in which the halves hold a part of each variable."""
MORE = """
import torch
import iit_toolkit as iit
from planted import network, planted, program, rows


def trained():
    return planted(torch.eye(4).double())


def labelled():
    return [{**some, "labels": program.answers(program.run(some))} for some in rows()]


class Bare(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, 2).double())

    def forward(self, inputs):
        return inputs @ self.weight


def ends():
    return iit.CausalModel(
        {"inputs": (), "same": ("inputs",)}, {"same": lambda inputs: inputs[:, 0] > 0}, {"same": (False, True)}, "same"
    )
"""


def search(*options: str, student: str = "weights", output: str = "found") -> tuple[dict[str, Any], str]:
    """Search from the command line, and return the document and what was printed."""
    code, printed, said = call("search", "planted.yaml", "arms={}", "--student", student, "-o", output, *options)
    assert code == 0, said
    return json.loads((Path(output) / "search.json").read_text()), printed


def sites(document: dict[str, Any]) -> dict[str, Any]:
    """What was chosen, by variable."""
    tried = document["matrix"]["sites"]
    return {
        one["variable"]: (tried[one["site"]]["component"], tried[one["site"]]["neurons"]) for one in document["map"]
    }


def save(network: torch.nn.Module, folder: str) -> None:
    Path(folder).mkdir()
    save_file({name: one.contiguous() for name, one in network.state_dict().items()}, f"{folder}/model.safetensors")


def test_the_planted_sites_are_found_confirmed_and_verified(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    planted(made(), turned=False)
    document, printed = search()
    assert document["schema"] == "iit_toolkit/site-search/1"
    assert sites(document) == {"left": ("0.output", [0, 2]), "right": ("0.output", [2, 4])}
    verdict = document["confirmation"]["verdict"]
    assert verdict["label"] == "SUPPORTED" and set(document["confirmation"]["summary"]["students"]) == {
        "student",
        "untrained",
    }
    assert {control["name"] for control in verdict["variables"]["left"]["controls"]} >= {"untrained", "random neurons"}
    assert [half["examples"] for half in document["data"].values()] == [150, 150]

    assert max(map(len, printed.splitlines()[:-1])) <= 60
    words = " ".join(printed.split())
    assert "0.output [0, 2)" in words and "SUPPORTED for student" in words and "exploratory" in words
    assert printed.splitlines()[-1] == f"alignment: {Path('found/alignment.yaml')}"

    files = {path.relative_to("found").as_posix() for path in Path("found").rglob("*") if path.is_file()}
    figure = {f"figures/sites.{kind}" for kind in ("svg", "png", "csv")}
    assert files == {"search.json", "alignment.yaml", "outcomes.parquet", "controls.parquet"} | figure
    table = pd.read_csv("found/figures/sites.csv")
    assert len(table) == len(document["matrix"]["cells"]) == 2 * len(document["matrix"]["sites"])
    chosen = [one for one in table.to_dict("records") if one["chosen"]]
    assert [[one[name] for name in ("variable", "component", "low", "high")] for one in chosen] == [
        ["left", "0.output", 0, 2],
        ["right", "0.output", 2, 4],
    ]
    config = load_config("planted.yaml")
    assert isinstance(config, NetworkRunConfig)
    _, confirming = halves(PreparedNetworks(config).rows.drawn["held-out"], 300, config.seed)
    confirmed = read_outcomes(Path("found/outcomes.parquet"))
    assert set(confirmed["base"]) == set(confirmed["source"]) == set(confirming.columns["example_id"].tolist())

    found = Alignment.from_yaml("found/alignment.yaml")
    assert (found.name, found.sources.kind) == ("planted-searched", "in_batch")
    pipeline.verify(load_config("planted.yaml"), "weights", "found/alignment.yaml", place / "run")
    assert RunFolder.open("run").read_results()["verdict"]["label"] == "SUPPORTED"


def permuted() -> torch.nn.Module:
    """The planted network with the neurons of every hidden layer in another order: the same function."""
    network = made()["planted"](torch.eye(4).double())
    for layer, below in ((network[3], network[2]), (network[2], network[0]), (network[5], network[3])):
        below.weight.data = below.weight[ORDER]
        if below.bias is not None:
            below.bias.data = below.bias[ORDER]
        layer.weight.data = layer.weight[:, ORDER]
    return network


def test_neurons_across_the_halves_are_not_confirmed() -> None:
    given = torch.randint(2, (20, 4), generator=torch.Generator().manual_seed(5)).double()
    plain = made()["planted"](torch.eye(4).double())
    assert torch.allclose(plain(given), permuted()(given))
    save(permuted(), "weights")
    document, _ = search("--parts", "1", "--parts", "2")
    assert document["confirmation"]["verdict"]["label"] == "NOT SUPPORTED"


def test_an_untrained_network_is_not_confirmed() -> None:
    torch.manual_seed(11)
    save(made()["network"](), "weights")
    document, _ = search("verification.resamples=100")
    assert document["confirmation"]["verdict"]["label"] == "NOT SUPPORTED"


def test_a_teacher_networks_sites_come_from_the_alignment() -> None:
    Path("more.py").write_text(MORE)
    planted(made(), turned=False)
    asked = [
        {"name": name, "teacher": [{"component": "2.output", "neurons": neurons}]}
        for name, neurons in (("first", [0, 2]), ("second", [2, 4]))
    ]
    given = yaml.safe_dump({"name": "asked", "variables": asked}, default_flow_style=True, width=10_000).strip()
    teacher = ["teacher={network: 'more.py:trained'}", "data.path=more.py:labelled"]
    document, _ = search(*teacher, f"verification.alignment={given}", "--module", "3", "--module", "1.output")
    assert sites(document) == {"first": ("1.output", [0, 2]), "second": ("1.output", [2, 4])}
    assert {one["component"] for one in document["matrix"]["sites"]} == {"1.output", "3.output"}
    assert document["confirmation"]["verdict"]["label"] == "SUPPORTED"
    found = Alignment.from_yaml("found/alignment.yaml")
    assert found.to_dict()["variables"][0]["teacher"] == asked[0]["teacher"]


def test_variables_and_sources_are_those_of_the_configs_alignment() -> None:
    planted(made(), turned=False)
    document, _ = search("data.balance=changed", "verification.pairs=300")
    assert Alignment.from_yaml("found/alignment.yaml").sources.kind == "paired"
    assert set(sites(document)) == {"left", "right"}
    Path("right.yaml").write_text(
        yaml.safe_dump({"name": "one", "variables": [{"name": "r", "teacher": [{"variable": "right"}]}]})
    )
    document, _ = search("verification.alignment=right.yaml", "--measure", "iia", output="one")
    assert sites(document) == {"r": ("0.output", [2, 4])}
    assert document["matrix"]["measure"] == document["confirmation"]["verdict"]["measure"] == "iia"


def test_halves_share_no_row() -> None:
    single = TensorRows({"inputs": torch.arange(200.0)[:, None], "labels": torch.zeros(200, dtype=torch.long)})
    found = [set(half.columns["example_id"].tolist()) for half in halves(single, 100, 3)]
    assert [len(half) for half in found] == [50, 50] and not found[0] & found[1]
    assert found != [set(half.columns["example_id"].tolist()) for half in halves(single, 100, 4)]
    assert max(found[0]) > 150  # rows are drawn, not the first
    base, source = torch.randint(200, (2, 400), generator=torch.Generator().manual_seed(0))
    pairs = halves(single.pairs(base, source), 400, 3)
    read = [{*one.columns["example_id"].tolist(), *one.columns["source_example_id"].tolist()} for one in pairs]
    assert not read[0] & read[1] and all(70 < len(half) < 130 for half in pairs)
    with pytest.raises(UserError, match="one half of these 60 has"):
        halves(single.pairs(base, source), 60, 3)


def test_a_report_shows_a_search_in_its_run_folder(place: Path) -> None:
    planted(made(), turned=False)
    run = pipeline.verify(load_config("planted.yaml"), "weights", "alignment.yaml", place / "run")
    search("--parts", "2", output="run/search")
    [plot] = read_stored_search(RunFolder(run))
    assert plot.name == "sites" and "Search of student weights against teacher planted.py:program." in plot.caption
    for kind in ("svg", "png", "csv"):
        name = f"figures/sites.{kind}"
        assert (run / name).read_bytes() == (run / "search" / name).read_bytes()
    code, _, said = call("report", str(run))
    assert code == 0 and 'id="figure-sites"' in (run / "report.html").read_text(), said
    document = json.loads((run / "search" / "search.json").read_text())
    changes: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("one for each variable and site", lambda found: found["matrix"]["cells"].pop()),
        ("a variable or site that there is not", lambda found: found["map"][0].update(site=999)),
        ("a variable or site that there is not", lambda found: found["map"][0].update(variable="third")),
        ("above_floor: input", lambda found: found["matrix"]["cells"][0]["figures"].update(above_floor=2.0)),
        ("matrix: it has 1 to 200 variables", lambda found: found["matrix"].update(sites=[])),
    ]
    for words, change in changes:
        damaged = json.loads(json.dumps(document))
        change(damaged)
        (run / "search" / "search.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=words) as caught:
            read_stored_search(RunFolder(run))
        assert "\n" not in str(caught.value)


REFUSED: dict[str, tuple[list[str], str]] = {
    "too few rows": (["verification.pairs=39"], "a search needs 40 held-out rows or more"),
    "no such weights": (["--student", "nowhere"], "student.weights: nowhere/model.safetensors: no such file"),
    "weights of another network": (["--student", "others"], "does not fit the network"),
    "no such module": (["--module", "9"], "has no '9'"),
    "a module with no such output": (["--module", "0.weight"], "has no 'weight'"),
    "no candidate sites": (
        ["student.network=more.py:Bare", "--student", "bare"],
        "no candidate sites: no module of Bare",
    ),
    "no parts": (["--parts", "0"], "parts: 0: give numbers of 1 or more"),
    "an unknown measure": (["--measure", "effect_r"], 'did you mean "effect_r2"?'),
    "a program without variables": (
        ["teacher.program=more.py:ends", "arms={}"],
        "has no variable between its inputs and its answer",
    ),
    "a teacher network without sites": (
        ["teacher={network: 'more.py:trained'}", "arms={}"],
        "nothing says which sites of the teacher to search for",
    ),
    "a subspace of the teacher": (
        [
            "teacher={network: 'more.py:trained'}",
            "arms={}",
            "verification.alignment={name: x, variables: [{name: v, teacher: [{component: 2.output, subspace: "
            "{rank: 2}}]}]}",
        ],
        "a search keeps the teacher's sites",
    ),
    "subspaces": (
        ["--subspace", "2", "--teacher-layer", "0", "--student-layer", "0"],
        "its teacher is a program or a network of torch",
    ),
    "modules of subspaces": (
        ["--subspace", "2", "--teacher-layer", "0", "--student-layer", "0", "--module", "1"],
        "--parts and --module say what a search without --subspace tries",
    ),
    "too few affected rows": (
        ["arms={}", "verification.pairs=40", "data.eval_rows=40"],
        "variable left: no site can be chosen",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_searched_is_one_line(refused: Callable[..., str], name: str) -> None:
    Path("more.py").write_text(MORE)
    planted(made(), turned=False)
    save(torch.nn.Sequential(torch.nn.Linear(5, 4)), "others")
    Path("bare").mkdir()
    save_file({"weight": torch.ones(4, 2).double()}, "bare/model.safetensors")
    options, words = REFUSED[name]
    own = [] if "--student" in options else ["--student", "weights"]
    said = refused("search", "planted.yaml", *options, *own, "-o", "refused/here")
    assert words in said, said
    assert not Path("refused").exists()


def test_a_search_of_layers_takes_no_modules(refused: Callable[..., str]) -> None:
    said = refused("search", "quickstart", "--student", "x", "--parts", "2")
    assert "--parts and --module are for configs of programs and networks" in said
