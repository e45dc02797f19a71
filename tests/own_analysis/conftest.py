"""What tests of the repository's own analyses share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from analysis import gallery


@pytest.fixture
def gallery_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of the gallery by its name, as its `run.py` does."""
    monkeypatch.setattr(sys, "path", [str(gallery.FOLDER), *sys.path])
    return importlib.import_module
