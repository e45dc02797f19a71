"""The panel of a terminal: what it shows, how wide it is, and what stays above it."""

from __future__ import annotations

import io
import logging
import re

import pytest
from rich.console import Console

from iit_toolkit.cli.live import LivePanel, can_be_drawn
from iit_toolkit.cli.progress import Lines, said
from iit_toolkit.runs.progress import Count, Phase, Step

STEP = Step("causal 2/2", 120, 200, 1.38, {"task": 4.34, "causal": 0.45}, 0.45, 21.0)


def told(progress: Phase | Step | Count, level: int = logging.INFO, piece: str = "") -> logging.LogRecord:
    record = logging.LogRecord("x", level, "x", 1, str(progress), None, None)
    record.progress, record.piece = progress, piece
    return record


def shown(panel: LivePanel, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(panel.drawn())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 100])
def test_a_panel_shows_phase_step_loss_effect_and_time_within_the_width(width: int) -> None:
    panel = LivePanel(Console(file=io.StringIO(), force_terminal=True, width=width))
    assert "loading models and data" in shown(panel, width)[0]
    panel.emit(told(Phase("verifying plain, causal")))
    panel.emit(told(Count("verifying", 12, 32, 41.0), logging.DEBUG))
    lines = shown(panel, width)
    assert "verifying plain, causal" in lines[0] and "verifying 12/32 · 41 s left" in lines[1]
    panel.emit(told(STEP, piece="piece 3/13 · seed 42"))
    lines = shown(panel, width)
    assert "piece 3/13 · seed 42 · causal 2/2" in lines[0] and "step 120/200 · 21 s left" in lines[1]
    assert "loss 1.38 (task 4.34, causal 0.45)" in lines[2] and "effect 0.45" in lines[3]
    assert {len(line) for line in lines} == {width - 3} and len(lines) == 5


def test_phases_warnings_and_the_last_step_stay_above_and_other_steps_do_not() -> None:
    file = io.StringIO()
    panel = LivePanel(Console(file=file, force_terminal=True, width=100, color_system=None))
    panel.emit(told(Phase("training causal")))
    panel.emit(told(STEP))
    panel.emit(told(Step("causal 2/2", 121, 200), logging.DEBUG))
    panel.emit(told(Step("causal 2/2", 200, 200), logging.INFO))
    panel.emit(logging.LogRecord("x", logging.WARNING, "x", 1, "3 rows [b] are dropped", None, None))
    panel.stopped()
    *lines, last = file.getvalue().splitlines()
    assert lines == ["training causal", "causal 2/2 · step 200/200", "3 rows [b] are dropped"]
    assert re.match(r"stopped after [\d.]+ s: causal 2/2 · step 200/200; repeat the command to begin again$", last)


def test_a_file_gets_lines_and_no_panel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which lets rich take anything for a terminal
    assert not can_be_drawn(Console(stderr=True))
    with said():
        [handler] = [one for one in logging.getLogger("iit_toolkit").handlers if isinstance(one, Lines)]
        assert type(handler) is Lines
    assert capsys.readouterr().err == ""
