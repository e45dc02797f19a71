"""The command on a real, tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_toolkit.cli import main
from tests.downstream.tiny import save_data, save_tiny_model, sentences


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "model")
    save_data(tmp_path, sentences(8, 0), sentences(8, 1))
    return tmp_path


DATA = "tasks.sst2.data={path: parquet, data_files: {train: train.parquet, validation: validation.parquet}}"
SETTINGS = (DATA, "tasks.sst2.max_length=32", "training.max_steps=1", "seeds=[1, 2]")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(("finetune", *arguments))
    return int(exit_.value.code or 0)


def test_a_model_is_fine_tuned_and_its_table_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "model", "--task", "sst2", *SETTINGS, "-o", "out") == 0
    table = capsys.readouterr().out.strip().splitlines()
    assert table[0].split() == ["task", "split", "metric", "mean", "median", "std", "seeds"]
    assert table[2].split()[:3] == ["sst2", "validation", "accuracy"] and table[2].split()[-1] == "2"
    assert table[-1] == "scores: out/finetune.json"
    assert sorted(path.name for path in Path("out").rglob("*") if path.is_file()) == [
        "finetune.json",
        "finetune.yaml",
        "sst2-1.json",
        "sst2-2.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere.yaml",), ["nowhere.yaml: can't be read", "No such file"]),
        (("--model", "nowhere", "--task", "sst2"), ["model nowhere", "give a folder written by save_pretrained"]),
        (("--model", "model", "--task", "sst"), ["--model, --task", 'no task "sst"', '"sst2"']),
        (("--model", "model", "--task", "sst2", *SETTINGS, "tasks.sst2.data.train_split=dev"), ["split dev"]),
        (("--model", "model", "--task", "rte", DATA.replace("sst2", "rte"), "tasks.rte.max_length=32"), ["sentence1"]),
        (("--model", "model", "--task", "sst2", DATA), ["tasks.sst2.max_length is 128", "at most 64"]),
    ],
)
def test_mistakes_give_two_one_line_and_no_folder(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: list[str]
) -> None:
    assert run(*arguments, "-o", "out") == 2
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert printed.out == "" and len(errors) == 1 and printed.err.endswith(f"{errors[0]}\n")
    assert all(part in errors[0] for part in told), errors[0]
    assert not Path("out").exists()
