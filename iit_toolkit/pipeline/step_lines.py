"""One line per log step of a training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from logging import getLogger
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState

from iit_toolkit.analysis.statistics.numbers import duration
from iit_toolkit.distillation.trainer import CausalDistillationTrainer

_LOG = getLogger(__name__)
_TERM = "loss/"


def say_steps(trainer: CausalDistillationTrainer, arm: str) -> None:
    """Let a trainer log a line per log step, in the place of what transformers prints; bars stay.

    Args:
        trainer: The trainer.
        arm: What the lines call it, such as `causal 2/3`.
    """
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_Bar())
    trainer.add_callback(StepLines(arm))


def step_line(arm: str, step: int, steps: int, logs: Mapping[str, Any], left: float | None) -> str:
    """Return `causal 2/2 · step 120/200 · loss 1.38 (task 4.34, ce 0.45) · effect 0.45 · 21 s left`.

    Args:
        arm: What the line begins with.
        step: Steps that are done.
        steps: Steps in all.
        logs: What the trainer logs.
        left: Seconds; None if they are not known.
    """
    terms = ", ".join(
        f"{name.removeprefix(_TERM)} {_short(value)}" for name, value in logs.items() if name.startswith(_TERM)
    )
    parts = [arm, f"step {step}/{steps}", f"loss {_short(logs['loss'])}" + (f" ({terms})" if terms else "")]
    if "effect_size" in logs:
        parts.append(f"effect {_short(logs['effect_size'])}")
    if left is not None and step < steps:
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)


class StepLines(TrainerCallback):
    """Logs a line for each of the trainer's entries that has a loss."""

    def __init__(self, arm: str) -> None:
        self._arm = arm
        self._begun: tuple[int, float] | None = None

    def on_step_begin(self, *given: Any, **_: Any) -> None:
        """Note when the first step begins."""
        state: TrainerState = given[1]
        self._begun = self._begun or (state.global_step, time.perf_counter())

    def on_log(self, *given: Any, logs: Mapping[str, Any], **_: Any) -> None:
        """Log a line."""
        state: TrainerState = given[1]
        if "loss" not in logs or not state.is_world_process_zero:
            return
        left = None
        if self._begun is not None and state.global_step > self._begun[0]:
            step, since = self._begun
            rate = (time.perf_counter() - since) / (state.global_step - step)
            left = rate * (state.max_steps - state.global_step)
        _LOG.info("%s", step_line(self._arm, state.global_step, state.max_steps, logs, left))


class _Bar(ProgressCallback):
    """The bar of transformers without its lines."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Print nothing."""


def _short(value: Any) -> str:
    return f"{float(value):.3g}"
