"""The pages of the site: their Python runs from top to bottom, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("interchange-interventions", "introduction", "for-pyvene-users", "for-trl-users", "tracking")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(.*?)(?=^```python|\Z)", re.DOTALL | re.MULTILINE)
SAID = re.compile(r"(?:This|The last line) prints ((?:`[^`]+`(?:, | and )?)+)")


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every block of Python, and the last lines that it prints, by the first such sentence behind it."""
    for code, after in BLOCK.findall(text):
        found = SAID.search(after)
        yield code, re.findall(r"`([^`]+)`", found[1]) if found else []


def run(text: str) -> list[str]:
    """Run all blocks in one namespace; return what was printed otherwise than said."""
    names: dict[str, object] = {"__name__": "__main__"}
    wrong: list[str] = []
    for number, (code, said) in enumerate(blocks(text), 1):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, f"block {number}", "exec"), names)
        lines = printed.getvalue().splitlines()[-len(said) :] if said else []
        wrong += [f"block {number}: {lines}, not {said}"] if lines != said else []
    return wrong


def work(text: str, folder: Path) -> None:
    """Run the blocks in a folder, and write there what goes to standard error."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.chdir(folder)
    os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    if wrong := run(text):
        raise SystemExit("; ".join(wrong))


def in_clean_process(text: str, folder: Path) -> int | None:
    """Run blocks in a process that knows nothing of the tests that ran before; return its exit code.

    It is forked from a server that has only imported what takes long.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "datasets", "iit_toolkit.pipeline"])
    process = context.Process(target=work, args=(text, folder))
    process.start()
    process.join(600)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page: str, tmp_path: Path) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert list(blocks(text))

    done = in_clean_process(text, tmp_path)
    assert done == 0, (tmp_path / "stderr").read_text()[-3000:]


def test_other_output_than_said_is_found() -> None:
    page = "```python\nprint(1)\nprint(2)\n```\n\nThis prints `1` and `{}`.\n"
    assert run(page.format(2)) == []
    assert run(page.format(3)) == ["block 1: ['1', '2'], not ['1', '3']"]


def test_a_page_sees_nothing_of_the_tests_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(re, "left_by_a_test", True, raising=False)
    seen = (
        "```python\nimport re, logging\nassert not hasattr(re, 'left_by_a_test')\nprint(logging.root.handlers)\n```\n"
    )
    assert in_clean_process(f"{seen}\nThis prints `[]`.\n", tmp_path) == 0, (tmp_path / "stderr").read_text()
    assert in_clean_process("```python\nraise SystemExit(3)\n```\n", tmp_path) == 3


def test_the_drawing_of_an_alignment_is_that_of_the_package() -> None:
    text = (DOCS / "introduction.md").read_text(encoding="utf-8")
    [(code, _), *_] = blocks(text)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert f"```\n{printed.getvalue()}```" in text
