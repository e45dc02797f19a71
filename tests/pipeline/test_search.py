"""Searches from the command line to their files, on a teacher that was built from its student."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.cli import main
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.pipeline.search import _halves  # pyright: ignore[reportPrivateUsage]
from iit_toolkit.runs.folder import RunFolder
from tests.pipeline.test_run import SIZES, call, sentences

CONFIG = """\
name: planted
task: causal_lm
teacher: teacher
student: {config: {num_hidden_layers: 3}}
data: {path: text, data_files: {train: text.txt, validation: text.txt}, max_length: 16, packing: false,
  shuffle_eval: false}
arms: {none: {}}
verification: {pairs: 120, resamples: 200, batch_size: 60}
"""


def llama(layers: int, seed: int = 0, **changed: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {**SIZES, "num_key_value_heads": 2, "num_hidden_layers": layers, **changed}
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.5)
    return model


def spread(student: LlamaForCausalLM) -> LlamaForCausalLM:
    """The student with an identity block after each of its own."""
    teacher = llama(2 * student.config.num_hidden_layers)
    weights = {}
    for name, value in student.state_dict().items():
        if name.startswith("model.layers."):
            layer, rest = name.removeprefix("model.layers.").split(".", 1)
            name = f"model.layers.{2 * int(layer)}.{rest}"
        weights[name] = value
    teacher.load_state_dict(weights, strict=False)
    for block in teacher.model.layers[1::2]:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
    return teacher


def save(model: LlamaForCausalLM, target: Path) -> None:
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(ASSETS / "teacher", model_max_length=32).save_pretrained(target)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with teacher, its student, a stranger, text and config."""
    place = tmp_path_factory.mktemp("search")
    student = llama(3)
    save(student, place / "student")
    save(spread(student), place / "teacher")
    save(llama(3, seed=9), place / "stranger")
    (place / "text.txt").write_text("\n".join(sentences(130)))
    (place / "config.yaml").write_text(CONFIG)
    return place


@pytest.fixture(autouse=True)
def working_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")


