"""A suite's names and paths lead nowhere else, and its file is read within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_toolkit.downstream.config import load_finetune_config
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.suite.config import load_suite

SUITE = """\
name: NAME
seeds: [1]
baseline: plain
run: {name: tiny, teacher: embedded, data: {source: python_docs}, arms: {plain: {}}}
"""
TASKS = "name: NAME\nmodel: m\ntasks: {rte: {}}\n"


@pytest.mark.parametrize(
    "name", ["..", ".", "'..'", "'...'", ".git", "a/b", "../a", "/a", "'a\\b'", "-a", "a.", "nul", "''"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "input.yaml"
    for text, load in ((SUITE, load_suite), (TASKS, load_finetune_config)):
        path.write_text(text.replace("NAME", name))
        with pytest.raises(UserError, match="name: .*(can't name a folder|name of a device)"):
            load(path)
        path.write_text(text.replace("NAME", "fine"))
        with pytest.raises(UserError, match="name: "):
            load(path, [f"name={name}"])
    assert [one.name for one in tmp_path.iterdir()] == ["input.yaml"]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ('"a\\0b"', "input.yaml, line 2, column 6: a text holds the control character"),
        ("a" * 5000, "too long for a path"),
        ("/dev/zero", "/dev/zero: no regular file"),
        ("nobody.yaml", "nobody.yaml: can't be read"),
        (".", "can't be read"),
        ("5", "run: input should be a valid dictionary"),
        ("[]", "run: input should be a valid dictionary"),
    ],
    ids=lambda one: one[:20],
)
def test_a_run_that_no_file_holds_is_refused(run: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "input.yaml").write_text(f"name: s\nrun: {run}\nseeds: [1]\nbaseline: plain\n")
    with pytest.raises(UserError, match=said) as caught:
        load_suite(tmp_path / "input.yaml")
    assert len(str(caught.value)) <= 400


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("run.seed=5", "run.seed: the suite gives it to its runs; override seeds"),
        ("run.name=other", "run.name: the suite gives it to its runs; override name"),
        ("run.verification.baseline=plain", "run.verification.baseline: the suite gives it to its runs; override base"),
        ("run.verification.treatment=plain", "run.verification.treatment: the suite gives it to its runs; override b"),
        ("finetune={tasks: {rte: {}}, model: m}", "finetune: model: a suite fine-tunes its own models; leave it out"),
        ("finetune=tasks.yaml", "finetune: name, model: a suite fine-tunes its own models; leave it out"),
    ],
)
def test_what_a_suite_gives_by_itself_is_not_overridden(override: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "input.yaml"
    path.write_text(SUITE.replace("NAME", "fine"))
    (tmp_path / "tasks.yaml").write_text(TASKS.replace("NAME", "fine"))
    with pytest.raises(UserError, match=f"{said}"):
        load_suite(path, [override])
    load_suite(path, ["run.task=masked_lm", "seeds=[5]"])
