"""Traces from the command line to their files, and the warning of alignments that swap what hardly moves a teacher."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch

from iit_toolkit import pipeline
from iit_toolkit.alignment import Alignment
from iit_toolkit.cli import main
from iit_toolkit.config.loading import load_config
from tests.pipeline.test_run import call, sentences
from tests.pipeline.test_search import llama, save

CONFIG = """\
name: planted
task: causal_lm
teacher: teacher
student: {config: {num_hidden_layers: 2}}
data: {path: text, data_files: {train: text.txt, validation: other.txt}, max_length: 16, packing: false}
arms: {none: {}, late: {alignment: late.yaml}}
verification: {pairs: 30, resamples: 200, batch_size: 15, alignment: early.yaml}
"""
MOVER = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher whose tokens read each other in block 2 only, texts, config and two alignments."""
    place = tmp_path_factory.mktemp("trace")
    teacher = llama(4)
    for number, block in enumerate(teacher.model.layers):
        if number != MOVER:
            torch.nn.init.zeros_(block.self_attn.o_proj.weight)
    save(teacher, place / "teacher")
    lines = sentences(90)
    (place / "text.txt").write_text("\n".join(lines[:50]))
    (place / "other.txt").write_text("\n".join(lines[50:]))
    (place / "config.yaml").write_text(CONFIG)
    for name, component, layer in (("early", "block_output", 1), ("late", "attention_output", 3)):
        alignment = Alignment.pairs(name, **{name: (_site(component, layer), 0)})
        (place / f"{name}.yaml").write_text(alignment.to_yaml())
    return place


def _site(component: str, layer: int) -> Any:
    from iit_toolkit.alignment import Site

    return Site(component=component, layer=layer)


@pytest.fixture(autouse=True)
def working_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")


def test_a_planted_place_is_traced_told_and_proposed() -> None:
    printed = call("trace", "config.yaml", "--pairs", "30", "--heads", "--propose", "-o", "traced")
    document = json.loads(Path("traced/trace.json").read_text())
    assert document["schema"] == "iit_toolkit/trace/1" and document["student_layers"] == 2
    assert document["data"]["examples"] == 30
    cells = document["trace"]["cells"]
    heads = {cell["head"] for cell in cells}
    assert heads == {None, *range(int(llama(4).config.num_attention_heads))}
    for cell in cells:
        if (cell["positions"], cell["component"]) == ("span", "block_output"):
            assert (cell["changed"] > 0.05) == (cell["layer"] < MOVER) and cell["texts"] == 30
    lines = printed.splitlines()
    assert lines[-3].startswith(f"Swap block {MOVER - 1}: ") and lines[-3].endswith("; above it, at most 0.0%.")
    assert lines[-2:] == ["alignment: traced/alignment.yaml", "report: traced/README.md"]
    assert [line.split()[0] for line in lines if line.strip()[:1].isdigit()] == ["0", "1", "2", "3"]
    proposed = Alignment.from_yaml("traced/alignment.yaml")
    assert document["alignment"] == proposed.to_dict()
    [variable] = proposed.variables
    assert (variable.teacher[0].layer, variable.student[0].layer) == (MOVER - 1, 0)
    page = Path("traced/README.md").read_text()
    assert document["place"] in page and "(figures/trace.svg)" in page and proposed.to_yaml().rstrip() in page
    assert {path.name for path in Path("traced/figures").iterdir()} == {"trace.svg", "trace.png", "trace.csv"}
    ElementTree.parse("traced/figures/trace.svg")
    assert len(pd.read_csv("traced/figures/trace.csv")) == len(cells)
    refused("trace", "config.yaml", "-o", "traced")


