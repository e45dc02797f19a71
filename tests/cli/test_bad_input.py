"""Every mistake ends in exit code 2 and one line: what is wrong, where, and what would be right."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM, PreTrainedTokenizerFast

from iit_toolkit.cli import main
from iit_toolkit.config.loading import ASSETS
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from tests.analysis.synthetic import make_run
from tests.families import bert_config

TEXT = "the module returns the first value of the list and raises an error if the file is closed while it reads\n"
CONFIG = """\
name: tiny
teacher: embedded
student: {layers: 2}
data: {path: text, data_files: {train: text.txt, validation: held-out.txt}, max_length: 16, packing: false}
arms: {plain: {}, causal: {alignment: diito/middle}}
training: {max_steps: 1, per_device_train_batch_size: 4}
verification: {pairs: 4, batch_size: 4, resamples: 100}
"""
CONFIG_WITHOUT_ALIGNMENT = CONFIG.replace(", causal: {alignment: diito/middle}", "")
SITE = "{component: block_output, layer: 0}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds a config, its text, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")
    (tmp_path / "text.txt").write_text(TEXT * 8)
    (tmp_path / "held-out.txt").write_text(TEXT.replace("first", "last") * 8)
    (tmp_path / "pairs.json").write_text('{"text": "the file is closed", "source": "the file is not closed"}\n' * 4)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "nothing.json").touch()
    (tmp_path / "bytes.nm").write_bytes(b"\xff\xfe\x00")
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line, checks that it refuses as it should, and returns what it said."""

    def refused(*arguments: str, code: int = 2) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        told = capsys.readouterr()
        assert exit_.value.code == code, told.err
        assert told.out == ""
        assert "Traceback" not in told.err
        errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and told.err.endswith(f"{errors[0]}\n"), told.err
        return errors[0]

    return refused


def alignment(**changed: str) -> str:
    """An alignment as an override, with what is changed in it."""
    parts = {"teacher": f"[{SITE}]", "student": f"[{SITE}]", "positions": "{kind: span}", **changed}
    variable = f"{{name: v, teacher: {parts['teacher']}, student: {parts['student']}}}"
    return f"arms.causal.alignment={{name: x, variables: [{variable}], positions: {parts['positions']}}}"


def site(component: str, rest: str = "") -> str:
    return f"[{{component: '{component}'{rest}}}]"


