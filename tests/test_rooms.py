"""Imports go one way between the rooms, and what counts and writes needs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "analysis.verification", "analysis.statistics", "analysis.report", "analysis.studies", "pipeline.suite",
    "alignment", "cli", "config", "data", "distillation", "downstream", "files", "interchange", "models", "pictures",
    "pipeline", "runs",
)  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    "files": set(),
    "pictures": set(),
    "runs": {"files"},
    "config": {"files", "runs"},
    "models": {"files", "config"},
    "data": {"runs", "config"},
    "alignment": {"files", "pictures", "config"},
    "interchange": {"config", "models", "data", "alignment"},
    "distillation": {"runs", "config", "models", "data", "alignment", "interchange"},
    "downstream": {"files", "runs", "config", "models", "data", "interchange"},
    "analysis.statistics": {"files", "runs", "config"},
    "analysis.verification": {"runs", "config", "models", "data", "alignment", "interchange", "analysis.statistics"},
    "analysis.report": {"files", "pictures", "runs", "analysis.statistics"},
    "analysis.studies": {"files", "runs", "config", "analysis.statistics", "analysis.report"},
    "pipeline": {
        "files", "pictures", "runs", "config", "models", "data", "alignment", "interchange", "distillation",
        "analysis.verification", "analysis.statistics", "analysis.report",
    },
    "pipeline.suite": {
        "files", "runs", "config", "downstream", "pipeline", "analysis.statistics", "analysis.studies",
    },
    "cli": {
        "files", "runs", "config", "alignment", "downstream", "pipeline", "pipeline.suite",
        "analysis.statistics", "analysis.report", "analysis.studies",
    },
}  # fmt: skip
"""Of each room, the rooms that it may import; `errors` may be imported by all."""


def room(module: str) -> str:
    """The room of a module; `errors`, or the package's root."""
    inside = module.removeprefix("iit_toolkit").lstrip(".")
    for name in ROOMS:
        if inside == name or inside.startswith(f"{name}."):
            return name
    return inside.partition(".")[0]


def imported(path: Path) -> Iterator[str]:
    """Every module of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("iit_toolkit"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                place = ROOT / inner.replace(".", "/")
                yield inner if place.is_dir() or place.with_suffix(".py").is_file() else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("iit_toolkit"))


def arrows() -> dict[tuple[str, str], set[str]]:
    """Which room imports which, and in what files."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in (ROOT / "iit_toolkit").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for other in imported(path):
            if room(module) != room(other):
                found.setdefault((room(module), room(other)), set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_imports_go_one_way() -> None:
    order = list(ALLOWED)
    for name, others in ALLOWED.items():
        assert all(order.index(other) < order.index(name) for other in others), name
    found = arrows()
    rooms = set(ALLOWED)
    forbidden = {
        f"{name} -> {other}": sorted(files)
        for (name, other), files in found.items()
        if name in rooms and other not in {"errors", "", *ALLOWED[name]}
    }
    assert forbidden == {}
    unused = {(name, other) for name, others in ALLOWED.items() for other in others} - set(found)
    assert unused == set()
    assert {other for (name, other) in found if name == "errors"} == set()


def test_beside_the_rooms_there_are_only_the_errors() -> None:
    beside = {path.name for path in (ROOT / "iit_toolkit").glob("*.py")}
    assert beside == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize("name", ["statistics", "report", "studies"])
def test_what_counts_and_writes_needs_no_torch(name: str) -> None:
    code = (
        "import importlib, pkgutil, sys\n"
        f"import iit_toolkit.analysis.{name} as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert len(sys.modules) > 100\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pyvene'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
