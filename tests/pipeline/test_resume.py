"""A resumed run is the uninterrupted one, bit for bit, or is refused in one line."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, TrainingArguments

from iit_toolkit import pipeline
from iit_toolkit.analysis.report import report
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import dump_config, load_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.distillation import checkpoints
from iit_toolkit.distillation.checkpoints import WholeCheckpoint, WholeCheckpoints, refuse_other_training
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline import arms, inputs, saving
from iit_toolkit.pipeline.alignment_files import with_alignments_read
from iit_toolkit.pipeline.inputs import fingerprint_of_table
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder
from tests.tiny_runs import tiny_run

STUDENT = "causal/model.safetensors"
RUN = sys.modules["iit_toolkit.pipeline.run"]


@pytest.fixture(scope="module", autouse=True)
def cheap() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_figures", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The config of a tiny run that keeps its checkpoints."""
    document = tiny_run(tmp_path_factory.mktemp("given"))
    return {**document, "training": {**document["training"], "save_strategy": "steps"}}


@pytest.fixture(scope="module")
def config(given: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(given)


@pytest.fixture(scope="module")
def whole(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.run(config, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def stopped(whole: Path, tmp_path: Path) -> Path:
    """The folder of a run that was stopped when it was to save its student."""
    unfinished = shutil.ignore_patterns("causal", "results.json", "*.parquet", "report.*", "figures")
    shutil.copytree(whole, tmp_path / "run", ignore=unfinished)
    shutil.copytree(whole / "checkpoints", tmp_path / "run" / "checkpoints", dirs_exist_ok=True)
    return tmp_path / "run"


def newest(folder: Path) -> Path:
    return folder / "checkpoints" / "causal" / "checkpoint-4"


def resumed_at(folder: Path) -> int:
    return json.loads((folder / "causal" / "training.json").read_text())["resumed_at_step"]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "the optimizer is lost": lambda at: (at / "optimizer.pt").unlink(),
    "the random state is lost": lambda at: (at / "rng_state.pth").unlink(),
    "a bit of the weights": lambda at: flip(at / "model.safetensors"),
    "the state without its end": lambda at: halve(at / "trainer_state.json"),
    "an adapter was added": lambda at: (at / "adapter_model.safetensors").write_bytes(b"x"),
    "it is empty": lambda at: [path.unlink() for path in at.iterdir()],
}


def restate(checkpoint: Path, facts: dict[str, Any]) -> None:
    document = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps({**document, **facts}))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"processes": 10**8}, "its manifest speaks of 100000000 processes"),
        ({"processes": -1}, "its manifest speaks of -1 processes"),
        ({"processes": True}, "its manifest is damaged"),
        ({"step": True}, "its manifest is damaged"),
        ({"made_with": None}, "its manifest is damaged"),
        ({"made_with": [1]}, "its manifest is damaged"),
        ({"inputs": None}, "its manifest is damaged"),
        ({"files": []}, "the list of its files is damaged"),
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_is_passed_over(
    stopped: Path, facts: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    restate(newest(stopped), facts)
    with caplog.at_level(logging.WARNING):
        found = checkpoints.newest_whole(newest(stopped).parent)
    assert found is not None and found.path.name == "checkpoint-2"
    assert f"checkpoint-4 is passed over: {told}" in caplog.text


def test_a_checkpoint_that_does_not_say_its_inputs_is_refused(config: RunConfig, stopped: Path) -> None:
    restate(newest(stopped), {"inputs": {}})
    said = "checkpoint-4 was made with other inputs: teacher weights and .* and settings changed since"
    with pytest.raises(UserError, match=said):
        pipeline.train(config, stopped, "causal", resume=True)


@pytest.mark.parametrize(
    ("there", "new", "limit", "kept"),
    [
        ((4, 8), 8, 1, {8}),
        ((2, 4, 6, 8), 8, 2, {6, 8}),
        ((4, 8, 12), 4, 1, {4}),
        ((2, 4, 12), 4, 2, {2, 4}),
        ((4, 8), 8, None, {4, 8}),
    ],
)
def test_the_checkpoint_just_written_is_kept_whatever_the_files_times_are(
    tmp_path: Path, there: tuple[int, ...], new: int, limit: int | None, kept: set[int]
) -> None:
    for step in there:
        (tmp_path / f"checkpoint-{step}").mkdir()
        os.utime(tmp_path / f"checkpoint-{step}", (2e9 - step, 2e9 - step))  # the older, the newer
    model: Any = torch.nn.Linear(1, 1)
    trainer = WholeCheckpoints(model, TrainingArguments(str(tmp_path), use_cpu=True, save_total_limit=limit))
    trainer.state.global_step = new
    trainer._remove_older(tmp_path / f"checkpoint-{new}")
    assert set(checkpoints.numbered(tmp_path)) == kept


@pytest.mark.parametrize("linked", ["checkpoints", "checkpoints/causal", "checkpoints/causal/checkpoint-4", "causal"])
def test_nothing_is_written_or_removed_through_a_link_out_of_the_run(
    config: RunConfig, whole: Path, stopped: Path, tmp_path: Path, linked: str
) -> None:
    other = tmp_path / "other"
    if linked == "causal":
        shutil.copytree(whole / "causal", other)
    else:
        (stopped / linked).rename(other)
    (stopped / linked).symlink_to(other)
    before = {path: path.stat().st_mtime_ns for path in other.rglob("*")}
    with pytest.raises(UserError, match=f"{stopped / linked}: a symbolic link leads out of {stopped}; replace it"):
        pipeline.train(config, stopped, "causal", resume=True)
    assert {path: path.stat().st_mtime_ns for path in other.rglob("*")} == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_line(
    config: RunConfig, whole: Path, stopped: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    DAMAGES[damage](newest(stopped))
    with caplog.at_level(logging.WARNING):
        pipeline.train(config, stopped, "causal", resume=True)
    [told] = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert "checkpoint-4 is passed over: " in told
    assert resumed_at(stopped) == 2
    assert (stopped / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()
    assert (newest(stopped) / "manifest.json").is_file()


def test_another_library_is_told(
    config: RunConfig, stopped: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_made_with", lambda _: {"torch": "9.9", "threads": "64"})
    shutil.rmtree(newest(stopped))
    with caplog.at_level(logging.WARNING):
        pipeline.train(config, stopped, "causal", resume=True)
    [told] = [one.getMessage() for one in caplog.records if "last digits" in one.getMessage()]
    assert "torch was " in told and "and is 9.9" in told and "threads was 1 and is 64" in told


def test_a_run_without_a_whole_checkpoint_begins_anew_with_a_line(
    config: RunConfig, whole: Path, stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for checkpoint in newest(stopped).parent.iterdir():
        (checkpoint / "optimizer.pt").unlink()
    for name in ("checkpoint-x", "checkpoint-a5"):
        (newest(stopped).parent / name).mkdir()
    with caplog.at_level(logging.WARNING):
        pipeline.train(config, stopped, "causal", resume=True)
    assert any("no checkpoint in" in record.getMessage() for record in caplog.records)
    assert resumed_at(stopped) == 0 and (stopped / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


def test_a_whole_run_is_resumed_from_its_last_step(config: RunConfig, whole: Path, stopped: Path) -> None:
    pipeline.run(config, stopped, resume=True)
    assert resumed_at(stopped) == 4 and (stopped / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()
    one, two = (read_outcomes(folder / "outcomes.parquet") for folder in (whole, stopped))
    assert one.equals(two)


@pytest.mark.parametrize("damage", ["the optimizer is lost", "it is empty"])
def test_a_trainer_refuses_a_damaged_checkpoint_that_it_is_given(stopped: Path, damage: str) -> None:
    DAMAGES[damage](newest(stopped))
    model: Any = torch.nn.Linear(1, 1)
    trainer = WholeCheckpoints(model, TrainingArguments(str(stopped), use_cpu=True))
    with pytest.raises(UserError, match=r"checkpoint-4 cannot be resumed from: .*; give a whole checkpoint"):
        trainer.train(str(newest(stopped)))
    with pytest.raises(UserError, match="no whole checkpoint in"):
        trainer.train(True)


def scale(path: Path) -> None:
    weights = load_file(path)
    name = max(weights, key=lambda name: weights[name].numel())
    save_file({**weights, name: weights[name] * 1.01}, path, {"format": "pt"})


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "teacher's weights": (lambda at: scale(at / "teacher" / "model.safetensors"), "teacher weights changed"),
    "teacher's config": (
        lambda at: edit(at / "teacher" / "config.json", '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-3'),
        "teacher config changed",
    ),
    "training texts": (lambda at: edit(at / "train.txt", "w1", "w2"), "training rows changed"),
    "held-out texts": (lambda at: edit(at / "held-out.txt", "w1", "w2"), "held-out rows changed"),
    "both": (
        lambda at: [edit(at / name, "w1", "w2") for name in ("train.txt", "held-out.txt")],
        "training rows and held-out rows changed",
    ),
}


@pytest.mark.parametrize(
    ("change", "recorded"), [*((change, True) for change in CHANGES), ("both", False), ("teacher's weights", False)]
)
def test_other_inputs_are_refused(
    given: dict[str, Any], stopped: Path, tmp_path: Path, change: str, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are moved, so that what is changed is nobody else's; a run names its files by their paths."""
    place, other = Path(given["teacher"]).parent, tmp_path / "given"
    shutil.copytree(place, other)
    moved = RunConfig.model_validate(json.loads(json.dumps(given).replace(str(place), str(other))))
    monkeypatch.setattr(inputs, "load_config", lambda *_: moved)
    settings = arms._fingerprint_of_arm(Prepared(with_alignments_read(RunConfig.model_validate(given))), "causal")
    monkeypatch.setattr(arms, "_fingerprint_of_arm", lambda *_: settings)  # it names the files, too
    make, told = CHANGES[change]
    make(other)
    if not recorded:
        (stopped / "inputs.yaml").unlink()
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=f"made with other inputs: .*{told}") as refused:
        pipeline.run(moved, stopped, resume=True)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 320
    if recorded:
        assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_finished_student_of_other_inputs_is_refused(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    """Whatever `inputs.yaml` says."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "inputs.yaml").unlink()
    record = tmp_path / "run" / "causal" / "training.json"
    made_with = json.loads(record.read_text())["inputs"]
    edit(record, made_with["training rows"], "sha256:0")
    with pytest.raises(UserError, match=r"run/causal was made with other inputs: training rows changed since"):
        pipeline.run(config, tmp_path / "run", resume=True)
    assert set(made_with) > {"teacher weights", "tokenizer", "settings"}
    assert "inputs" not in json.loads((whole / "results.json").read_text())["arms"]["causal"]


@pytest.mark.parametrize("recorded", [True, False])
def test_another_number_of_processes_is_refused(config: RunConfig, stopped: Path, recorded: bool) -> None:
    for checkpoint in newest(stopped).parent.iterdir():
        made_by_two(checkpoint)
    if not recorded:
        (stopped / "inputs.yaml").unlink()
    said = "checkpoint-.* was made by 2 processes and cannot be resumed by 1: start it with torchrun --nproc_per_node 2"
    with pytest.raises(UserError, match=said):
        pipeline.run(config, stopped, resume=True)
    with pytest.raises(UserError, match="was made by 1 process and cannot be resumed by 3: start it without torchrun"):
        refuse_other_training(WholeCheckpoint(stopped, {"processes": 1, "inputs": {}}), {}, 3)


def made_by_two(checkpoint: Path) -> None:
    shutil.copy(checkpoint / "rng_state.pth", checkpoint / "rng_state_1.pth")
    (checkpoint / "rng_state.pth").rename(checkpoint / "rng_state_0.pth")
    files = json.loads((checkpoint / "manifest.json").read_text())["files"]
    state = files.pop("rng_state.pth")
    restate(checkpoint, {"processes": 2, "files": {**files, "rng_state_0.pth": state, "rng_state_1.pth": state}})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda at: flip(at / "model.safetensors"), "model.safetensors is damaged; restore it, or remove that folder"),
        (lambda at: halve(at / "model.safetensors"), "model.safetensors is damaged"),
        (lambda at: edit(at / "config.json", '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-3'), "config.json is"),
        (lambda at: (at / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda at: (at / "training.json").write_text("{"), "training.json"),
        (
            lambda at: (at / "training.json").unlink(),
            "holds something, but no training.json, .*; restore it, or remove",
        ),
        (lambda at: edit(at / "training.json", '"inputs": {', '"inputs": [], "_": {'), "inputs: should be a mapping"),
    ],
    ids=["a bit of the weights", "half of the weights", "config", "tokenizer", "record", "no record", "inputs"],
)
def test_a_damaged_finished_student_is_refused(
    config: RunConfig, whole: Path, tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    damage(tmp_path / "run" / "causal")
    with pytest.raises(UserError, match=told):
        pipeline.run(config, tmp_path / "run", resume=True)


def test_train_takes_the_lock_of_run_and_can_be_resumed(config: RunConfig, whole: Path, stopped: Path) -> None:
    with RunFolder(stopped).alone(), pytest.raises(UserError, match="another process is at work"):
        pipeline.train(config, stopped, "causal", resume=True)
    with pytest.raises(UserError, match="is not empty"):
        pipeline.train(config, stopped, "causal")
    shutil.rmtree(newest(stopped))
    pipeline.train(config, stopped, "causal", resume=True)
    assert resumed_at(stopped) == 2 and (stopped / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()
    pipeline.run(config, stopped, resume=True)  # this takes up what train made
    assert resumed_at(stopped) == 2 and RunFolder(stopped).results.is_file()


def without_checkpoints_asked_for(given: dict[str, Any]) -> RunConfig:
    training = {name: one for name, one in given["training"].items() if name != "save_strategy"}
    return RunConfig.model_validate({**given, "training": training})


def test_checkpoints_that_nobody_asked_for_are_made_and_go_when_the_student_is_saved(
    given: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    complete = WholeCheckpoints._complete

    def counted(self: WholeCheckpoints, target: Path) -> str | None:
        made.append(target.name)
        return complete(self, target)

    monkeypatch.setattr(WholeCheckpoints, "_complete", counted)
    pipeline.train(without_checkpoints_asked_for(given), tmp_path / "run", "causal")
    assert made == ["checkpoint-2", "checkpoint-4"]
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert (tmp_path / "run" / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Trained(BaseException): ...


def test_a_place_without_room_is_found_before_the_first_step(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: Any) -> None:
        raise Trained

    monkeypatch.setattr(RUN, "train_arm", trained)
    with monkeypatch.context() as patch:
        patch.setattr(BertForMaskedLM, "save_pretrained", full)
        with pytest.raises(UserError, match="nothing is trained.*No space left on device"):
            pipeline.run(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(UserError, match=r"0\.0 MB are free, but the students and their checkpoints take about"):
            pipeline.run(config, tmp_path / "run")
    with pytest.raises(Trained):
        pipeline.run(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (ValueError("output_attentions is not supported with sdpa"), "could not be saved: output_attentions is not"),
        (RuntimeError("Some tensors share memory"), "could not be saved: .*Some tensors share memory"),
        (UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range"), "the locale's encoding .ascii. lacks letters"),
        (Exception("No space left on device (os error 28)"), "No space left on device"),
    ],
    ids=["config", "tensors", "letters", "tokenizer"],
)
def test_what_cannot_be_saved_is_found_before_the_first_step(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Exception, told: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise broken

    monkeypatch.setattr(BertForMaskedLM, "save_pretrained", refuse)
    with pytest.raises(UserError, match=told) as refused:
        pipeline.train(config, tmp_path / "run", "causal")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 320 + len(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64")])
def test_a_full_disk_at_a_checkpoint_leaves_earlier_ones_usable(
    config: RunConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save = torch.save

    def torn(what: Any, path: Any, *rest: Any, **named: Any) -> None:
        save(what, path, *rest, **named)
        if "checkpoint-4" in str(path) and "scheduler" in str(path):
            halve(Path(path))
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", torn)
        with pytest.raises(UserError, match=r"could not write .*checkpoint-4: .*make room and resume") as told:
            pipeline.train(config, tmp_path / "run", "causal")
    assert "\n" not in str(told.value)
    assert [path.name for path in (tmp_path / "run" / "checkpoints" / "causal").iterdir()] == ["checkpoint-2"]
    pipeline.train(config, tmp_path / "run", "causal", resume=True)
    assert resumed_at(tmp_path / "run") == 2
    assert (tmp_path / "run" / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


def test_training_goes_on_without_a_checkpoint_that_nobody_asked_for(
    given: dict[str, Any],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch, "save", full)
    with caplog.at_level(logging.WARNING):
        pipeline.train(without_checkpoints_asked_for(given), tmp_path / "run", "causal")
    told = [record.getMessage() for record in caplog.records if "training goes on without it" in record.getMessage()]
    assert len(told) == 2
    assert (tmp_path / "run" / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_student_that_cannot_be_saved_in_the_end_is_kept(
    given: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, home = without_checkpoints_asked_for(given), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(saving, "_write", full)
        with pytest.raises(UserError, match=r"checkpoint-4 holds the trained student: make room, then --resume"):
            pipeline.train(config, home, "causal")
    pipeline.train(config, home, "causal", resume=True)
    assert resumed_at(home) == 4 and (home / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


def test_a_student_that_has_no_place_at_all_leaves_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(saving, "_write", full)
    nothing: Any = None
    with pytest.raises(OSError, match="No space left"):
        saving.save_student(nothing, nothing, tmp_path / "run" / "causal", {}, None)
    assert list(tmp_path.iterdir()) == []


def test_a_row_without_a_list_is_not_one_with_an_empty_list() -> None:
    found = [fingerprint_of_table(datasets.Dataset.from_dict({"x": rows})) for rows in ([[1], None], [[1], []])]
    assert found[0] != found[1]


def test_a_student_without_a_place_and_a_checkpoint_is_kept_elsewhere(
    given: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig.model_validate({**given, "training": {**given["training"], "save_strategy": "no"}})
    write, home = saving._write, tmp_path / "run"
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def full_there(student: Any, prepared: Any, target: Path, *rest: Any) -> None:
        if home in target.parents:
            full()
        write(student, prepared, target, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_write", full_there)
        with pytest.raises(UserError, match="The trained student is kept in .*temporary.*causal: make room, move it"):
            pipeline.train(config, home, "causal")
    [kept] = (tmp_path / "temporary").glob("*/causal")
    shutil.move(kept, home / "causal")
    pipeline.run(config, home, resume=True)
    assert resumed_at(home) == 0 and (home / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_small_disk(config: RunConfig, whole: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    student = sum(path.stat().st_size for path in (whole / "causal").iterdir())
    if os.system(f"mount -t tmpfs -o size={student * 2} tmpfs '{small}' 2>/dev/null"):
        pytest.skip("tmpfs cannot be mounted")
    try:
        with pytest.raises(UserError, match="MB are free"):
            pipeline.train(config, small / "run", "causal")
        assert list(small.iterdir()) == []
    finally:
        os.system(f"umount '{small}'")


def test_an_arm_that_ended_before_its_last_step_is_not_saved(
    config: RunConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = CausalDistillationTrainer.training_step

    def stopping(self: CausalDistillationTrainer, *given: Any, **named: Any) -> Any:
        self.control.should_training_stop = self.state.global_step == 2
        return step(self, *given, **named)

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"arms\.causal: training ended after step 3 of 4"),
    ):
        patch.setattr(CausalDistillationTrainer, "training_step", stopping)
        pipeline.train(config, tmp_path / "run", "causal")
    assert not (tmp_path / "run" / "causal").exists()
    pipeline.train(config, tmp_path / "run", "causal", resume=True)
    assert (tmp_path / "run" / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


def test_an_interrupted_arm_says_where_it_stopped(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = CausalDistillationTrainer.training_step

    def interrupted(self: CausalDistillationTrainer, *given: Any, **named: Any) -> Any:
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *given, **named)

    monkeypatch.setattr(CausalDistillationTrainer, "training_step", interrupted)
    (tmp_path / "run" / "checkpoints" / "causal" / "checkpoint-a5").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(dump_config(with_alignments_read(config)))
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        pipeline.train(config, tmp_path / "run", "causal", resume=True)
    [told] = [record.getMessage() for record in caplog.records if "was stopped" in record.getMessage()]
    assert told == ("arm causal was stopped after step 3 of 4, its last checkpoint is of step 2; go on with --resume")
    assert load_config(tmp_path / "run" / "config.yaml") == config
