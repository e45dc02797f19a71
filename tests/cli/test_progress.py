"""What a long command says: phases, no long silence, and where an interrupt came."""

from __future__ import annotations

import logging
import time

import pytest
from transformers.utils import logging as of_transformers

from iit_toolkit.cli.progress import Lines, said

LOG = logging.getLogger("iit_toolkit.pipeline.run")


def test_phases_and_warnings_go_to_standard_error_while_the_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    verbosity = of_transformers.get_verbosity()
    with said():
        LOG.info("verifying %s", "a, b")
        LOG.warning("3 rows are dropped")
        LOG.debug("of no matter")
        assert of_transformers.get_verbosity() == logging.ERROR
    LOG.info("not said")
    assert capsys.readouterr() == ("", "verifying a, b\n3 rows are dropped\n")
    assert of_transformers.get_verbosity() == verbosity
    assert not any(isinstance(one, Lines) for one in logging.getLogger("iit_toolkit").handlers)


def test_an_interrupt_says_what_was_done_and_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), said():
        LOG.info("causal 2/2 · step 120/200 · loss 1.38 (task 4.34)")
        raise KeyboardInterrupt
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("stopped after 0 s: causal 2/2 · step 120/200; ") and "--resume" in line


def test_a_silence_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(silence=0.1)
    with lines.ticking():
        time.sleep(0.35)
        lines.emit(logging.LogRecord("x", logging.INFO, "x", 1, "verifying a", None, None))
        time.sleep(0.35)
    said_lines = capsys.readouterr().err.splitlines()
    assert said_lines[0] == "... loading models and data: 0 s" and "verifying a" in said_lines
    assert said_lines[-1] == "... verifying a: 0 s"
