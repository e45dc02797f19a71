from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import RunFolder, folder_written_whole, write_atomically


def test_a_file_is_written_with_its_parents_and_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "figures" / "a.svg", "ä")
    write_atomically(tmp_path / "figures" / "a.svg", b"second")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["a.svg"]
    assert (tmp_path / "figures" / "a.svg").read_bytes() == b"second"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_atomically(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "results.json"
    path.write_text("old")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r"results\.json.*No space left") as caught:
        write_atomically(path, "new")
    assert "\n" not in str(caught.value)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("results.json", "old")]


def test_an_interrupt_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", "new")
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("a", "old")]


def test_a_place_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="could not write"):
        write_atomically(tmp_path / "file" / "below", "x")
    with pytest.raises(UserError, match="could not write"):
        write_atomically(tmp_path / "folder", "x")


def test_a_folder_is_replaced_whole_and_readable_by_whom_the_umask_lets_read(tmp_path: Path) -> None:
    target = tmp_path / "models" / "student"
    for number in (1, 2):
        with folder_written_whole(target) as folder:
            (folder / f"{number}.safetensors").touch(mode=0o600)
            assert not target.exists() or [path.name for path in target.iterdir()] == ["1.safetensors"]
    assert [path.name for path in target.parent.iterdir()] == ["student"]
    [file] = target.iterdir()
    (tmp_path / "plain").touch()
    assert file.name == "2.safetensors" and file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_fails_leaves_the_old_one_and_no_rest(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "old").touch()
    failures = [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left on\ndevice")]
    for failure in failures:
        told = pytest.raises(UserError, match=r"student: No space left on device; make room")
        with told, folder_written_whole(tmp_path / "student") as folder:
            (folder / "new").touch()
            raise failure
        assert [path.name for path in tmp_path.rglob("*")] == ["student", "old"]


def test_what_a_killed_process_left_beside_a_folder_goes_when_it_is_written(tmp_path: Path) -> None:
    left, other = tmp_path / f".out.{'0f' * 16}", tmp_path / f".out.json.{'0f' * 16}.tmp"
    (left / "x").mkdir(parents=True)
    other.touch()
    with folder_written_whole(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}


def test_create_takes_a_new_or_empty_folder_only(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path / "a" / "b").path.is_dir()
    run = RunFolder.create(tmp_path / "a" / "b")
    run.config.write_text("name: x")
    with pytest.raises(UserError, match=r"b is not empty.*--output"):
        RunFolder.create(tmp_path / "a" / "b")
    with pytest.raises(UserError, match="could not make"):
        RunFolder.create(run.config)
    assert run.config.read_text() == "name: x"


def test_open_takes_a_run_folder_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder.open(tmp_path)
    with pytest.raises(UserError, match="is no run folder"):
        RunFolder.open(tmp_path / "missing")
    (tmp_path / "results.json").write_text("{}")
    assert RunFolder.open(tmp_path).path == tmp_path


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "figures", "untrained", "-x", "a\n"])
def test_an_arm_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="arm"):
        RunFolder(tmp_path).arm(name)


def test_an_arm_has_a_folder(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).arm("causal-2") == tmp_path / "causal-2"


def test_results_come_back_as_plain_json(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_results(
        {
            "float": np.float32(0.5),
            "integer": torch.tensor(3),
            "nested": {"nan": float("nan"), "list": (1, np.float64("inf"), None, True)},
        }
    )
    expected = {
        "schema": "iit_toolkit/results/1",
        "float": 0.5,
        "integer": 3,
        "nested": {"nan": None, "list": [1, None, None, True]},
    }
    assert run.read_results() == expected
    assert json.loads(run.results.read_text()) == expected


def test_results_that_cannot_be_used_are_user_errors(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match="missing"):
        run.read_results()
    for text in ("{", "[]", '{"schema": "iit_toolkit/results/2"}', "\x00"):
        run.results.write_text(text)
        with pytest.raises(UserError, match=r"results\.json"):
            run.read_results()
    with pytest.raises(UserError, match="schema"):
        run.write_results({"schema": "other"})
