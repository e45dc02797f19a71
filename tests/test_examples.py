"""The notebooks: each runs, with little to do, and what is committed holds nothing of the machine it ran on."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from analysis.notebooks import cleaned, executed, notebooks, read, with_settings

LITTLE = {
    "1-first-alignment": {"PAIRS": 12},
    "2-distil-a-bert": {"STEPS": 2, "PAIRS": 12, "TRACED": 8},
    "3-causal-language-model": {"TEACHER_STEPS": 30, "STEPS": 2, "PAIRS": 32},
    "4-a-program-as-the-teacher": {"STEPS": 20, "ROWS": 2000, "TESTED": 48},
    "5-verify-a-finished-student": {"PAIRS": 12},
    "6-search-and-subspaces": {"PAIRS": 48, "PASSES": 1},
}
MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|work|usr|opt|Users|var|mnt)/|\b[A-Z]:\\|file://|0x[0-9a-f]{8}")
TIMES = re.compile(r"\d it/s|\d s/it|\b\d\d:\d\d\b|runtime|\bseconds\b")
PATHS = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all: to import everything takes longer than the notebooks take here."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


def run(notebook: Any, folder: Path, kernel: KernelManager) -> Any:
    notebook.cells.insert(0, new_code_cell("%reset -f"))
    return executed(notebook, folder, kernel)


@PATHS
def test_it_runs(path: Path, kernel: KernelManager, tmp_path: Path) -> None:
    run(with_settings(read(path), LITTLE[path.stem]), tmp_path, kernel)


def test_a_cell_that_fails_is_an_error(kernel: KernelManager, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run(new_notebook(cells=[new_code_cell("1 / 0")]), tmp_path, kernel)


PLOT = "import iit_toolkit as iit\niit.Alignment.pairs(middle=(1, 0)).plot(2, 2)"


def test_a_plot_is_shown_without_a_magic_line(kernel: KernelManager, tmp_path: Path) -> None:
    [_, cell] = run(new_notebook(cells=[new_code_cell(PLOT)]), tmp_path, kernel).cells
    assert [kind for output in cell.outputs for kind in output.get("data", {})].count("image/png") == 1


def faults(notebook: Any) -> list[str]:
    """Everything in a committed notebook that should not be there."""
    found: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            data = output.get("data", {})
            for name, text in ({"text": output.get("text", "")} | data).items():
                if name == "image/png":
                    size = len(base64.b64decode(text))
                    found += [f"an image of {size} bytes"] if size > 40_000 else []
                else:
                    found += [f"{name}: {one.group()}" for one in MACHINE.finditer(text)]
                    found += [f"{name}: {one.group()}" for one in TIMES.finditer(text) if name != "text/html"]
            found += [f"an output of kind {output.output_type}"] if output.output_type == "error" else []
            found += ["standard error"] if output.get("name") == "stderr" else []
    return found


@PATHS
def test_what_is_committed_is_clean_and_complete(path: Path) -> None:
    notebook = read(path)
    assert faults(notebook) == []
    assert cleaned(read(path)) == notebook
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it: analysis.notebooks"
    assert sum(len(cell.outputs) for cell in code) >= 4
    assert path.stat().st_size < 150_000
    assert not MACHINE.search(json.dumps([cell.source for cell in notebook.cells]))


def test_faults_are_found() -> None:
    cell = new_code_cell("1")
    picture = base64.b64encode(bytes(50_000)).decode()
    cell.outputs = [
        {"output_type": "stream", "name": "stderr", "text": "a warning in /home/someone/x.py"},
        {"output_type": "stream", "name": "stdout", "text": "9 it/s at 12:30"},
        {"output_type": "display_data", "data": {"image/png": picture, "text/plain": "<Figure at 0x7f0000000000>"}},
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": []},
    ]
    notebook = read(notebooks()[0])
    notebook.cells = [type(notebook.cells[0])(one) for one in [cell]]
    notebook.cells[0].outputs = [type(cell)(one) for one in cell.outputs]
    assert len(faults(notebook)) == 7


def test_every_notebook_is_listed() -> None:
    index = (notebooks()[0].parent / "README.md").read_text(encoding="utf-8")
    assert len(notebooks()) >= 6 and set(LITTLE) == {path.stem for path in notebooks()}
    assert [path.name for path in notebooks() if f"]({path.name})" not in index] == []
