"""One line per log step of a training, whatever is trained."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainerState

from iit_toolkit.runs.progress import Count, Step, is_watched, tell

_TERM = "loss/"


def say_steps(trainer: Trainer, what: str, measured: Callable[[float], None] | None = None) -> None:
    """Let a trainer log a line per log step, in the place of what transformers prints.

    Its bar stays, unless somebody follows the steps.

    Args:
        trainer: The trainer.
        what: What the lines call the training, such as `causal 2/3`.
        measured: Called with the seconds per step at the first log step.
    """
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None and not is_watched():
        trainer.add_callback(_Bar())
    trainer.add_callback(StepLines(what, measured))


def step_of(what: str, done: int, steps: int, logs: Mapping[str, Any], left: float | None) -> Step:
    """Return a step with what the trainer logged last.

    Args:
        what: What is trained.
        done: Steps that are done.
        steps: Steps in all.
        logs: What the trainer logs, `loss/...` for its terms.
        left: Seconds; None if they are not known.
    """
    return Step(
        what,
        done,
        steps,
        loss=float(logs["loss"]) if "loss" in logs else None,
        terms={name.removeprefix(_TERM): float(value) for name, value in logs.items() if name.startswith(_TERM)},
        effect=float(logs["effect_size"]) if "effect_size" in logs else None,
        left=left,
    )


class StepLines(TrainerCallback):
    """Logs a line for each of the trainer's entries that has a loss; other steps at DEBUG."""

    def __init__(self, what: str, measured: Callable[[float], None] | None = None) -> None:
        self._what, self._measured = what, measured
        self._begun: tuple[int, float] | None = None
        self._logs: Mapping[str, Any] = {}
        self._scored, self._scoring = 0, 0.0

    def on_step_begin(self, *given: Any, **_: Any) -> None:
        """Note when the first step begins."""
        state: TrainerState = given[1]
        self._begun = self._begun or (state.global_step, time.perf_counter())

    def on_step_end(self, *given: Any, **_: Any) -> None:
        """Say which step is done."""
        self._say(given[1], logging.DEBUG)

    def on_log(self, *given: Any, logs: Mapping[str, Any], **_: Any) -> None:
        """Log a line."""
        state: TrainerState = given[1]
        if "loss" not in logs:
            return
        self._logs = logs
        self._say(state, logging.INFO)
        rate = self._rate(state)
        if self._measured is not None and rate is not None:
            self._measured(rate)
            self._measured = None

    def on_prediction_step(self, *_: Any, eval_dataloader: Any, **__: Any) -> None:
        """Say how many batches are scored."""
        now, total = time.perf_counter(), len(eval_dataloader)
        self._scoring = self._scoring if self._scored else now
        left = (now - self._scoring) / self._scored * (total - self._scored) if self._scored else None
        self._scored += 1
        tell(Count("scoring", self._scored, total, left), logging.DEBUG)
        self._scored %= total

    def _say(self, state: TrainerState, level: int) -> None:
        if state.is_world_process_zero:
            rate = self._rate(state)
            left = None if rate is None else rate * (state.max_steps - state.global_step)
            tell(step_of(self._what, state.global_step, state.max_steps, self._logs, left), level)

    def _rate(self, state: TrainerState) -> float | None:
        """Return the seconds of a step."""
        if self._begun is None or state.global_step <= self._begun[0]:
            return None
        step, since = self._begun
        return (time.perf_counter() - since) / (state.global_step - step)


class _Bar(ProgressCallback):
    """The bar of transformers without its lines."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Print nothing."""
