"""Whole runs, from the command line to the files of the run folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from iit_toolkit import pipeline
from iit_toolkit.alignment import Alignment, preset
from iit_toolkit.analysis.report.examples import read_answers, read_examples
from iit_toolkit.analysis.statistics.outcomes import IN_TEACHER, read_outcomes
from iit_toolkit.analysis.statistics.summary import Summary
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.cli import main
from iit_toolkit.config.loading import ASSETS, load_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.arms import train_arm
from iit_toolkit.pipeline.prepare import Prepared, fingerprint_of_rows
from iit_toolkit.pipeline.verifying import baseline_arm
from iit_toolkit.runs.folder import RunFolder
from tests.drawing import figures_drawn
from tests.embedded import in_real_use
from tests.made_once import made_once
from tests.tiny_runs import tiny_run

TINY = [
    "training.max_steps=2",
    "training.per_device_train_batch_size=4",
    "data.max_length=32",
    "verification.pairs=16",
    "verification.resamples=200",
]
TABLES = {"outcomes.parquet", "controls.parquet", "examples.parquet", "answers.parquet"}
FILES = {"config.yaml", "alignment.yaml", "results.json", "report.html", "report.md"} | TABLES
VOCABULARY = 5000
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}


def call(*arguments: str) -> str:
    """Run the command line in this process, and return what it prints to standard output."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a tiny run, which other modules read as well, and what was printed."""

    def make(place: Path) -> None:
        with figures_drawn(), in_real_use():
            (place / "printed.txt").write_text(call("run", "python-docs", *TINY, "-o", str(place / "run")))

    place = made_once(tmp_path_factory, "python-docs", make)
    return place / "run", (place / "printed.txt").read_text()


@pytest.fixture(scope="module")
def folder(finished: tuple[Path, str]) -> Path:
    return finished[0]


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return RunFolder.open(folder).read_results()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that run two arms of a tiny teacher, which takes a second or two."""
    folder = tmp_path_factory.mktemp("tiny")
    document = tiny_run(folder) | {"arms": {"plain": {}, "causal": {"alignment": "diito/middle"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return [str(folder / "config.yaml"), "training.max_steps=2"]


@pytest.fixture(scope="module")
def on_text(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments that run it on a short text file, which loads faster."""
    folder = tmp_path_factory.mktemp("text")
    line = "the module returns the first value of the list and raises an error if the file is closed\n"
    (folder / "text.txt").write_text(line * 12)
    (folder / "held-out.txt").write_text(line.replace("first", "last") * 12)
    files = f"{{train: '{folder / 'text.txt'}', validation: '{folder / 'held-out.txt'}'}}"
    data = f"data={{path: text, data_files: {files}, max_length: 24, packing: false}}"
    return ["python-docs", data, *(override for override in TINY if "max_length" not in override)]


