"""A command that can't write its output, or that memory or system stop, ends with one line or in silence."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from iit_toolkit import cli
from iit_toolkit.cli import main
from iit_toolkit.cli.ending import one_line_at_most
from iit_toolkit.errors import MAX_MESSAGE, UserError

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def ended(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code


@needs_full
@pytest.mark.parametrize("arguments", [["schema"], ["--help"], ["--version"], ["run", "--help"]])
def test_a_full_device_is_told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert ended(*arguments) == 2
        assert capsys.readouterr().err == "error: standard output, or a file: No space left on device\n"


@pytest.mark.parametrize("arguments", [["schema"], ["--help"]])
def test_a_closed_pipe_ends_in_silence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert ended(*arguments) == 141
        assert capsys.readouterr().err == ""


@needs_full
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nothing_is_said_as_the_interpreter_ends(tmp_path: Path, unbuffered: str) -> None:
    command = f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m iit_toolkit"
    for tail, code in (
        ("schema > /dev/full", 2),
        ("schema >&-", 0),
        ("explain nope 2>&-", 2),
        ("explain nope 2> /dev/full", 2),
        ("schema | true; exit ${PIPESTATUS[0]}", None),  # the pipe may still hold it all
    ):
        done = subprocess.run(
            ["bash", "-c", f"{command} {tail}"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert code is None or done.returncode == code, (tail, done)
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
        assert len(done.stderr.splitlines()) <= 1


def test_without_streams_a_mistake_still_has_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert ended("explain", "no-such-config") == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("x" * 9000), "error: xxx"),
        (RecursionError(), "error: something is nested too deeply; write it flatter"),
        (MemoryError(), "error: the memory of this machine does not hold that; give less, or smaller batches"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "error: runs/a: No space left on device"),
        (OSError(errno.EACCES, "Permission denied", "runs/\x1b[2J\nx"), "error: runs/\\x1b[2J x: Permission denied"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: standard output, or a file: No space left on device",
        ),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "error: Connection reset by peer"),
        (OSError("the Hub\ndoes not answer"), "error: the Hub does not answer"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_ends_a_command_is_one_line(error: BaseException, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_, one_line_at_most():
        raise error
    told = capsys.readouterr().err
    assert exit_.value.code == 2
    assert told.startswith(said) and told.count("\n") == 1 and len(told) <= MAX_MESSAGE + 8


def test_a_defect_still_shows_itself() -> None:
    with pytest.raises(ZeroDivisionError), one_line_at_most():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "config",
    ["no\npe\x1b[31m", "a" * 100_000, "a/" * 3000, "\udcc3.yaml", "x\0y", ".", "/dev/zero", ""],
    ids=lambda one: ascii(one)[:20],
)
@pytest.mark.parametrize("verb", [["explain"], ["suite", "plan"]], ids=["explain", "suite plan"])
def test_no_argument_reaches_the_terminal_raw(
    config: str, verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(*verb, config) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("error: ") and told.err.rstrip("\n").isprintable()
    assert len(told.err) <= MAX_MESSAGE + 8
    assert not list(tmp_path.iterdir())


def test_a_text_that_a_stream_can_t_write_is_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(cli, "app", lambda _: print("größe \udcc3"))  # noqa: T201
        main([])
    assert (tmp_path / "out").read_text() == "gr\\xf6\\xdfe \\udcc3\n"