def test_what_is_proposed_can_be_validated(caplog: pytest.LogCaptureFixture) -> None:
    named = ("--components", "block_output,mlp_output", "--student-layers", "3", "--json", "-o", "named")
    assert json.loads(call("trace", "config.yaml", "--pairs", "20", *named))["folder"] == "named"
    parts = {cell["component"] for cell in json.loads(Path("named/trace.json").read_text())["trace"]["cells"]}
    assert parts == {"block_output", "mlp_output"}
    sized = ["student.config={num_hidden_layers: 3}", "arms={none: {}}", "verification.alignment=named/alignment.yaml"]
    assert all(check.passed for check in pipeline.validate(load_config("config.yaml", sized)))
    assert "next to nothing" not in caplog.text


def test_neurons_are_found_told_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    chosen = ("--components", "block_output", "--pairs", "24", "--neurons")
    printed = call("trace", "config.yaml", *chosen, "-o", "neurons").splitlines()
    document = json.loads(Path("neurons/trace.json").read_text())
    neurons, width = document["neurons"], int(llama(4).config.hidden_size)
    assert sorted(neurons["order"]) == list(range(width))
    assert neurons["attribution"] == sorted(neurons["attribution"], reverse=True)
    assert (neurons["layer"], neurons["component"], neurons["positions"]) == (MOVER - 1, "block_output", "span")
    numbers = [row["neurons"] for row in neurons["shares"]]
    assert numbers[:3] == [1, 2, 4] and numbers[-1] == width
    for row in neurons["shares"]:
        assert row["chosen_low"] <= row["chosen"] <= row["chosen_high"]
        assert (row["random"] is None) == (row["neurons"] == width)
    start = printed.index(f"Answers that change if only neurons of block {MOVER - 1} are swapped:")
    table = printed[start + 1 : start + 4 + len(numbers)]
    assert [int(line.split()[0]) for line in table[-len(numbers) :]] == numbers
    assert max(map(len, table)) <= 60 and neurons["line"] in printed
    page = Path("neurons/README.md").read_text()
    assert f"## Neurons of block {MOVER - 1}" in page and neurons["line"] in page
    assert ", ".join(map(str, neurons["order"][:1])) in page
    assert document["neurons"]["cases"] > 0
    call("trace", "config.yaml", "--components", "block_output", "--pairs", "24", "-o", "without")
    without = json.loads(Path("without/trace.json").read_text())
    assert without["neurons"] is None and without["trace"] == document["trace"]
    assert "Neurons" not in Path("without/README.md").read_text()


def test_without_an_effect_no_neurons_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """In this component, the blocks do nothing."""
    teacher = llama(4)
    for block in teacher.model.layers:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
    save(teacher, Path("still").absolute())
    refused("trace", "config.yaml", "teacher=still", "--neurons", "--components", "block_output", "-o", "refused")
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: no neurons can be found: swaps of span positions change nothing")
    assert not Path("refused").exists()


def test_validate_warns_of_what_hardly_moves_the_teacher(caplog: pytest.LogCaptureFixture) -> None:
    """The attention of block 3 adds nothing; the output of block 1 is what block 2 reads."""
    assert all(check.passed for check in pipeline.validate(load_config("config.yaml", [])))
    [told] = [record.getMessage() for record in caplog.records if "next to nothing" in record.getMessage()]
    assert told.startswith('late: swapping "late" changes the teacher\'s answer in 0.0% of cases')
    assert told.endswith("run `iit-toolkit trace` to see where")


def refused(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--components", "blok_output"], 'no component "blok_output", did you mean "block_output"?'),
        (["--components", ","], "no component to swap"),
        (["--student-layers", "5"], "a student of 5 layers cannot be aligned with a teacher of 4"),
        (["--student-layers", "0"], "a student of 0 layers cannot be aligned"),
        (["--student-layers", "2", "--components", "mlp_output"], "an alignment is proposed by block outputs"),
        (["--pairs", "1"], "pairs is 1; give 2 or more"),
    ],
)
def test_bad_input_gives_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused("trace", "config.yaml", *options, "-o", "refused")
    told = capsys.readouterr().err
    assert message in told and told.startswith("error: ") and told.count("\n") == 1
    assert not Path("refused").exists()
