"""A verification of two finished models without a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig

from iit_toolkit.cli import main
from iit_toolkit.config.loading import load_config
from iit_toolkit.config.run_config import StudentConfig
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline import finished_config
from iit_toolkit.pipeline.prepare import Prepared, untrained_control
from tests.cli.test_planted import EARLY, SIZES, TEACHER, WORDS, make
from tests.data.conftest import SPECIAL, words_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with teacher, student, texts and alignment, and nothing that was trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")
    drawn = torch.randint(len(WORDS), (240, 16), generator=torch.Generator().manual_seed(0)).tolist()
    Path("held-out.txt").write_text("".join(" ".join(WORDS[word] for word in row) + "\n" for row in drawn))
    others = (f"w{index}" for index in range(SIZES["vocab_size"] - len(SPECIAL) - len(WORDS)))
    tokenizer = words_of(*WORDS, *others)
    tokenizer.model_max_length = 32
    for name, blocks in {"teacher": TEACHER, "student": EARLY}.items():
        make(blocks).eval().save_pretrained(name)
        tokenizer.save_pretrained(name)
    site: dict[str, Any] = {"component": "block_output"}
    variable = {"name": "middle", "teacher": [{"layer": 3, **site}], "student": [{"layer": 1, **site}]}
    Path("a.yaml").write_text(json.dumps({"name": "a", "variables": [variable]}))
    return tmp_path


GIVEN = ("--teacher", "teacher", "--student", "student", "--alignment", "a.yaml", "--data", "held-out.txt")


@pytest.mark.usefixtures("place")
def test_two_models_and_a_text_are_enough_for_a_verdict() -> None:
    settings = ["verification.pairs=120", "verification.resamples=200", "data.max_length=24", "data.packing=false"]
    with pytest.raises(SystemExit) as ended:
        main(["verify", *GIVEN, *settings])
    assert ended.value.code in (0, None)
    results = json.loads(Path("runs/student/results.json").read_text())
    assert results["verdict"]["label"] == "SUPPORTED"
    controls = {one["name"]: one["passed"] for one in results["verdict"]["variables"]["middle"]["controls"]}
    assert controls["untrained"] is True and results["arms"] == {}
    config = load_config("runs/student/config.yaml")
    assert config.arms == {} and config == finished_config("teacher", "student", "held-out.txt", settings)


@pytest.mark.usefixtures("place")
def test_without_arms_the_control_is_the_students_class_with_random_weights() -> None:
    prepared = Prepared(finished_config("teacher", "student", "held-out.txt"))
    student = make(EARLY)
    alignment = prepared.alignment("a.yaml", student)
    one, two = (untrained_control(prepared, alignment, student)["untrained"] for _ in range(2))
    assert type(one) is BertForMaskedLM and one.config.num_hidden_layers == len(EARLY)
    weights, again, of_student = (dict(model.named_parameters()) for model in (one, two, student))
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    dense = [name for name in weights if name.endswith("dense.weight")]
    assert dense and not any(torch.equal(weights[name], of_student[name]) for name in dense)
    student.save_pretrained("itself")
    named = Prepared(prepared.config.model_copy(update={"student": StudentConfig(checkpoint="itself")}))
    itself = untrained_control(named, alignment, student)["untrained"]  # not the student that is judged
    assert all(torch.equal(weight, weights[name]) for name, weight in itself.named_parameters())
    given = Prepared(prepared.config.model_copy(update={"student": load_config("demo").student}))
    assert untrained_control(given, alignment, student) == {}  # its own says six blocks


@pytest.mark.parametrize(
    ("name", "builder"),
    [("a.txt", "text"), ("a.jsonl", "json"), ("a.json", "json"), ("a.csv", "csv"), ("a.parquet", "parquet")],
)
def test_data_are_read_as_their_name_says(name: str, builder: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("")
    data = finished_config("embedded", "s", str(path)).data
    assert (data.path, data.data_files, data.eval_split) == (builder, {"validation": str(path)}, "validation")
    assert finished_config("embedded", "s", "python_docs").data.source == "python_docs"
    assert finished_config("embedded", "s", "nyu-mll/glue", ["data.name=sst2"]).data.path == "nyu-mll/glue"


def test_the_task_is_that_of_the_teachers_head_and_the_name_that_of_the_student(tmp_path: Path) -> None:
    config = LlamaConfig(architectures=["LlamaForCausalLM"])
    config.save_pretrained(tmp_path / "llama")
    (tmp_path / "llama" / "model.safetensors").touch()
    found = finished_config(str(tmp_path / "llama"), "me/my.best model", "python_docs")
    assert (found.task, found.name) == ("causal_lm", "my-best-model")
    BertConfig(architectures=["BertModel"]).save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").touch()
    with pytest.raises(UserError, match="says BertModel, which names no task; give task=masked_lm"):
        finished_config(str(tmp_path / "bare"), "s", "python_docs")
    assert finished_config(str(tmp_path / "bare"), "s", "python_docs", ["task=causal_lm"]).task == "causal_lm"


@pytest.mark.parametrize(
    ("data", "said"), [("no.txt", "no such file"), ("folder", "is a folder"), ("a.bin", "no kind of file")]
)
def test_data_that_cannot_be_read_are_refused(
    data: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("a.bin").write_text("x")
    with pytest.raises(UserError, match=said):
        finished_config("embedded", "s", data)
