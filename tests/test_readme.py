"""The README and the documents: the example runs, verbs and settings exist, links lead somewhere."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import iit_toolkit as iit
from iit_toolkit.alignment import Alignment
from iit_toolkit.cli import app
from iit_toolkit.config.loading import load_config
from iit_toolkit.downstream.config import load_finetune_config
from iit_toolkit.pipeline.suite.config import SuiteConfig
from tests.forked import forked

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
VERBS_PAGE = ROOT / "docs" / "guide" / "cli.md"
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
DOCUMENTS = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "experiments").rglob("*.md")),
    ROOT / "examples" / "README.md",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def example() -> tuple[str, str]:
    """The first Python block of the README, and what it is said to print at its end."""
    text = README.read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```$.*?^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def without_numbers(text: str) -> str:
    return re.sub(r"[+-]?\d+(\.\d+)?", "N", text)


def test_the_example_has_at_most_twelve_lines() -> None:
    assert 0 < len([line for line in example()[0].splitlines() if line.strip()]) <= 12


def test_the_example_runs_offline_and_prints_what_it_is_said_to_print(tmp_path: Path) -> None:
    code, said = example()

    def work() -> None:
        os.chdir(tmp_path)
        exec(compile(code, "example.py", "exec"), {"__name__": "__main__"})

    done = forked(work, tmp_path, timeout=600, CUDA_VISIBLE_DEVICES="")
    assert done.code == 0, done.stderr[-3000:]
    printed = "\n".join(done.stdout.splitlines()[-len(said.splitlines()) :])
    assert without_numbers(printed) == without_numbers(said.strip())
    shown, told = (float(re.findall(r"R² (-?\d+\.\d+)", text)[0]) for text in (printed, said))
    assert shown == pytest.approx(told, abs=0.05)


def test_the_numbers_of_the_readme_are_those_of_the_linked_pages() -> None:
    rows = re.findall(r"^\| (.+) \| \[[\w-]+\]\(([^)]+)\) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 6
    for said, page in rows:
        text = (ROOT / page).read_text(encoding="utf-8")
        numbers = re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?|\d of \d", said)
        assert [number for number in numbers if number not in text] == [], said


def test_the_readme_is_short() -> None:
    assert README.stat().st_size <= 8 * 1024


def test_every_verb_that_readme_and_guide_name_exists() -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in (README, *GUIDE)}
    named = {page: set(re.findall(r"\biit-toolkit ([a-z]\w*)", text)) for page, text in pages.items()}
    commands = CliRunner().invoke(app, ["--help"]).output.partition("Commands:")[2]
    verbs = set(re.findall(r"^  ([a-z]\w*)  ", commands, re.MULTILINE))
    assert verbs and set().union(*named.values()) <= verbs
    assert verbs <= named[VERBS_PAGE], f"{VERBS_PAGE.name} shows no example of {verbs - named[VERBS_PAGE]}"


def documented() -> set[tuple[str, str]]:
    """Modules and members that the reference pages name."""
    directive = re.compile(r"^::: ([\w.]+)\n    options:\n      members: \[(.*)\]$", re.MULTILINE)
    texts = [page.read_text(encoding="utf-8") for page in REFERENCE]
    assert sum(text.count("\n::: ") for text in texts) == sum(len(directive.findall(text)) for text in texts)
    found = [match for text in texts for match in directive.findall(text)]
    return {(module, member) for module, members in found for member in members.split(", ")}


def test_every_public_name_is_on_a_reference_page() -> None:
    names = documented()
    for module, member in names:
        assert hasattr(importlib.import_module(module), member), f"{module} has no {member}"
    assert {(f"iit_toolkit.{home}", name) for name, home in iit._HOMES.items()} <= names  # pyright: ignore
    pages = "".join(page.read_text(encoding="utf-8") for page in REFERENCE)
    assert [name for name in iit.__all__ if f"`iit.{name}`" not in pages] == []
    members = {member for _, member in names}
    for room in ("alignment", "interchange", "pipeline"):
        assert set(importlib.import_module(f"iit_toolkit.{room}").__all__) <= members


def test_every_page_of_the_site_is_in_its_contents() -> None:
    listed = re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    pages = {path.with_suffix(".md") for path in (ROOT / "examples").glob("*.ipynb")}  # docs/site_files.py makes them
    assert [page for page in listed if ROOT / page not in pages and not (ROOT / page).is_file()] == []
    assert {page.relative_to(ROOT).as_posix() for page in [*(ROOT / "docs").rglob("*.md"), *pages]} <= set(listed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in LINK.findall(text) if "://" not in target]
    missing = [target for target in targets if target and not (document.parent / target).exists()]
    assert not missing


def test_the_guides_files_are_valid(tmp_path: Path) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in GUIDE)
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    files = [block for block in blocks if block.startswith("name: ")]
    assert len(files) >= 5
    path = tmp_path / "file.yaml"
    for block in files:
        path.write_text(block, encoding="utf-8")
        if "seeds:" in block and "\nrun: " in block:
            assert yaml.safe_load(block).keys() <= SuiteConfig.model_fields.keys()
        elif "variables:" in block and "\narms:" not in block:
            Alignment.from_yaml(path)
        elif "tasks:" in block:
            load_finetune_config(path)
        else:
            load_config(path)
