from __future__ import annotations

import errno
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import filelock
import pytest

from iit_toolkit.downstream.folder import FinetuneFolder
from iit_toolkit.errors import UserError
from iit_toolkit.runs import folder as folders
from iit_toolkit.runs.folder import RunFolder
from iit_toolkit.runs.working import beginning, working_in, written_at_once


def left_by_a_kill(place: Path) -> None:
    """What writers leave that are killed: half of a file, and a folder that has not taken its name."""
    (place / f".config.yaml.{uuid.uuid4().hex}.tmp").write_text("na")
    (place / f".causal.{uuid.uuid4().hex}").mkdir()
    (place / f".causal.{uuid.uuid4().hex}" / "x").parent.mkdir()
    (place / ".lock").touch()


def test_what_killed_processes_left_is_cleared_and_blocks_nothing(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path)
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm" / f".README.md.{uuid.uuid4().hex}.tmp").touch()
    (tmp_path / "arm" / ".hidden").touch()
    with working_in(tmp_path) as folder:
        assert {path.name for path in folder.path.iterdir()} == {"arm", ".lock"}
    assert [path.name for path in tmp_path.rglob("*")] == ["arm", ".hidden"]


def test_a_folder_with_left_overs_only_is_free(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path)
    RunFolder.create(tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="not empty"):
        RunFolder.create(tmp_path)


def test_folders_that_were_made_go_if_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(UserError), working_in(tmp_path / "a" / "b") as folder, beginning(folder):
        folder.config.write_text("name: x")
        raise UserError("no such teacher")
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_one_is_refused(tmp_path: Path) -> None:
    with (
        working_in(tmp_path),
        pytest.raises(UserError, match="another process is at work on the run"),
        working_in(tmp_path),
    ):
        raise AssertionError
    with working_in(tmp_path):
        pass


def test_a_lock_of_a_killed_process_blocks_nobody(tmp_path: Path) -> None:
    program = f"import filelock, os\nfilelock.FileLock(r'{tmp_path / '.lock'}').acquire()\nos.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / ".lock").exists()
    with working_in(tmp_path):
        pass


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A soft lock is a file that stays if its process is killed."""
    monkeypatch.setattr(folders, "FileLock", filelock.SoftFileLock)
    with pytest.raises(UserError, match="its file system has no locks; choose a folder"), working_in(tmp_path / "run"):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_read_only_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def read_only(path: object, flags: int, *rest: object, **named: object) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *rest, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(UserError, match="could not lock the run .*: Read-only file system") as told:
            working_in(tmp_path).__enter__()
    assert "\n" not in str(told.value)


class Killed(BaseException): ...


def test_what_is_written_at_once_is_gone_if_it_fails_and_made_again_if_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "verified"
    with pytest.raises(Killed), written_at_once(home) as folder:
        folder.config.write_text("name: x")
        (folder.path / "figures").mkdir()
        raise Killed
    assert not home.exists()
    with monkeypatch.context() as patch:
        patch.setattr("iit_toolkit.runs.working._clear", lambda _: None)  # as a kill leaves it
        with pytest.raises(Killed), written_at_once(home) as folder:
            folder.config.write_text("name: x")
            left_by_a_kill(home)
            raise Killed
    with written_at_once(home) as folder:
        assert {path.name for path in home.iterdir()} == {".unfinished", ".lock"}
        folder.results.write_text("{}")
    assert [path.name for path in home.iterdir()] == ["results.json"]
    with pytest.raises(UserError, match="not empty"), written_at_once(home):
        raise AssertionError


def test_what_a_killed_verification_left_does_not_block_a_run(tmp_path: Path) -> None:
    for name in (".unfinished", "config.yaml", "results.json", ".lock"):
        (tmp_path / name).touch()
    with working_in(tmp_path) as folder:
        folder.refuse_occupied()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_the_mark_of_a_verification_clears_no_run(tmp_path: Path) -> None:
    (tmp_path / "causal").mkdir()
    for name in (".unfinished", "config.yaml", "results.json", "causal/training.json"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="not empty"), written_at_once(tmp_path):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["causal", "config.yaml", "results.json"]


@pytest.mark.parametrize("make", [working_in, lambda path: FinetuneFolder(path).alone()], ids=["run", "finetune"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, make: Callable[[Path], AbstractContextManager[Any]]) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / ("a" * 300), "too long for a path"),
        (Path("a" * 200, *["a" * 200] * 30), "too long for a path"),
        (tmp_path / "file", "could not make .*: File exists; choose another with --output"),
    ):
        with pytest.raises(UserError, match=said), make(path):
            raise AssertionError


@pytest.mark.parametrize("name", ["scores", "models"])
def test_a_fine_tuning_writes_through_no_link_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / name).symlink_to(tmp_path / "other")
    with (
        pytest.raises(UserError, match=f"{name}: a symbolic link leads out"),
        FinetuneFolder(tmp_path / "tuned").alone(),
    ):
        raise AssertionError


def test_a_file_beside_what_was_killed_is_not_removed(tmp_path: Path) -> None:
    for name in (".unfinished", "config.yaml", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="not empty"), written_at_once(tmp_path):
        raise AssertionError
    assert (tmp_path / "notes.txt").exists()
