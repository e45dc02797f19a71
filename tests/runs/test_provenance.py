from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch

import iit_toolkit
from iit_toolkit.runs import provenance as module
from iit_toolkit.runs.provenance import fingerprint, provenance

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "iit_toolkit").mkdir()
    (tmp_path / "iit_toolkit" / "a.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(module, "_PACKAGE_FOLDER", tmp_path / "iit_toolkit")
    return tmp_path


@needs_git
def test_the_commit_and_its_cleanness_are_told(checkout: Path) -> None:
    told = provenance()
    assert (told["git_commit"], told["git_dirty"]) == (git(checkout, "rev-parse", "HEAD"), False)
    (checkout / "iit_toolkit" / "a.py").write_text("changed")
    assert provenance()["git_dirty"] is True


@needs_git
def test_a_repository_that_only_contains_the_installation_does_not_count(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / ".venv" / "site-packages" / "iit_toolkit"
    installed.mkdir(parents=True)
    monkeypatch.setattr(module, "_PACKAGE_FOLDER", installed)
    told = provenance()
    assert (told["git_commit"], told["git_dirty"]) == (None, None)


@needs_git
def test_without_git_nothing_is_claimed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    told = provenance()
    assert (told["git_commit"], told["git_dirty"]) == (None, None)


def test_versions_and_machine() -> None:
    told = provenance()
    assert told["versions"]["iit_toolkit"] == iit_toolkit.__version__
    assert told["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # not all name the build
    assert told["versions"]["pyvene"] == "0.1.8"
    assert all(told["versions"].values())
    assert told["hardware"]["cores"] >= 1
    assert told["hardware"]["cpu"]
    assert len(told["hardware"]["cuda"]) == torch.cuda.device_count()
    assert json.loads(json.dumps(told)) == told


def test_the_fingerprint_is_sha256_over_lengths_and_ids() -> None:
    content = struct.pack("<7q", 2, 101, 7, 3, 1, 2, 3)
    assert fingerprint([[101, 7], (1, 2, 3)]) == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_the_fingerprint_sees_order_and_row_ends() -> None:
    variants = [[[1, 2], [3]], [[1], [2, 3]], [[3], [1, 2]], [[1, 2, 3]], [[1, 2], [3], []], [[2, 1], [3]]]
    assert len({fingerprint(rows) for rows in variants}) == len(variants)