def test_standard_output_ends_with_where_the_report_is(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    assert printed.splitlines()[-1] == f"report: {folder / 'report.html'}"


def test_every_file_is_there_and_no_other(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES | {"inputs.yaml", "plain", "causal", "figures"}
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {path.rpartition(".")[2] for path in figures} == {"png", "svg", "csv"} and len(figures) >= 12


def test_files_can_be_read_by_whom_the_umask_lets_read(folder: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_the_config_and_the_alignment_read_back(folder: Path) -> None:
    assert load_config(folder / "config.yaml") == load_config("python-docs", TINY)
    assert Alignment.from_yaml(folder / "alignment.yaml") == preset("diito/middle", 6, 3)


def test_results_say_where_every_number_comes_from(results: dict[str, Any]) -> None:
    assert results["schema"] == "iit_toolkit/results/1"
    assert (results["name"], results["seed"], results["task"]) == ("python-docs", 42, "masked_lm")
    assert {"git_commit", "versions", "hardware", "platform"} <= set(results["provenance"])
    assert set(results["data"]) == {"train", "validation"}
    for split in results["data"].values():
        assert split["tokens"] > split["examples"] > 0 and split["fingerprint"]
    assert results["teacher"]["name"] == "embedded" and results["teacher"]["parameters"] > 0
    assert set(results["arms"]) == {"plain", "causal"}
    assert results["arms"]["plain"]["alignment"] is None
    assert results["arms"]["causal"]["alignment"] == "diito-middle"
    assert results["arms"]["causal"]["objective"] == dict.fromkeys(("task", "ce", "cos", "causal_ce"), 0.25)
    for arm in results["arms"].values():
        assert arm["steps"] == 2 and arm["tokens"] > 0 and arm["seconds"] > 0
    assert set(Summary.from_dict(results["summary"]).students) == {"plain", "causal", "untrained"}
    assert Verdict.from_dict(results["verdict"]).student == "causal"
    assert results["controls"]["self_swap"]["cases"] > 0
    assert results["controls"]["self_swap"]["changed"] == 0
    assert results["controls"]["ceiling"]["same"] == results["controls"]["ceiling"]["cases"] > 0
    assert [leak["site"] for leak in results["verdict"]["leaks"]] == ["block 0 (in the teacher: block 1)"]
    assert results["controls"]["absent"] == []
    assert (results["comparison"]["treatment"], results["comparison"]["baseline"]) == ("causal", "plain")


def test_outcomes_hold_the_same_cases_for_every_student(folder: Path) -> None:
    outcomes = read_outcomes(folder / "outcomes.parquet")
    cases = {
        student: set(rows[["variable", "base", "source", "position"]].itertuples(index=False, name=None))
        for student, rows in outcomes.groupby("student")
    }
    assert set(cases) == {"plain", "causal", "untrained"}
    assert cases["plain"] == cases["causal"] == cases["untrained"]
    assert outcomes["base"].nunique() == 16


def test_controls_are_of_the_cases_of_the_judged_student(folder: Path, results: dict[str, Any]) -> None:
    outcomes, controls = read_outcomes(folder / "outcomes.parquet"), read_outcomes(folder / "controls.parquet")
    judged = outcomes[outcomes["student"] == "causal"].reset_index(drop=True)
    same = ["base", "source", "position", "inside", "teacher_base", "teacher_cf", "student_base"]
    shuffled = {"wrong layer", "shuffled sources"}
    assert set(controls["student"]) == {*shuffled, *(IN_TEACHER[name] for name in shuffled), "unaligned sites"}
    for name in ("wrong layer", "shuffled sources"):
        control = controls[controls["student"] == name].reset_index(drop=True)
        assert control[same].equals(judged[same]) and not control["kl_cf"].equals(judged["kl_cf"])
    found = [control["name"] for control in results["verdict"]["variables"]["middle"]["controls"]]
    assert found == ["no-intervention floor", "untrained", "wrong layer", "shuffled sources"]


def test_the_texts_are_those_that_were_verified(folder: Path) -> None:
    outcomes, examples = read_outcomes(folder / "outcomes.parquet"), read_examples(folder / "examples.parquet")
    answers = read_answers(folder / "answers.parquet")
    assert examples is not None and answers is not None and answers.counted_in == "train"
    cases = outcomes[outcomes["student"] == "causal"].merge(examples, on=["base", "source"])
    assert len(cases) == len(outcomes) / 3 and len(examples) == 16
    for case in cases.itertuples():
        assert case.inside == (case.position in case.swapped) and len(case.swapped) == len(case.taken) > 0
        assert case.base_tokens[0] == case.source_tokens[0] == " [CLS]"
        assert max(case.taken) < len(case.source_tokens)
        assert answers.texts[case.gold] and answers.per_million[case.gold] >= 0
    read = [case.base_tokens[case.position] for case in cases.itertuples()]
    assert read.count(" [MASK]") > len(read) / 2
    sources = dict(zip(examples["base"], map(tuple, examples["base_tokens"]), strict=True))
    assert all(tuple(row.source_tokens) == sources[row.source] for row in examples.itertuples())


def test_students_are_plain_models_with_a_card(folder: Path) -> None:
    students = {}
    for arm in ("plain", "causal"):
        student = AutoModelForMaskedLM.from_pretrained(folder / arm)
        assert type(student).__name__ == "BertForMaskedLM" and student.config.num_hidden_layers == 3
        tokenizer = AutoTokenizer.from_pretrained(folder / arm)
        assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(ASSETS / "teacher").get_vocab()
        card = (folder / arm / "README.md").read_text()
        assert card.startswith("---\n") and f"# python-docs: {arm}" in card
        students[arm] = student
    first, second = (dict(student.named_parameters()) for student in students.values())
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_report_is_made_again_from_the_folder_without_models(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("plain", "causal", "report.*", "figures"))
    with figures_drawn():
        assert call("report", str(copy)) == f"{copy / 'report.html'}\n"
    for name in ("report.md", "report.html"):
        assert (copy / name).read_text() == (folder / name).read_text()
    assert {path.name for path in (copy / "figures").iterdir()} == {
        path.name for path in (folder / "figures").iterdir()
    }


def test_train_then_verify(tiny: list[str], tmp_path: Path) -> None:
    trained, verified = tmp_path / "trained", tmp_path / "verified"
    printed = call("train", *tiny, "--arm", "causal", "--json", "-o", str(trained))
    assert json.loads(printed)["folder"] == str(trained)
    assert {path.name for path in trained.iterdir()} == {"config.yaml", "alignment.yaml", "inputs.yaml", "causal"}
    student = ["--student", str(trained / "causal"), "--alignment", "diito/middle"]
    printed = call("verify", *tiny, *student, "-o", str(verified))
    assert printed.splitlines()[-1] == f"report: {verified / 'report.html'}"
    assert {path.name for path in verified.iterdir()} == FILES | {"figures"}
    results = RunFolder.open(verified).read_results()
    assert set(Summary.from_dict(results["summary"]).students) == {"student", "untrained"}
    assert results["verdict"]["student"] == "student" and results["comparison"] is None


@pytest.mark.parametrize(
    ("rows", "steps", "at_a_time"),
    [(8, 2, 1), (8, 3, 1), (8, 4, 1), (11, 1, 1), (11, 3, 1), (12, 2, 1), (4, 2, 2), (4, 3, 2), (4, 1, 8)],
)
def test_tokens_and_micro_batches_are_those_of_training(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, steps: int, at_a_time: int
) -> None:
    """Of 12 rows; in batches of 8 every second one is half full, of 11 the row that is left alone is dropped.

    Of three micro-batches of 4 rows, two at a time, every second step has one.
    """
    compute, read = CausalDistillationTrainer.compute_loss, list[int]()

    def counted(self: CausalDistillationTrainer, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        read.append(int(inputs["attention_mask"].sum()))
        return compute(self, model, inputs, *rest, **named)

    monkeypatch.setattr(CausalDistillationTrainer, "compute_loss", counted)
    sizes = [f"training.per_device_train_batch_size={rows}", f"training.max_steps={steps}"]
    sizes += ["training.gradient_shares=false", f"training.gradient_accumulation_steps={at_a_time}"]
    lines = (Path(tiny[0]).parent / "train.txt").read_text().splitlines()
    (tmp_path / "train.txt").write_text("\n".join(lines[:1] * 12))  # of one length: tokens of half an epoch are half
    sizes.append(f"data.data_files.train={tmp_path / 'train.txt'}")
    prepared = Prepared(load_config(tiny[0], [*tiny[1:], *sizes]))
    _, record = train_arm(prepared, RunFolder(tmp_path / "run"), "plain", {})
    assert record["steps"] == steps and record["micro_batches_run"] == len(read) and record["tokens"] == sum(read)


def test_an_alignment_can_be_learned_from_without_counterfactual_runs(tiny: list[str], tmp_path: Path) -> None:
    weights = "arms.causal.weights={task: 0.25, ce: 0.25, cos: 0.25, aligned_mse: 0.25}"
    arm = [weights, "arms.causal.alignment=diito/full", "training.logging_steps=1", "--arm", "causal"]
    call("train", *tiny, *arm, "-o", str(tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "causal" / "training.json").read_text())
    assert record["objective"]["aligned_mse"] == 0.25 and record["alignment"] == "diito-full"
    assert record["cost"]["flops"] == record["cost"]["plain_flops"]
    assert record["history"][0]["loss/aligned_mse"] > 0
    assert any("causal: aligned activations" in line for line in call("validate", *tiny, weights).splitlines())
    assert call("explain", *tiny, weights).count("nothing is swapped in training") == 1


def test_validate_finds_nothing_wrong(tiny: list[str]) -> None:
    lines = call("validate", *tiny).splitlines()
    assert lines and all(line.startswith("ok    ") for line in lines)
    for check in ("data", "teacher is frozen", "student: sites fire once", "gradient through the source run"):
        assert any(check in line for line in lines)
    checks = json.loads(call("validate", *tiny, "--json"))
    assert [f"ok    {check['name']}: {check['detail']}" for check in checks] == lines
    names = [check["name"] for check in checks]
    assert names.count("teacher: padding") == names.count("student: padding") == 1  # once for all alignments
    assert len([name for name in names if "sites fire once" in name]) == 2


def test_explain_names_sites_and_losses(on_text: list[str]) -> None:
    text = call("explain", *on_text)
    assert "bert.encoder.layer[1].output (whole vector)" in text  # the student's middle block
    assert "bert.encoder.layer[3].output (whole vector)" in text  # and the teacher's
    assert "0.25 causal_ce" in text and "computes 1 of 3 blocks again" in text


class Killed(BaseException):
    """What stops a run where it stands."""


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """The results without what differs from one run to the next."""
    kept = {name: one for name, one in results.items() if name not in ("created", "provenance", "verification")}
    arms = results["arms"].items()
    timed = ("seconds", "cpu_seconds", "cost", "history", "resumed_at_step")
    kept["arms"] = {name: {key: arm[key] for key in arm if key not in timed} for name, arm in arms}
    losses = {name: [entry["loss"] for entry in arm["history"]] for name, arm in arms}
    return kept | {"losses": losses}


@pytest.fixture(scope="module")
def with_checkpoints(tiny: list[str]) -> list[str]:
    checkpoints = ["training.save_strategy=steps", "training.save_steps=2", "training.logging_steps=1"]
    return [*tiny, "training.max_steps=4", *checkpoints]


@pytest.fixture(scope="module")
def whole(with_checkpoints: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two arms of four steps that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    call("run", *with_checkpoints, "-o", str(folder))
    return folder


@pytest.mark.parametrize("step", [1, 3, 5], ids=["before any checkpoint", "in the first arm", "in the second arm"])
def test_a_killed_run_is_resumed(
    with_checkpoints: list[str], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The run is killed in its step `step`, counted over the arms."""
    arguments, killed = with_checkpoints, tmp_path / "killed"
    taken: list[int] = []
    take_step = CausalDistillationTrainer.training_step

    def counted(self: CausalDistillationTrainer, *given: Any, **named: Any) -> Any:
        taken.append(self.state.global_step)
        if len(taken) == step + 1:
            raise Killed
        return take_step(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(CausalDistillationTrainer, "training_step", counted)
        with pytest.raises(Killed):
            pipeline.run(load_config(arguments[0], arguments[1:]), killed)
    call("run", *arguments, "-o", str(killed), "--resume")
    one, two = (RunFolder.open(folder).read_results() for folder in (whole, killed))
    assert without_times(one) == without_times(two)
    resumed = {name: arm["resumed_at_step"] for name, arm in two["arms"].items()}
    assert resumed == {1: {"plain": 0, "causal": 0}, 3: {"plain": 2, "causal": 0}, 5: {"plain": 0, "causal": 0}}[step]
    pd.testing.assert_frame_equal(*(read_outcomes(folder / "outcomes.parquet") for folder in (whole, killed)))


def killed_and_resumed(arguments: list[str], folder: Path, patched: tuple[Any, str, Any]) -> dict[str, Any]:
    """The results of a run that is killed by what is put in the place of an attribute, and resumed without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*patched)
        with pytest.raises(Killed):
            pipeline.run(load_config(arguments[0], arguments[1:]), folder)
    call("run", *arguments, "-o", str(folder), "--resume")
    return RunFolder.open(folder).read_results()


def test_a_checkpoint_that_is_not_whole_is_not_taken(with_checkpoints: list[str], whole: Path, tmp_path: Path) -> None:
    """The run is killed while it writes its second checkpoint."""
    killed, save_whole = tmp_path / "killed", CausalDistillationTrainer._save_checkpoint

    def cut_off(self: CausalDistillationTrainer, *given: Any, **named: Any) -> None:
        save_whole(self, *given, **named)
        if self.state.global_step == 4:
            (killed / "checkpoints" / "plain" / "checkpoint-4" / "trainer_state.json").write_text("")
            raise Killed

    results = killed_and_resumed(with_checkpoints, killed, (CausalDistillationTrainer, "_save_checkpoint", cut_off))
    assert without_times(RunFolder.open(whole).read_results()) == without_times(results)
    assert results["arms"]["plain"]["resumed_at_step"] == 2


def test_a_training_that_ended_but_was_not_saved_is_taken_from_its_last_checkpoint(
    with_checkpoints: list[str], whole: Path, tmp_path: Path
) -> None:
    def full_disk(*_: Any) -> None:
        raise Killed

    arms = sys.modules[train_arm.__module__]
    results = killed_and_resumed(with_checkpoints, tmp_path / "killed", (arms, "save_student", full_disk))
    assert without_times(RunFolder.open(whole).read_results()) == without_times(results)
    assert results["arms"]["plain"]["resumed_at_step"] == results["arms"]["plain"]["steps"] == 4
    for arm in ("plain", "causal"):
        one, two = (folder / arm / "model.safetensors" for folder in (whole, tmp_path / "killed"))
        assert one.read_bytes() == two.read_bytes()


def test_a_run_is_not_resumed_with_another_alignment_in_the_same_file(tiny: list[str], tmp_path: Path) -> None:
    file = tmp_path / "aligned.yaml"
    file.write_text(preset("diito/middle", 2, 1).to_yaml())
    config = load_config(tiny[0], [*tiny[1:], f"arms.causal.alignment={file}"])
    pipeline.train(config, tmp_path / "run", "causal")
    pipeline.run(config, tmp_path / "run", resume=True)
    file.write_text(preset("diito/late", 2, 1).to_yaml())
    with pytest.raises(UserError, match="is not the config that is to be resumed"):
        pipeline.run(config, tmp_path / "run", resume=True)


def test_results_of_a_student_that_is_trained_again_are_gone_before(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = load_config(tiny[0], tiny[1:]), RunFolder(tmp_path / "run")
    pipeline.run(config, home.path)
    shutil.rmtree(home.arm("causal"))

    def killed(*_: Any) -> Any:
        raise Killed

    monkeypatch.setattr(sys.modules["iit_toolkit.pipeline.run"], "_verify_and_report", killed)
    with pytest.raises(Killed):
        pipeline.run(config, home.path, resume=True)
    assert home.arm("causal").is_dir() and not home.results.exists() and not home.report_html.exists()


def test_a_student_of_another_architecture_is_verified_without_the_untrained_control(
    on_text: list[str], tmp_path: Path
) -> None:
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 32}
    DistilBertForMaskedLM(DistilBertConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(tmp_path / "student")
    site = {"component": "distilbert.transformer.layer[0].output"}
    variable = {"name": "v", "teacher": [{"component": "block_output", "layer": 2}], "student": [site]}
    (tmp_path / "aligned.yaml").write_text(json.dumps({"name": "x", "variables": [variable]}))
    given = ["--student", str(tmp_path / "student"), "--alignment", str(tmp_path / "aligned.yaml")]
    call("verify", *on_text, "student={layers: 2}", *given, "-o", str(tmp_path / "out"))
    results = RunFolder.open(tmp_path / "out").read_results()
    assert set(results["summary"]["students"]) == {"student"}


def test_resuming_takes_finished_arms_as_they_are(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("run", *tiny, "-o", str(tmp_path / "run"), "--resume")  # there is nothing yet to resume
    before = RunFolder.open(tmp_path / "run").read_results()

    def refuse(*_: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(sys.modules["iit_toolkit.pipeline.run"], "train_arm", refuse)
    call("run", *tiny, "-o", str(tmp_path / "run"), "--resume")
    after = RunFolder.open(tmp_path / "run").read_results()
    assert all(before[name] == after[name] for name in {*before, *after} - {"created", "verification"})


def test_another_config_is_not_resumed(tiny: list[str], tmp_path: Path) -> None:
    config = load_config(tiny[0], tiny[1:])
    pipeline.train(config, tmp_path / "run", "plain")
    other = config.model_copy(update={"seed": 43})
    with pytest.raises(UserError, match="is not the config that is to be resumed"):
        pipeline.run(other, tmp_path / "run", resume=True)
    assert load_config(tmp_path / "run" / "config.yaml") == config


def test_a_run_that_another_process_is_at_work_on_is_not_resumed(tiny: list[str], tmp_path: Path) -> None:
    config = load_config(tiny[0], tiny[1:])
    home = tmp_path / "run"
    pipeline.train(config, home, "plain")
    before = {path: path.stat().st_mtime_ns for path in (home / "plain").iterdir()}
    with RunFolder(home).alone(), pytest.raises(UserError, match=f"another process is at work on the run {home}:"):
        pipeline.run(config, home, resume=True)
    assert not RunFolder(home).results.exists()
    assert {path: path.stat().st_mtime_ns for path in (home / "plain").iterdir()} == before
    with RunFolder(home).alone():
        pass  # the refused call holds nothing


def test_checkpoints_stay_where_they_are_asked_for(tiny: list[str], tmp_path: Path) -> None:
    saving = ["training.save_strategy=steps", "training.save_steps=1"]
    call("train", *tiny, *saving, "--arm", "plain", "-o", str(tmp_path / "out"))
    found = (tmp_path / "out" / "checkpoints" / "plain").iterdir()
    assert {path.name for path in found} == {"checkpoint-1", "checkpoint-2"}


def save(model: PreTrainedModel, target: Path) -> str:
    """Save a teacher with the embedded teacher's tokenizer."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(ASSETS / "teacher", model_max_length=32).save_pretrained(target)
    return str(target)


def config(task: str, teacher: str, data: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": task,
            "task": task,
            "teacher": teacher,
            "data": {"max_length": 24, "packing": False, **data},
            "arms": {"plain": {}, "causal": {"alignment": "diito/middle"}},
            "training": {"max_steps": 5, "per_device_train_batch_size": 4},
            "verification": {"pairs": 8, "batch_size": 4, "resamples": 100},
            "evaluation": {"again": {"max_length": 24, "packing": False, **data}},
        }
    )


def sentences(count: int) -> list[str]:
    words = ["module", "file", "value", "list", "error", "string", "class", "function", "method", "object"]
    chosen = torch.randint(len(words), (count, 14), generator=torch.Generator().manual_seed(0))
    return [" ".join(words[index] for index in row) for row in chosen.tolist()]


def test_a_causal_language_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = save(LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=1)), tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n".join(sentences(13)))
    (tmp_path / "held-out.txt").write_text("\n".join(sentences(26)[13:]))
    files = {"train": str(tmp_path / "text.txt"), "validation": str(tmp_path / "held-out.txt")}
    out = pipeline.run(config("causal_lm", teacher, {"path": "text", "data_files": files}), tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(out / "causal").config.num_hidden_layers == 2
    outcomes = read_outcomes(out / "outcomes.parquet")
    assert set(outcomes["student"]) == {"plain", "causal", "untrained"}
    assert (outcomes["position"] >= 0).all() and set(outcomes["inside"]) == {True, False}
    assert (outcomes["teacher_base"] != outcomes["teacher_cf"]).any()
    results = RunFolder.open(out).read_results()
    assert results["controls"]["self_swap"]["changed"] == 0
    assert set(results["evaluation"]["again"]["perplexity"]) == {"teacher", "plain", "causal", "untrained"}


@pytest.fixture
def labelled(tmp_path: Path) -> RunConfig:
    """A config with a teacher of three labels, and 13 rows of training and of held-out data."""
    torch.manual_seed(0)
    teacher = save(BertForSequenceClassification(BertConfig(**SIZES, num_labels=3)), tmp_path / "teacher")
    rows = [f"{text},{index % 3},{index}\n" for index, text in enumerate(sentences(26))]
    for name, given in (("rows", rows[:13]), ("held-out", rows[13:])):
        (tmp_path / f"{name}.csv").write_text("sentence,kind,number\n" + "".join(given))
    files = {"train": str(tmp_path / "rows.csv"), "validation": str(tmp_path / "held-out.csv")}
    data = {"path": "csv", "data_files": files, "text_column": "sentence", "label_column": "kind"}
    return config("sequence_classification", teacher, data)


def test_labels_that_the_teacher_does_not_know(labelled: RunConfig, tmp_path: Path) -> None:
    numbers = labelled.data.model_copy(update={"label_column": "number"})
    with pytest.raises(UserError, match="number: split train has the label 12, but the teacher only knows 0 to 2"):
        pipeline.run(labelled.model_copy(update={"data": numbers}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "refused"), [(["no", "maybe", "yes"], True), (["yes", "No", "maybe"], False), (["a", "b", "c"], False)]
)
def test_classes_of_the_data_in_another_order_than_the_teachers(
    labelled: RunConfig, tmp_path: Path, names: list[str], refused: bool
) -> None:
    file = Path(labelled.teacher) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "id2label": {"0": "yes", "1": "no", "2": "maybe"}}))
    features = datasets.Features({"sentence": datasets.Value("string"), "kind": datasets.ClassLabel(names=names)})
    rows = {"sentence": sentences(12), "kind": [0, 1, 2] * 4}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    files = dict.fromkeys(("train", "validation"), str(tmp_path / "rows.parquet"))
    data = labelled.data.model_copy(update={"path": "parquet", "data_files": files})
    prepared = Prepared(labelled.model_copy(update={"data": data}))
    if refused:
        with pytest.raises(UserError, match="kind: split train numbers the class no 0, the teacher 1; give"):
            assert prepared.train_rows
    else:
        assert len(prepared.train_rows) == 12


@pytest.mark.parametrize("command", ["verify", "search"])
def test_a_finished_student_without_a_head_is_refused(on_text: list[str], tmp_path: Path, command: str) -> None:
    AutoModelForMaskedLM.from_pretrained(ASSETS / "teacher").base_model.save_pretrained(tmp_path / "encoder")
    config = load_config(on_text[0], on_text[1:])
    with pytest.raises(
        UserError, match=r"student checkpoint .*encoder: lacks .* weights for the task of the teacher, .* give"
    ):
        if command == "verify":
            pipeline.verify(config, str(tmp_path / "encoder"), "diito/middle", tmp_path / "out")
        else:
            pipeline.search(config, str(tmp_path / "encoder"), tmp_path / "out")
    student = config.student.model_copy(update={"checkpoint": str(tmp_path / "encoder"), "layers": None})
    prepared = Prepared(config.model_copy(update={"student": student}))
    first, second = (prepared.new_student().state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_teacher_made_of_several_models_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config={**sizes, "vocab_size": 50, "num_key_value_heads": 1, "head_dim": 8},
            vision_config={**sizes, "image_size": 28, "patch_size": 14},
        )
    )
    teacher = save(model, tmp_path / "teacher")
    files = {"train": "text.txt", "validation": "text.txt"}
    with pytest.raises(UserError, match="teacher .*: its configuration has no num_hidden_layers"):
        assert Prepared(config("causal_lm", teacher, {"path": "text", "data_files": files})).teacher


def test_data_of_one_class(labelled: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("sentence,kind\n" + "".join(f"{text},2\n" for text in sentences(8)))
    files = {**labelled.data.model_dump()["data_files"], "validation": str(tmp_path / "one.csv")}
    one = labelled.data.model_copy(update={"data_files": files})
    with pytest.raises(UserError, match="kind: split validation has only one class, 2, so nothing can be told apart"):
        pipeline.run(labelled.model_copy(update={"data": one}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sequence_classification_with_a_row_left_over_for_the_last_batch(labelled: RunConfig, tmp_path: Path) -> None:
    out = pipeline.run(labelled, tmp_path / "out")
    student = AutoModelForSequenceClassification.from_pretrained(out / "causal")
    assert (student.config.num_hidden_layers, student.config.num_labels) == (2, 3)
    outcomes = read_outcomes(out / "outcomes.parquet")
    assert set(outcomes["position"]) == {-1} and set(outcomes["gold"]) <= {0, 1, 2}
    assert len(outcomes) == 3 * 8  # students x pairs
    answers = read_answers(out / "answers.parquet")
    assert answers is not None and set(answers.texts.values()) <= {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert answers.per_million == {}
    assert "## Accuracy on held-out data" in (out / "report.md").read_text()
    results = RunFolder.open(out).read_results()
    assert results["data"]["train"]["examples"] == 13
    assert list(results["evaluation"]) == ["validation", "again"]
    for measured in results["evaluation"].values():
        assert set(measured["accuracy"]) == {"teacher", "plain", "causal", "untrained"}
        assert {one["cases"] for one in measured["accuracy"].values()} == {13}


def test_rows_with_other_labels_are_other_data(labelled: RunConfig) -> None:
    rows = Prepared(labelled).train_rows
    relabelled = rows.map(lambda row: {"label": 2 - row["label"]})
    assert list(relabelled["input_ids"]) == list(rows["input_ids"])
    assert (
        fingerprint_of_rows(relabelled)
        != fingerprint_of_rows(rows)
        == fingerprint_of_rows(Prepared(labelled).train_rows)
    )


def test_training_on_the_first_examples(labelled: RunConfig, tmp_path: Path) -> None:
    few = labelled.data.model_copy(update={"max_train_examples": 5})
    out = pipeline.train(labelled.model_copy(update={"data": few}), tmp_path / "out", "plain")
    assert len(Prepared(load_config(out / "config.yaml")).train_rows) == 5
    assert len(Prepared(load_config(out / "config.yaml")).eval_rows) == 13


def test_the_baseline_is_never_the_judged_arm() -> None:
    config = load_config("quickstart", ["arms.other={recipe: fast}", "verification={treatment: plain}"])
    assert [name for name, arm in config.arms.items() if arm.alignment is None] == ["plain", "other"]
    assert baseline_arm(config, "plain") == "other" and baseline_arm(config, "causal") == "plain"
    assert (
        baseline_arm(load_config("quickstart", ["verification={baseline: causal, treatment: plain}"]), "plain")
        == "causal"
    )