@pytest.fixture(scope="module")
def found(place: Path) -> tuple[dict[str, Any], str]:
    """The document of the planted student's search, and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        printed = call("search", "config.yaml", "--student", "student", "-o", "found")
    return json.loads((place / "found" / "search.json").read_text()), printed


def test_the_planted_map_is_found_and_confirmed(found: tuple[dict[str, Any], str]) -> None:
    document, printed = found
    assert document["schema"] == "iit_toolkit/search/2"
    assert document["map"] == [{"student_layer": 0, "teacher_layer": 0}, {"student_layer": 1, "teacher_layer": 2}]
    assert document["confirmation"]["verdict"]["label"] == "SUPPORTED"
    students = document["confirmation"]["summary"]["students"]
    assert set(students) == {"student", "untrained"}
    assert students["student"]["variables"]["layer-1"]["effect_r2"]["outside"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert (document["matrix"]["measure"], document["confirmation"]["verdict"]["measure"]) == ("effect_r2",) * 2
    assert "effect R², outside; * chosen" in printed
    assert document["confirmation"]["controls"]["self_swap"]["changed"] == 0
    assert len(document["matrix"]["cells"]) == 18
    assert "exploratory" in " ".join(printed.split()) and "SUPPORTED for student" in printed
    assert printed.splitlines()[-1] == f"alignment: {Path('found/alignment.yaml')}"


def test_it_is_confirmed_on_pairs_that_had_no_part_in_choosing(found: tuple[dict[str, Any], str]) -> None:
    document, _ = found
    confirmed = read_outcomes(Path("found/outcomes.parquet"))
    assert {part: rows["examples"] for part, rows in document["data"].items()} == {"choosing": 60, "confirming": 60}
    assert document["data"]["choosing"]["fingerprint"] != document["data"]["confirming"]["fingerprint"]
    assert set(confirmed["base"]) == set(confirmed["source"]) == set(range(60, 120))


def test_the_rows_of_a_text_are_in_one_half() -> None:
    texts = [0, 1, 1, 0, 2, 3, 3, 3, 2, 4]
    rows = datasets.Dataset.from_dict({"input_ids": [[1]] * 10, "text_id": texts})
    assert _halves(rows, 10) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    assert _halves(rows, 8) == ([0, 1, 2, 3], [4, 5, 6, 7])
    assert _halves(rows.remove_columns("text_id"), 9) == ([0, 1, 2, 3], [4, 5, 6, 7, 8])
    assert _halves(datasets.Dataset.from_dict({"text_id": [7] * 4}), 4) == ([0, 1, 2, 3], [])


@pytest.mark.usefixtures("found")
def test_the_files_are_those_that_the_guide_names() -> None:
    files = {path.relative_to("found").as_posix() for path in Path("found").rglob("*") if path.is_file()}
    figure = {f"figures/layers.{kind}" for kind in ("svg", "png", "csv")}
    assert files == {"search.json", "alignment.yaml", "outcomes.parquet"} | figure
    ElementTree.parse("found/figures/layers.svg")


def test_the_figures_data_are_those_of_the_matrix(found: tuple[dict[str, Any], str]) -> None:
    document, _ = found
    table = pd.read_csv("found/figures/layers.csv")
    assert len(table) == 2 * 18
    chosen = table[table["chosen"] & (table["region"] == "outside")]
    assert list(zip(chosen["teacher_layer"], chosen["student_layer"], strict=True)) == [(0, 0), (2, 1)]
    for cell in document["matrix"]["cells"]:
        row = table[
            (table["teacher_layer"] == cell["teacher_layer"])
            & (table["student_layer"] == cell["student_layer"])
            & (table["region"] == "outside")
        ].iloc[0]
        assert row["counted"] == cell["outside"]["counted"]
        value = cell["outside"]["above_floor"]
        assert pd.isna(row["above_floor"]) if value is None else row["above_floor"] == pytest.approx(value)


@pytest.mark.usefixtures("found")
def test_verify_takes_the_alignment() -> None:
    assert [one.teacher[0].layer for one in Alignment.from_yaml("found/alignment.yaml").variables] == [0, 2]
    given = ["verification.pairs=80", "--student", "student", "--alignment", "found/alignment.yaml"]
    call("verify", "config.yaml", *given, "-o", "verified")
    assert RunFolder.open("verified").read_results()["verdict"]["label"] == "SUPPORTED"


def test_a_strangers_map_is_not_confirmed() -> None:
    call("search", "config.yaml", "--student", "stranger", "-o", "strange")
    verdict = json.loads(Path("strange/search.json").read_text())["confirmation"]["verdict"]
    assert verdict["label"] != "SUPPORTED"


def test_it_can_rest_on_another_measure() -> None:
    printed = call("search", "config.yaml", "--student", "student", "--measure", "iia", "-o", "by-answers")
    document = json.loads(Path("by-answers/search.json").read_text())
    assert document["matrix"]["measure"] == document["confirmation"]["verdict"]["measure"] == "iia"
    assert document["config"]["verification"]["measure"] == "iia"
    assert "IIA minus its floor, outside; * chosen" in printed and "floor" in printed


def test_positions_and_sources_are_those_of_the_configs_alignment() -> None:
    few = ["config.yaml", "verification.pairs=80", "--student", "student"]
    call("search", *few, "verification.alignment=diito/middle", "-o", "policy")
    site = "[{component: block_output, layer: 0}]"
    given = (
        f"{{name: x, variables: [{{name: v, teacher: {site}, student: {site}}}], "
        "positions: {kind: random, fraction: 0.5}, sources: {kind: dataset}}"
    )
    call("search", *few, f"verification.alignment={given}", "-o", "other-policy")
    first, second = (Alignment.from_yaml(f"{folder}/alignment.yaml") for folder in ("policy", "other-policy"))
    assert (first.positions.kind, first.sources.kind) == ("span", "in_batch")
    assert (second.positions.kind, second.sources.kind) == ("random", "dataset")


@pytest.fixture(scope="module")
def subspace(place: Path) -> tuple[dict[str, Any], str]:
    """The document of a search for subspaces, and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        small = "verification.batch_size=16"  # so that a pass has several steps
        layers = ["--subspace", "4", "--teacher-layer", "2", "--student-layer", "1"]
        printed = call("search", "config.yaml", small, "--student", "student", *layers, "-o", "subspace")
    return json.loads((place / "subspace" / "subspace.json").read_text()), printed


