"""The paper's setting as a dry run of two processes: its own config, with a tiny teacher and a short text."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM

from iit_toolkit import pipeline
from iit_toolkit.config.loading import ASSETS, load_config
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder

CONFIG = str(Path(__file__).parents[2] / "experiments" / "paper-claims" / "paper.yaml")
ARMS = ["plain", "middle", "late", "full", "full-cos"]
PROCESSES = 2
LONGEST = 32


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Run the command line by two processes with the real torchrun; they end as Python ends."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]
    whole = [*launch, "-m", "iit_toolkit", *command]
    return subprocess.run(whole, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What has to be changed without a network and without a GPU: teacher, data and sizes."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 32}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=5000, max_position_embeddings=LONGEST, **sizes, **dropout)  # pyright: ignore
    teacher = BertForMaskedLM(config)
    for parameter in teacher.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    teacher.save_pretrained(folder / "teacher")
    AutoTokenizer.from_pretrained(ASSETS / "teacher", model_max_length=LONGEST).save_pretrained(folder / "teacher")
    words = ["module", "file", "value", "list", "error", "string", "class", "function", "method", "object"]
    draw = random.Random(0)
    for split in ("train", "test"):
        text = "\n".join(" ".join(draw.choices(words, k=draw.randint(12, 30))) for _ in range(64))
        (folder / f"{split}.txt").write_text(text)
    named = {"train": "train", "validation": "test", "test": "test"}
    files = ", ".join(f"{split}: '{folder / file}.txt'" for split, file in named.items())
    data = f"{{path: text, data_files: {{{files}}}, packing: false, max_length: {LONGEST}}}"
    return [
        f"teacher={folder / 'teacher'}",
        f"data={data}",
        f"evaluation={{wikitext-103-test: {data}}}",
        "training.max_steps=3",
        "training.per_device_train_batch_size=4",
        "training.train_sampling_strategy=random",  # one process can follow this order, too
        "training.logging_steps=1",
        "verification.pairs=16",
        "verification.resamples=100",
    ]


@pytest.fixture(scope="module")
def finished(
    overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of two processes that goes on where one process has trained an arm."""
    folder = tmp_path_factory.mktemp("runs") / "paper"
    pipeline.train(load_config(CONFIG, overrides), folder, "late")
    return folder, torchrun("run", CONFIG, *overrides, "--output", str(folder), "--resume")


@pytest.fixture(scope="module")
def results(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    folder, done = finished
    assert done.returncode == 0, done.stderr[-3000:]
    return RunFolder.open(folder).read_results()


def test_the_setting_is_the_papers() -> None:
    config = load_config(CONFIG)
    training = Prepared(config).arm_training("full-cos", Path("unused"))
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * PROCESSES
    assert (batch, training.num_train_epochs) == (240, 3)
    optimizer = (training.learning_rate, training.adam_beta1, training.adam_beta2, training.adam_epsilon)
    assert optimizer == (5e-4, 0.9, 0.98, 1e-6)
    assert (training.warmup_steps, training.weight_decay, training.max_grad_norm) == (0.05, 0, 5)
    assert training.lr_scheduler_type == "linear"
    assert (config.mlm.probability, config.mlm.smoothing) == (0.15, 0.7)
    assert (config.teacher, config.student.layers, config.data.max_length) == ("bert-base-uncased", 6, 512)
    assert list(config.arms) == ARMS
    other = load_config(CONFIG, ["student.layers=3", "arms.off-by-one={alignment: naacl2022/full}"])
    assert other.student.layers == 3 and list(other.arms) == [*ARMS, "off-by-one"]


def test_two_processes_run_the_papers_setting(results: dict[str, Any]) -> None:
    assert list(results["arms"]) == ARMS
    assert {name: arm["processes"] for name, arm in results["arms"].items()} == {
        name: 1 if name == "late" else PROCESSES for name in ARMS
    }
    for name, arm in results["arms"].items():
        assert arm["steps"] == 3 and arm["effective_batch"] == 4 * 3 * arm["processes"]
        rates = [entry["learning_rate"] for entry in arm["history"]]
        assert rates == pytest.approx([0, 5e-4, 2.5e-4]), name
    assert results["arms"]["plain"]["tokens"] == results["data"]["train"]["tokens"]  # once over
    students = {*ARMS, "untrained"}
    assert set(results["summary"]["students"]) == students
    assert set(results["evaluation"]["wikitext-103-test"]["perplexity"]) == {*students, "teacher"}


def test_the_main_process_alone_writes_and_prints(
    finished: tuple[Path, subprocess.CompletedProcess[str]], results: dict[str, Any]
) -> None:
    folder, done = finished
    assert done.stdout.count("report: ") == 1 and done.stdout.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert results["verdict"]["student"] == "full"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {*ARMS, "figures", "checkpoints"}
    for name in ARMS:
        assert AutoModelForMaskedLM.from_pretrained(folder / name).config.num_hidden_layers == 6


def test_two_processes_train_what_one_does_with_twice_the_micro_steps(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    results: dict[str, Any],
    overrides: list[str],
    tmp_path: Path,
) -> None:
    """Without dropout and interchanges, which every process draws for itself, only roundings differ."""
    doubled = load_config(CONFIG, [*overrides, "training.gradient_accumulation_steps=6"])
    pipeline.train(doubled, tmp_path / "one", "plain")
    one, two = (load_file(path / "plain" / "model.safetensors") for path in (tmp_path / "one", finished[0]))
    start = load_file(Path(doubled.teacher) / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    assert (one[name] - start[name]).abs().max() > 5e-4
    assert set(one) == set(two)
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-5, rtol=0)
    record = json.loads((tmp_path / "one" / "plain" / "training.json").read_text())
    assert record["effective_batch"] == results["arms"]["plain"]["effective_batch"]
    assert record["tokens"] == results["arms"]["plain"]["tokens"]
    for entry, other in zip(record["history"], results["arms"]["plain"]["history"], strict=True):
        assert (entry["loss"], entry["grad_norm"]) == pytest.approx((other["loss"], other["grad_norm"]), rel=1e-4)


def test_a_mistake_ends_all_processes_with_one_line(overrides: list[str], tmp_path: Path) -> None:
    wrong = [*overrides, "arms.middle.alignment=diito/midle", "--output", str(tmp_path / "out")]
    done = torchrun("run", CONFIG, *wrong)
    assert done.returncode != 0 and done.stdout == ""
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "diito/midle" in told[0] and "diito/middle" in told[0]
    assert "exitcode  : 2" in done.stderr  # of the main process
    assert "iit_toolkit/" not in done.stderr  # no traceback through the toolkit
    assert not (tmp_path / "out").exists()
