"""How much memory a process has held."""

from __future__ import annotations

from pathlib import Path


def high_water() -> float:
    """Peak resident memory of this process so far, MB; `getrusage` would give its parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
