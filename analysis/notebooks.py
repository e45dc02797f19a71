"""The notebooks of `examples`: run in a fresh kernel each, and kept with the outputs that any reader would see.

    python -m analysis.notebooks [NAME ...]

What differs from run to run is left out: progress, warnings, times. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SETTINGS = "settings"
"""The tag of the cell that says how much a notebook does."""
SECONDS = 1800
"""Longest time of one cell, on a machine with other work to do."""
_PASSING = ("<progress", "application/vnd.jupyter.widget-view+json")
"""What outputs hold that show progress."""
Notebook = Any
"""A `nbformat.NotebookNode`, which is not annotated."""


def notebooks() -> list[Path]:
    """Return the files of all notebooks, in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Notebook:
    """Return a notebook."""
    return cast(Any, nbformat).read(path, as_version=4)


def with_settings(notebook: Notebook, settings: Mapping[str, int]) -> Notebook:
    """Give the names that the settings cell sets other values, in place.

    Raises:
        ValueError: If the cell does not set exactly these names.
    """
    [cell] = [one for one in notebook.cells if SETTINGS in one.metadata.get("tags", ())]
    names = [name.strip() for name in cell.source.partition("=")[0].split(",")]
    if set(names) != set(settings):
        raise ValueError(f"the notebook is set by {', '.join(names)}, not by {', '.join(settings)}")
    cell.source = "\n".join(f"{name} = {settings[name]}" for name in names)
    return notebook


def executed(notebook: Notebook, folder: Path, manager: Any = None) -> Notebook:
    """Run every cell, in place.

    Args:
        notebook: The notebook.
        folder: Where it runs and may write files.
        manager: The manager of a running kernel; a new one's if absent.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    given = {"resources": {"metadata": {"path": str(folder)}}, "timeout": SECONDS, "record_timing": False}
    NotebookClient(notebook, km=manager, **given).execute()
    return notebook


def cleaned(notebook: Notebook) -> Notebook:
    """Leave out, in place, what differs from run to run or from machine to machine."""
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{number:02}"
        if cell.cell_type == "code":
            cell.metadata = {name: cell.metadata[name] for name in ("tags",) if name in cell.metadata}
            cell.outputs = [one for one in cell.outputs if not _passes(one)]
            for one in cell.outputs:
                one.get("metadata", {}).clear()
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    return notebook


def _passes(output: Any) -> bool:
    return output.get("name") == "stderr" or any(mark in str(output.get("data", "")) for mark in _PASSING)


def main() -> None:
    """Run the named notebooks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as 1-first-alignment; all if left out")
    for path in _chosen(parser.parse_args().names):
        with tempfile.TemporaryDirectory() as scratch:
            notebook = cleaned(executed(read(path), Path(scratch)))
        path.write_text(cast(Any, nbformat).writes(notebook) + "\n", encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB", flush=True)


def _chosen(names: list[str]) -> Iterator[Path]:
    known = {path.stem: path for path in notebooks()}
    for name in names or known:
        if name not in known:
            raise SystemExit(f"no notebook {name}; there are {', '.join(known)}")
        yield known[name]


if __name__ == "__main__":
    main()
