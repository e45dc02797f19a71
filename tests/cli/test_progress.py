"""What a long command says: phases, no long silence, and where an interrupt came."""

from __future__ import annotations

import importlib.abc
import logging
import re
import sys
import time

import pytest
from transformers.utils import logging as of_transformers

from iit_toolkit.cli.ending import TerminatedError
from iit_toolkit.cli.progress import Lines, said
from iit_toolkit.runs.progress import Count, Phase, Step, counted, in_piece, phase, tell

LOG = logging.getLogger("iit_toolkit.pipeline.run")


def test_phases_and_warnings_go_to_standard_error_while_the_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    verbosity = of_transformers.get_verbosity()
    with said():
        phase("verifying a, b")
        LOG.warning("3 rows are dropped")
        LOG.debug("of no matter")
        assert of_transformers.get_verbosity() == logging.ERROR
    LOG.info("not said")
    assert capsys.readouterr() == ("", "verifying a, b\n3 rows are dropped\n")
    assert of_transformers.get_verbosity() == verbosity
    assert not any(isinstance(one, Lines) for one in logging.getLogger("iit_toolkit").handlers)


def test_whoever_waits_for_the_libraries_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "datasets":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "datasets")
    monkeypatch.setattr(sys, "meta_path", [Slow(), *sys.meta_path])
    with pytest.raises(KeyboardInterrupt), said():
        pass
    assert re.match(r"stopped after [\d.]+ s: loading models and data; repeat the", capsys.readouterr().err)


def test_an_interrupt_says_what_was_done_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), said(going_on="repeat it with --resume"):
        phase("training causal")
        tell(Step("causal 2/2", 120, 200, 1.38))
        tell(Step("causal 2/2", 123, 200, 1.38), logging.DEBUG)
        raise KeyboardInterrupt
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"stopped after [\d.]+ s: causal 2/2 · step 123/200; ", line) and line.endswith(
        "; repeat it with --resume"
    )


def test_a_silence_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(silence=0.1)
    with lines.ticking():
        time.sleep(0.35)
        lines.emit(record(Phase("verifying a")))
        time.sleep(0.35)
    said_lines = capsys.readouterr().err.splitlines()
    assert said_lines[0].startswith("... loading models and data: 0.") and "verifying a" in said_lines
    assert said_lines[-1].startswith("... verifying a: 0.")


def record(told: Phase | Count) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.INFO, "x", 1, str(told), None, None)
    made.progress, made.piece = told, ""
    return made


def test_sigterm_says_the_same_as_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TerminatedError) as raised, said(going_on="repeat the command to go on from here"):
        phase("writing")
        raise TerminatedError(143)
    assert raised.value.told and raised.value.code == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"stopped after [\d.]+ s: writing; repeat the command to go on from here", last)


def test_a_silence_says_how_far_a_count_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(silence=0.1)
    lines.emit(record(Phase("verifying a")))
    for told in (Count("verifying", 12, 32, 41.0), Count("tokenizing", 1, 3)):
        made = record(told)
        made.levelno = logging.DEBUG
        lines.emit(made)
        with lines.ticking():
            time.sleep(0.15)
        lines._ended.clear()  # pyright: ignore[reportPrivateUsage]
    first, *others = capsys.readouterr().err.splitlines()  # of a slow machine, several of each kind
    assert first == "verifying a"
    verified = [one for one in others if re.fullmatch(r"\.\.\. verifying a · 12/32: [\d.]+ s, 41 s left", one)]
    tokenized = [one for one in others if re.fullmatch(r"\.\.\. verifying a · tokenizing 1/3: [\d.]+ s", one)]
    assert verified and tokenized and others == verified + tokenized


def test_a_piece_of_a_suite_is_named_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), said():
        with in_piece("piece 3/13 · seed 42"):
            phase("training causal")
            tell(Step("causal 1/1", 120, 313, 0.41, left=21.0))
        phase("writing")
        with in_piece("piece 4/13 · seed 43"):
            assert list(counted(range(2), "scoring")) == [0, 1]
            raise KeyboardInterrupt
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "piece 3/13 · seed 42 · training causal",
        "piece 3/13 · seed 42 · causal 1/1 · step 120/313 · loss 0.41 · 21 s left",
        "writing",
    ]
    assert re.match(r"stopped after [\d.]+ s: piece 4/13 · seed 43 · writing; ", lines[3])