def test_subspaces_are_learned_and_confirmed_against_a_random_one(subspace: tuple[dict[str, Any], str]) -> None:
    document, printed = subspace
    assert document["schema"] == "iit_toolkit/subspace/1"
    assert (document["teacher_layer"], document["student_layer"], document["rank"]) == (2, 1, 4)
    for part in ("teacher_subspace", "confirmation"):
        students = document[part]["summary"]["students"]
        assert list(students) == ["learned subspace", "random subspace"]
        shares = [
            next(iter(one["variables"].values()))["effective_iia"]["outside"]["value"] for one in students.values()
        ]
        assert shares[0] > shares[1]
        assert document[part]["controls"]["self_swap"]["changed"] == 0
    verdict = document["confirmation"]["verdict"]
    assert verdict["student"] == "learned subspace"
    assert f"{verdict['label']} for learned subspace" in printed
    assert printed.splitlines()[-1] == f"subspaces: {Path('subspace/subspaces.safetensors')}"
    assert set(read_outcomes(Path("subspace/outcomes.parquet"))["base"]) <= set(range(60, 120))


@pytest.mark.usefixtures("subspace")
def test_the_learned_bases_are_kept() -> None:
    assert {path.name for path in Path("subspace").iterdir()} == {
        "subspace.json",
        "subspaces.safetensors",
        "outcomes.parquet",
    }
    bases = load_file("subspace/subspaces.safetensors")
    assert set(bases) == {"teacher", "student"}
    for basis in bases.values():
        assert basis.shape == (SIZES["hidden_size"], 4)
        assert torch.allclose(basis.T @ basis, torch.eye(4), atol=1e-5)


REFUSED_SUBSPACES = {
    "no layers": (["--subspace", "4"], "belong together"),
    "no rank": (["--teacher-layer", "1", "--student-layer", "1"], "belong together"),
    "a rank beyond the width": (
        ["--subspace", "16", "--teacher-layer", "1", "--student-layer", "1"],
        "choose a rank of 1 to 15",
    ),
    "a layer that is not there": (
        ["--subspace", "4", "--teacher-layer", "6", "--student-layer", "1"],
        "layers 0 to 5",
    ),
    "the last layer": (
        ["--subspace", "4", "--teacher-layer", "5", "--student-layer", "1"],
        "changes no answer outside",
    ),
}


@pytest.mark.parametrize("case", REFUSED_SUBSPACES)
def test_what_cannot_be_a_subspace_is_one_line_and_leaves_nothing(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = REFUSED_SUBSPACES[case]
    with pytest.raises(SystemExit) as exit_:
        main(["search", "config.yaml", "--student", "student", *options, "-o", "refused"])
    told = capsys.readouterr()
    assert (exit_.value.code, told.out) == (2, "")
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], told.err
    assert not Path("refused").exists()


REFUSED = {
    "an unknown measure": (["--measure", "effect_r"], "student", 'did you mean "effect_r2"?'),
    "too few pairs": (["verification.pairs=39"], "student", "a search needs 40 pairs or more"),
    "no student": ([], "nowhere", "nowhere"),
    "another vocabulary": ([], "other-words", "teacher has 5000 tokens, student 5100"),
    "nothing changes": (["teacher=shallow"], "shallow", "no layers can be aligned"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_searched_is_one_line_and_leaves_nothing(
    case: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides, student, message = REFUSED[case]
    if case == "another vocabulary":
        save(llama(3, vocab_size=5100), place / student)
    if case == "nothing changes":  # a single block: its swap reaches no other position
        save(llama(1), place / student)
    with pytest.raises(SystemExit) as exit_:
        main(["search", "config.yaml", *overrides, "--student", student, "-o", "refused/here"])
    told = capsys.readouterr()
    assert (exit_.value.code, told.out) == (2, "")
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], told.err
    assert "Traceback" not in told.err
    assert not Path("refused").exists()


def test_a_taken_folder_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    with pytest.raises(SystemExit):
        main(["search", "config.yaml", "--student", "student", "-o", "taken"])
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in Path("taken").iterdir()] == ["mine.txt"]
