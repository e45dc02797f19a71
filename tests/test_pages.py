"""The pages of the site: their Python runs from top to bottom, and prints what the page says it prints."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forked import forked

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


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page: str, tmp_path: Path) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert list(blocks(text))

    def work() -> None:
        os.chdir(tmp_path)
        if wrong := run(text):
            raise SystemExit("; ".join(wrong))

    done = forked(work, tmp_path, timeout=600, CUDA_VISIBLE_DEVICES="")
    assert done.code == 0, done.stderr[-3000:]


def test_other_output_than_said_is_found() -> None:
    page = "```python\nprint(1)\nprint(2)\n```\n\nThis prints `1` and `{}`.\n"
    assert run(page.format(2)) == []
    assert run(page.format(3)) == ["block 1: ['1', '2'], not ['1', '3']"]


def test_the_drawing_of_an_alignment_is_that_of_the_package() -> None:
    text = (DOCS / "introduction.md").read_text(encoding="utf-8")
    [(code, _), *_] = blocks(text)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert f"```\n{printed.getvalue()}```" in text