LAYER = "bert.encoder.layer[0]"
PAIRED = alignment(positions="{kind: differing}, sources: {kind: paired}")
WRONG = {
    "unknown key": (["data.max_lenght=8"], ["data.max_lenght", 'did you mean "max_length"?']),
    "unknown training key": (["training.max_step=8"], ["training.max_step", 'did you mean "max_steps"?']),
    "unknown training key of an arm": (
        ["arms.causal.training.max_step=8"],
        ["arms.causal.training.max_step", 'did you mean "max_steps"?'],
    ),
    "training setting of the wrong type": (
        ["training.max_steps=abc"],
        ["training.max_steps: should be a valid integer"],
    ),
    "a frozen arm without learned sites": (
        ["arms.plain.training.freeze_student=true"],
        ["arms.plain: training.freeze_student trains learned subspaces alone, but there are none"],
    ),
    "swaps without a term that swaps": (
        ["arms.plain.training.interchanges=2"],
        ["arms.plain.training.interchanges: it is about swaps, but no causal_* term or strict has a weight; leave"],
    ),
    "weighting without its term": (
        ["arms.causal.training.counterfactual_weighting=effect", "arms.causal.weights={causal_logit_mse: 1}"],
        ["arms.causal.training.counterfactual_weighting: it is about causal_ce, but no such term has a weight; leave"],
    ),
    "no rows in a batch": (["training.per_device_train_batch_size=0"], ["per_device_train_batch_size: should be 1 or"]),
    "no other row in a batch": (
        ["training.per_device_train_batch_size=1"],
        ["arms.causal: in-batch sources need batches of at least 2 rows", "sources: {kind: dataset}"],
    ),
    "alignment file that is no text": (["arms.causal.alignment=bytes.nm"], ["bytes.nm: not text in UTF-8"]),
    "unusable training setting": (["training.save_strategy=never"], ["training", "never"]),
    "unknown preset": (["arms.causal.alignment=diito/midle"], ["diito/midle", 'did you mean "diito/middle"?']),
    "missing alignment file": (["arms.causal.alignment=mine.yaml"], ["mine.yaml", "no such file"]),
    "unknown loss term": (["arms.plain.weights.kd=1"], ["arms.plain.weights.kd", "no such loss term", "valid: "]),
    "negative weight": (["arms.plain.weights.ce=-1"], ["arms.plain.weights.ce", "greater than or equal to 0"]),
    "all weights zero": (["arms.plain.weights.ce=0"], ["arms.plain.weights", "all weights are zero"]),
    "causal weights without alignment": (
        ["arms.plain.weights.causal_ce=1"],
        ["arms.plain", "causal_*", "need an alignment"],
    ),
    "aligned_mse without alignment": (
        ["arms.plain.weights.aligned_mse=1"],
        ["arms.plain", "aligned_mse", "need an alignment"],
    ),
    "strict without left-out neurons": (
        ["arms.causal.weights={task: 1, causal_ce: 1, strict: 1}"],
        ["causal: left-out neurons", "variable", "leaves out no neurons of"],
    ),
    "aligned_mse of unequal widths": (
        [
            alignment(
                teacher=site("mlp_activation", ", layer: 0, neurons: [0, 9]"),
                student=site("mlp_activation", ", layer: 0, neurons: [0, 8]"),
            ),
            "arms.causal.weights={task: 1, aligned_mse: 1}",
        ],
        ["causal: aligned activations", "variable 'v'", "cannot compare 8 neurons of the student with 9"],
    ),
    "student layers": (["student.layers=7"], ["7 layers", "choose from 1 to 6"]),
    "teacher layer out of range": (
        [alignment(teacher=site("block_output", ", layer: 6"))],
        ["'v', teacher", "layer 6", "0 to 5"],
    ),
    "student layer out of range": (
        [alignment(student=site("block_output", ", layer: 2"))],
        ["'v', student", "layer 2", "0 to 1"],
    ),
    "neurons out of range": (
        [alignment(student=site("block_output", ", layer: 0, neurons: [0, 25]"))],
        ["student", "[0, 25)", "width of 24"],
    ),
    "module that does not exist": (
        [alignment(teacher=site("bert.encoder.leyer[0].output"))],
        ["teacher", "'leyer'", "it has layer"],
    ),
    "module that never runs": (
        [alignment(student=site(f"{LAYER}.attention.self.dropout.output"))],
        ["student", "attention.self.dropout.output", "ran 0 times", "choose a module that runs exactly once"],
    ),
    "no position left": (
        [alignment(positions="{kind: fixed, base: [0]}")],
        ["positions", "no position can be swapped", "another policy"],
    ),
    "positions beyond the rows": (
        [alignment(positions="{kind: fixed, base: [40]}")],
        ["positions", "40", "choose smaller ones"],
    ),
    "vocabulary size": (
        ["student={config: {vocab_size: 4000}}"],
        ["same answers", "5000", "4000", "make the student from the teacher's config"],
    ),
    "missing text column": (["data.text_column=body"], ['no column "body"', "data.text_column", "it has: text"]),
    "too long rows": (["data.max_length=129"], ["data.max_length", "129", "at most 128"]),
    "a student that reads less than the rows hold": (
        ["data.max_length=32", "student={config: {max_position_embeddings: 31}}"],
        ["data.max_length is 32, but the student reads at most 31 tokens"],
    ),
    "a student that cannot be built": (
        ["student={config: {hidden_act: geluu}}"],
        ["student configuration {'hidden_act': 'geluu'}: BertForMaskedLM cannot be built from it"],
    ),
    "verified on what it was trained on": (
        ["data.eval_split=train"],
        ["data.train_split and data.eval_split are both train", "give two, such as train[:90%]"],
    ),
    "too few rows for a whole batch": (
        ["training.dataloader_drop_last=true", "training.per_device_train_batch_size=9"],
        ["arms.plain: 8 training rows make no whole batch of 9", "smaller batches"],
    ),
    "files that hold nothing": (
        ["data={path: text, data_files: {train: nothing.json, validation: nothing.json}}"],
        ["data text, split train can't be loaded: ", "nothing.json: its files hold nothing"],
    ),
    "checkpoints without the optimiser": (
        ["training.save_only_model=true"],
        ["training.save_only_model: a training that was stopped could not go on"],
    ),
    "a setting that no loss term looks at": (
        ["training.label_smoothing_factor=0.1"],
        ["training.label_smoothing_factor: none of the loss terms smooths labels"],
    ),
    "no training at all": (
        ["training.max_steps=-1", "training.num_train_epochs=0"],
        ["training.num_train_epochs: should be above 0 and finite, not 0"],
    ),
    "an upload in training": (["training.push_to_hub=true"], ["training.push_to_hub: nothing is uploaded in training"]),
    "checkpoints and measured gradients that exclude each other": (
        ["training.activation_checkpointing=true", "training.activation_checkpointing_kwargs={use_reentrant: true}"],
        ["training.activation_checkpointing_kwargs: use_reentrant goes with gradient_shares: false only"],
    ),
    "a tracker that is not installed": (["training.report_to=wandb"], ["error: training: ", "wandb"]),
    "an optimizer that is not installed": (["training.optim=adamw_8bit"], ["error: training: ", "bitsandbytes"]),
    "a setting of one arm that the optimizer refuses": (
        ["arms.causal.training.adam_beta2=2.0"],
        ["arms.causal.training.adam_beta2: should be below 1, not 2.0"],
    ),
    "a schedule that lacks a setting": (
        ["training.lr_scheduler_type=cosine_with_min_lr"],
        ["error: training: ", "min_lr"],
    ),
    "fewer workers than none": (["training.dataloader_num_workers=-1"], ["error: training.dataloader_num_workers: "]),
    "shards without processes": (["training.fsdp=full_shard"], ["error: training.fsdp: ", "leave it out"]),
    "evaluation in training": (["training.eval_on_start=true"], ["training.eval_on_start: models are evaluated after"]),
    "tokens of labelled rows": (
        ["task=sequence_classification", "data.label_column=label", "data.max_train_tokens=99"],
        ["data: a labelled row takes no max_train_tokens; use max_train_examples"],
    ),
    "evaluation without labels": (
        ["task=sequence_classification", "data.label_column=label", "evaluation.other={path: text}"],
        ["evaluation.other: task sequence_classification needs a label_column"],
    ),
    "data file that holds nothing": (
        ["data={path: json, data_files: {train: nothing.json, validation: nothing.json}}"],
        ["json, split train can't be loaded: "],
    ),
    "missing data file": (["data.data_files.train=nowhere.txt"], ["split train", "nowhere.txt"]),
    "missing split": (["data.eval_split=dev"], ["dev"]),
    "missing evaluation file": (
        ["evaluation.other={path: text, data_files: {validation: nowhere.txt}}"],
        ["nowhere.txt"],
    ),
    "no such teacher": (
        ["teacher=./nowhere"],
        ["teacher ./nowhere: no such folder; give a folder written by save_pretrained"],
    ),
    "no such student": (
        ["student={checkpoint: ./nowhere}"],
        ["student checkpoint ./nowhere: no such folder; give a folder"],
    ),
    "teacher without a head": (
        ["task=sequence_classification", "data.label_column=text"],
        ["teacher embedded", "weights for task sequence_classification", "trained for it"],
    ),
    "sources that the data lacks": (
        [PAIRED],
        ["sources `paired` need a source text for every row", "data.source_column"],
    ),
    "pairs that do not align": (
        [PAIRED, "data={path: json, data_files: {train: pairs.json, validation: pairs.json}, source_column: source}"],
        ["none of 4 pairs", "row 0", "different numbers of tokens (6 and 7)", "span columns"],
    ),
    "too few pairs": (["verification.pairs=1"], ["verification.pairs", "2 or more"]),
}


