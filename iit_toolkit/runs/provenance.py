"""Where numbers come from: code, versions, machine, data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_PACKAGES = ("iit_toolkit", "torch", "transformers", "pyvene", "datasets", "accelerate", "numpy")
_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]


def provenance() -> dict[str, Any]:
    """Describe the code and the machine that produce a result.

    Returns:
        `git_commit` of the toolkit's own checkout (None if it is installed from a wheel), `git_dirty`
        (whether that checkout has uncommitted changes; None without one), `versions` by package, `platform`,
        and `hardware`: `cpu`, `cores`, `memory_gb`, `cuda` (names of the CUDA devices).
    """
    commit, dirty = _git_state(_PACKAGE_FOLDER.parent)
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "platform": platform.platform(),
        "hardware": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": _memory_gb(),
            "cuda": _cuda_devices(),
        },
    }


def fingerprint(rows: Iterable[Sequence[int]]) -> str:
    """Identify data by its token ids: SHA-256 over the length and the ids of each row, in order.

    Args:
        rows: The token ids of each example.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(array("q", [len(row), *row]).tobytes())
    return f"sha256:{digest.hexdigest()}"


def fingerprint_of_lists(batches: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> str:
    """Identify data as `fingerprint` does, without making a list of each row.

    Args:
        batches: The ids of some rows, one after the other (N,), and the rows' lengths (R,).
    """
    digest = hashlib.sha256()
    for ids, lengths in batches:
        begins = np.cumsum(lengths + 1) - (lengths + 1)
        content = np.empty(len(ids) + len(lengths), np.int64)
        is_id = np.ones(len(content), bool)
        is_id[begins] = False
        content[begins], content[is_id] = lengths, ids
        digest.update(content.tobytes())
    return f"sha256:{digest.hexdigest()}"


def fingerprint_of_weights(weights: Mapping[str, Tensor]) -> str:
    """Identify a model: SHA-256 over the names and values of its weights, in float32.

    Args:
        weights: By name, as `state_dict` gives them.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].float().cpu().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def fingerprint_of_json(data: Any) -> str:
    """Identify plain data: SHA-256 over its JSON."""
    return f"sha256:{hashlib.sha256(json.dumps(data).encode()).hexdigest()}"


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout at `root`; a repository somewhere above it does not count."""
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain")
    return commit or None, None if changes is None else bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    if package == "iit_toolkit":
        from iit_toolkit import __version__

        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # no Linux
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # the system does not say
        return None


def _cuda_devices() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
