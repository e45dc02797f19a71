"""Reports without their figures, which take half the time of a tiny run; tests/analysis draws them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.report import report

_WRITE_FIGURES = report.write_figures


def _folder_only(*given: Any) -> list[Any]:
    next(one for one in given if isinstance(one, Path)).mkdir(parents=True, exist_ok=True)
    return []


@contextmanager
def no_figures_drawn() -> Iterator[None]:
    """None in a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_figures", _folder_only)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """None in all tests of a module."""
    with no_figures_drawn():
        yield


@contextmanager
def figures_drawn() -> Iterator[None]:
    """Figures nevertheless, in a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_figures", _WRITE_FIGURES)
        yield