@pytest.mark.parametrize("overrides, said", WRONG.values(), ids=WRONG)
def test_a_run_is_refused_before_anything_is_written(
    folder: Path, refused: Callable[..., str], overrides: list[str], said: list[str]
) -> None:
    before = sorted(path.name for path in folder.iterdir() if path.name != ".cache")
    message = refused("run", "config.yaml", *overrides, "-o", "runs/out")
    for part in said:
        assert part in message
    assert sorted(path.name for path in folder.iterdir() if path.name != ".cache") == before


def test_a_verification_whose_control_cannot_be_made_leaves_nothing(folder: Path, refused: Callable[..., str]) -> None:
    student = ["--student", str(copy_of_the_teacher(folder / "student")), "--alignment", "diito/middle"]
    assert "7 layers" in refused("verify", "config.yaml", "student.layers=7", *student, "-o", "out")
    assert not (folder / "out").exists()


def test_an_unknown_key_in_the_file(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace("arms:", "amrs:"))
    assert 'config config.yaml: amrs: unknown key, did you mean "arms"?' in refused("run", "config.yaml")
    assert not (folder / "runs").exists()


def test_nothing_says_how_to_verify(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "config.yaml").write_text(CONFIG_WITHOUT_ALIGNMENT)
    assert "give verification.alignment, or an arm with an alignment" in refused("run", "config.yaml", "-o", "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("text", "said"), [(" \n" * 9, "holds no text"), ("too short\n" * 9, "no row is left")])
def test_text_without_content(folder: Path, refused: Callable[..., str], text: str, said: str) -> None:
    (folder / "text.txt").write_text(text)
    assert said in refused("run", "config.yaml", "-o", "out")
    assert not (folder / "out").exists()


def test_one_row_is_too_few(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "text.txt").write_text(TEXT.strip()[:80])
    assert "only 1 training row" in refused("run", "config.yaml", "-o", "out")
    assert not (folder / "out").exists()


def copy_of_the_teacher(target: Path) -> Path:
    return Path(shutil.copytree(ASSETS / "teacher", target))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(target: Path) -> None:
    target.mkdir()


def truncated(target: Path) -> None:
    truncate(copy_of_the_teacher(target) / "model.safetensors")


def without_tokenizer(target: Path) -> None:
    for file in copy_of_the_teacher(target).glob("tokenizer*"):
        file.unlink()


def with_a_longer_vocabulary(target: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copy_of_the_teacher(target))
    tokenizer.add_tokens([f"beyond{index}" for index in range(5001 - len(tokenizer))])
    tokenizer.save_pretrained(target)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (empty, "save_pretrained"),
        (truncated, "truncated"),
        (without_tokenizer, "no tokenizer"),
        (with_a_longer_vocabulary, "ids up to 5000"),
    ],
)
def test_a_teacher_that_cannot_be_used(
    folder: Path, refused: Callable[..., str], make: Callable[[Path], None], said: str
) -> None:
    make(folder / "broken")
    message = refused("run", "config.yaml", "teacher=broken", "-o", "out")
    assert message.startswith("error: teacher broken: ") and said in message
    assert not (folder / "out").exists()


