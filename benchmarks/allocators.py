"""Processes that take steps when told, with malloc as it is and with malloc that keeps its memory.

By default glibc gives large blocks back to the system as they are freed, and pays for every page of the next ones. Told
not to, it keeps them, and a step costs what it computes. A process learns the setting from its environment as it
starts, so each setting has a process of its own. All take their steps in turn.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

DEFAULT, KEPT = "default", "memory kept"
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
SETTINGS: dict[str, dict[str, str]] = {DEFAULT: {}, KEPT: KEEPING}


class Worker:
    """A process that takes steps of variants of one shape."""

    def __init__(self, shape: str, variants: Sequence[str], setting: str) -> None:
        """Start it; what the environment says of another allocator does not reach it."""
        other = ("MALLOC_", "LD_PRELOAD", "GLIBC_TUNABLES")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(other)}
        command = [sys.executable, "-m", "benchmarks.step_cost", shape, "--serve", json.dumps(list(variants))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environment, **SETTINGS[setting]}
        )

    def step(self, variant: str, number: int) -> tuple[float, int]:
        """Take one step: CPU seconds and page faults."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([variant, number]) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("["):
                seconds, faults = json.loads(line)
                return seconds, faults
        raise RuntimeError(f"the process that takes the steps has ended with code {self._process.wait()}")

    def __enter__(self) -> Worker:
        """Return the process, which is running."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(steps: Mapping[str, Callable[[int], None]]) -> None:
    """Take the steps that standard input asks for, until it ends."""
    for line in sys.stdin:
        variant, number = json.loads(line)
        faults, started = _faults(), time.process_time()
        steps[variant](number)
        print(json.dumps([time.process_time() - started, _faults() - faults]), flush=True)


def measured(
    shape: str, variants: Mapping[str, Sequence[str]], rounds: int, each_round: Callable[[int], None]
) -> dict[str, dict[str, list[tuple[float, int]]]]:
    """Let every variant of every setting take one step per round, in an order that is reversed every other round.

    Args:
        shape: The shape's name.
        variants: The variants of each setting.
        rounds: Rounds, after one to warm up.
        each_round: Called after each round.

    Returns:
        By setting and variant, CPU seconds and page faults of each round.
    """
    found = {setting: {variant: [] for variant in some} for setting, some in variants.items()}
    turns = [(setting, variant) for variant in variants[DEFAULT] for setting in variants if variant in found[setting]]
    with ExitStack() as running:
        workers = {setting: running.enter_context(Worker(shape, some, setting)) for setting, some in variants.items()}
        for number in range(-1, rounds):
            for setting, variant in turns if number % 2 else reversed(turns):
                taken = workers[setting].step(variant, max(number, 0))
                if number >= 0:
                    found[setting][variant].append(taken)
            if number >= 0:
                each_round(number)
            print(f"{shape}: round {number + 1} of {rounds}", file=sys.stderr)
    return found


def compared(found: Mapping[str, Mapping[str, list[tuple[float, int]]]], to: Sequence[str]) -> dict[str, Any]:
    """Per setting and variant: median CPU seconds and page faults, and the medians of each round's ratios.

    Args:
        found: What `measured` returned.
        to: The variants whose steps the others are compared with; `ratios` holds these, and `to_default` the ratio to
            the same step with malloc as it is.
    """
    return {
        setting: {
            variant: {
                "seconds": statistics.median(seconds for seconds, _ in taken),
                "faults": statistics.median(faults for _, faults in taken),
                "ratios": {other: _ratio(taken, steps[other]) for other in to if other in steps},
                "to_default": _ratio(taken, found[DEFAULT][variant]),
            }
            for variant, taken in steps.items()
        }
        for setting, steps in found.items()
    }


def _ratio(taken: list[tuple[float, int]], others: list[tuple[float, int]]) -> float:
    return statistics.median(one[0] / other[0] for one, other in zip(taken, others, strict=True))


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