@pytest.mark.parametrize("verb", ["run", "train", "validate", "explain"])
def test_alignments_are_checked_before_data_are_read(refused: Callable[..., str], verb: str) -> None:
    wrong = ["arms.causal.alignment=diito/midle", "data.data_files.train=nowhere.txt"]
    rest = {"run": ["-o", "out"], "train": ["--arm", "causal", "-o", "out"]}.get(verb, [])
    assert 'no preset "diito/midle"' in refused(verb, "config.yaml", *wrong, *rest)


def with_another_vocabulary(target: Path) -> None:
    target = copy_of_the_teacher(target)
    vocabulary = AutoTokenizer.from_pretrained(target).get_vocab()
    vocabulary["the"], vocabulary["and"] = vocabulary["and"], vocabulary["the"]
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(target)  # fmt: skip


def of_another_size(target: Path) -> None:
    BertForMaskedLM(bert_config()).save_pretrained(target)


def in_a_run(target: Path) -> None:
    (target / "figures").mkdir(parents=True)
    of_another_size(target / "causal")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (empty, ["student checkpoint broken", "save_pretrained"]),
        (truncated, ["student checkpoint broken", "unreadable or truncated"]),
        (with_another_vocabulary, ["same tokenizer", "differs", "must share one tokenizer"]),
        (of_another_size, ["same answers", "5000 tokens", "50"]),
        (in_a_run, ["student checkpoint broken: holds no model itself; give broken/causal, or another in it"]),
    ],
)
@pytest.mark.parametrize("verb", ["run", "train", "verify"])
def test_a_student_that_cannot_be_used(
    folder: Path, refused: Callable[..., str], verb: str, make: Callable[[Path], None], said: list[str]
) -> None:
    make(folder / "broken")
    rest = {
        "run": ["student={checkpoint: broken}"],
        "train": ["student={checkpoint: broken}", "--arm", "causal"],
        "verify": ["--student", "broken", "--alignment", "diito/middle"],
    }[verb]
    message = refused(verb, "config.yaml", *rest, "-o", "out")
    for part in said:
        assert part in message
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.max_step=8"],
        ["arms.causal.weights.kd=1"],
        ["student.layers=7"],
        WRONG["aligned_mse of unequal widths"][0],
    ],
)
def test_train_refuses_before_anything_is_written(
    folder: Path, refused: Callable[..., str], overrides: list[str]
) -> None:
    refused("train", "config.yaml", *overrides, "--arm", "causal", "-o", "out")
    assert not (folder / "out").exists()


def test_a_folder_in_use_is_left_alone(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "precious.txt").write_text("mine")
    message = refused("run", "config.yaml", "-o", "out")
    assert "out is not empty" in message and "--output" in message
    assert [path.name for path in (folder / "out").iterdir()] == ["precious.txt"]


def test_an_empty_folder_that_was_there_stays(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "out").mkdir()
    refused("run", "config.yaml", "student.layers=7", "-o", "out")
    assert list((folder / "out").iterdir()) == []


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the disk be full from the moment that a file of the given name is to be written."""

    def fill(name: str) -> None:
        replace = os.replace

        def full(source: Any, target: Any) -> None:
            if Path(target).name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        monkeypatch.setattr(os, "replace", full)

    return fill


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if ".cache" not in path.parts]


@pytest.mark.parametrize("name", ["config.yaml", "alignment.yaml", "inputs.yaml"])
def test_a_full_disk_at_the_start_leaves_nothing(
    folder: Path, refused: Callable[..., str], disk: Callable[[str], None], name: str
) -> None:
    disk(name)
    message = refused("run", "config.yaml", "-o", "out")
    assert name in message and "No space left on device" in message
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["outcomes.parquet", "results.json"])
def test_a_full_disk_at_the_end_keeps_the_students(
    folder: Path, refused: Callable[..., str], disk: Callable[[str], None], name: str
) -> None:
    disk(name)
    message = refused("run", "config.yaml", "-o", "out")
    assert name in message and "No space left on device" in message
    assert not (folder / "out" / name).exists() and hidden(folder) == []
    for arm in ("plain", "causal"):
        AutoModelForMaskedLM.from_pretrained(folder / "out" / arm)
    assert "results.json is missing: the run did not finish" in refused("report", "out")


def test_a_full_disk_while_a_student_is_saved(
    folder: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: BertForMaskedLM, target: Path) -> None:
        self.config.save_pretrained(target)
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(BertForMaskedLM, "save_pretrained", full)
    message = refused("run", "config.yaml", "-o", "out")  # saving is tried before the first step
    assert "out: nothing is trained" in message and "No space left on device" in message
    assert not (folder / "out").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    folder: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = CausalDistillationTrainer.compute_loss

    def poisoned(self: CausalDistillationTrainer, model: Any, *arguments: Any, **named: Any) -> Any:
        if self.state.global_step == 2:
            self.student.bert.embeddings.LayerNorm.bias.data[0] = torch.nan
        return compute(self, model, *arguments, **named)

    monkeypatch.setattr(CausalDistillationTrainer, "compute_loss", poisoned)
    settings = ["training.max_steps=4", "training.save_strategy=steps", "training.save_steps=1"]
    message = refused("run", "config.yaml", *settings, "-o", "out")
    assert "student after 2 steps: 1 of " in message and "embeddings.LayerNorm.bias are NaN" in message
    assert "lower learning_rate" in message
    checkpoints = folder / "out" / "checkpoints" / "plain"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    kept = AutoModelForMaskedLM.from_pretrained(checkpoints / "checkpoint-2")
    assert all(torch.isfinite(parameter).all() for parameter in kept.parameters())
    assert not (folder / "out" / "plain").exists()


def test_a_loss_that_overflows_names_the_term(
    folder: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = CausalDistillationTrainer.compute_loss

    def inflated(self: CausalDistillationTrainer, model: Any, *arguments: Any, **named: Any) -> Any:
        self.student.cls.predictions.bias.data[:] = torch.arange(len(self.student.cls.predictions.bias)) * 6e34
        return compute(self, model, *arguments, **named)

    monkeypatch.setattr(CausalDistillationTrainer, "compute_loss", inflated)
    message = refused("train", "config.yaml", "training.max_steps=5", "--arm", "causal", "-o", "out")
    assert "loss term" in message and "not finite at step 0" in message and "lower learning_rate" in message
    assert not (folder / "out" / "checkpoints").exists()


def test_an_interrupt_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CausalDistillationTrainer, "compute_loss", interrupted)
    with pytest.raises(SystemExit) as exit_:
        main(["train", "config.yaml", "--arm", "plain", "-o", "out"])
    assert exit_.value.code == 130
    told = capsys.readouterr()
    assert told.out == "" and "Traceback" not in told.err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["config.yaml", "inputs.yaml"]


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["run", "config.yaml", "-o", ""], ", after -o"),
        (["run", "config.yaml", "--output="], ", after --output"),
        (["suite", "run", "suite.yaml", "--launcher", ""], ", after --launcher"),
        (["verify", "", "--student", "embedded"], ", after verify"),
        (["", "config.yaml"], ""),
        (["run", "config.yaml", "-o", " "], ", after -o"),
    ],
)
def test_an_empty_argument_is_no_folder_or_file(
    folder: Path, refused: Callable[..., str], arguments: list[str], place: str
) -> None:
    before = sorted(folder.iterdir())
    assert f"error: an argument is empty{place}; give it, or leave it out" in refused(*arguments)
    assert sorted(folder.iterdir()) == before


def test_a_value_may_end_with_an_equals_sign(refused: Callable[..., str]) -> None:
    assert "empty" not in refused("verify", "config.yaml", "--student=models/lr=", "--alignment", "diito/middle")


def test_a_report_of_no_run(folder: Path, refused: Callable[..., str]) -> None:
    message = refused("report", ".cache")
    assert ".cache is no run folder" in message
    (folder / "empty").mkdir()
    assert "neither config.yaml nor results.json" in refused("report", "empty")
    assert list((folder / "empty").iterdir()) == []


def test_outcomes_of_another_schema(folder: Path, refused: Callable[..., str]) -> None:
    run = make_run(folder / "old")
    files = {path.name for path in run.iterdir()}
    pd.DataFrame({"student": ["a"]}).to_parquet(run / "outcomes.parquet")
    message = refused("report", "old")
    assert "outcomes.parquet" in message and "this version reads iit_toolkit/outcomes/3" in message
    truncate(run / "outcomes.parquet")
    assert "not a readable parquet file" in refused("report", "old")
    (run / "outcomes.parquet").unlink()
    assert "no outcomes table there" in refused("report", "old")
    (run / "results.json").write_text('{"schema": "iit_toolkit/results/0"}')
    assert "this version reads" in refused("report", "old")
    assert {path.name for path in run.iterdir()} == files - {"outcomes.parquet"}


def test_a_gate_on_what_is_no_run(folder: Path, refused: Callable[..., str]) -> None:
    assert "nowhere: no such results" in refused("gate", "nowhere", "--min-lower", "0.5")
    assert "results.json is missing" in refused("gate", ".", "--min-lower", "0.5")
    assert "config.yaml can't be read as JSON" in refused("gate", "config.yaml", "--min-lower", "0.5")
    make_run(folder / "run")
    assert "--min-lower is nan" in refused("gate", "run", "--min-lower", "nan")
    assert "nowhere: no such results" in refused("gate", "run", "--min-lower", "0.5", "--baseline", "nowhere")
    make_run(folder / "other", teacher={"name": "other", "parameters": 1})
    message = refused("gate", "run", "--min-lower", "0.5", "--baseline", "other", "--junit", "gate.xml")
    assert "other teacher (other, 1 parameters against example/teacher-12l" in message
    assert not (folder / "gate.xml").exists()


def test_runs_that_are_not_comparable(folder: Path, refused: Callable[..., str]) -> None:
    make_run(folder / "run")
    assert "nowhere: no such results" in refused("compare", "run", "nowhere")
    assert "have the same seed 7" in refused("compare", "run", "./run", "-o", "out")
    make_run(folder / "other", seed=8, teacher={"name": "other", "parameters": 1})
    assert "other/results.json can't be compared with run/results.json: other teacher" in refused(
        "compare", "run", "other", "-o", "out"
    )
    assert '--baseline: run/results.json has no arm "plian", did you mean "plain"?' in refused(
        "compare", "run", "--baseline", "plian"
    )
    assert not (folder / "out").exists()
    assert "could not write text.txt/compare.json" in refused("compare", "run", "-o", "text.txt")
    (folder / "run" / "outcomes.parquet").unlink()
    assert "no outcomes table there" in refused("compare", "run")


def test_an_export_of_what_is_no_run(folder: Path, refused: Callable[..., str]) -> None:
    assert "nowhere is no run folder" in refused("export", "nowhere", "-o", "out")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "config.yaml").write_text(CONFIG)
    assert "results.json is missing: the run did not finish" in refused("export", "unfinished", "-o", "out")
    run = make_run(folder / "run")
    assert "has several arms, choose with --arm: causal, plain" in refused("export", "run", "-o", "out")
    assert 'has no arm "clausal": did you mean "causal"?' in refused("export", "run", "--arm", "clausal", "-o", "out")
    assert "run/config.yaml" in refused("export", "run", "--arm", "causal", "-o", "out")
    (run / "config.yaml").write_text(CONFIG)
    assert "run/alignment.yaml" in refused("export", "run", "--arm", "causal", "-o", "out")
    (run / "alignment.yaml").write_text(f"{{name: x, variables: [{{name: v, teacher: [{SITE}], student: [{SITE}]}}]}}")
    assert "the student of arm causal is not there" in refused("export", "run", "--arm", "causal", "-o", "out")
    make_run(folder / "verified", arms={}, comparison=None)
    assert "verified/results.json: no trained arms" in refused("export", "verified", "-o", "out")
    assert not (folder / "out").exists()
    copy_of_the_teacher(run / "causal")
    (folder / "taken").mkdir()
    (folder / "taken" / "precious.txt").write_text("mine")
    assert "taken is not empty" in refused("export", "run", "--arm", "causal", "-o", "taken")
    assert [path.name for path in (folder / "taken").iterdir()] == ["precious.txt"]


def test_verification_of_what_is_no_export(folder: Path, refused: Callable[..., str]) -> None:
    assert "nowhere: no config.yaml there; give a folder that" in refused("verify", "--from", "nowhere", "-o", "out")
    make_run(folder / "run")
    assert "run: no config.yaml there" in refused("verify", "--from", "run", "-o", "out")
    assert not (folder / "out").exists()
