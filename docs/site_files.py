"""The files of the documentation site: a hook of mkdocs.

Documents link to each other with paths in the repository. So the site has the repository's tree: `docs/guide/train.md`
here is `docs/guide/train/` there, and the README is the first page. Notebooks become pages. `llms.txt` lists all pages
for language models, and `index.md` beside a page holds its Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "CITATION.cff",
    "docs/**/*.md",
    "docs/*.json",
    "docs/site.css",
    "docs/examples/*",
    "docs/images/*",
    "examples/README.md",
    "experiments/**/*.md",
    "experiments/**/*.yaml",
    "experiments/*/results/teacher.json",
    "experiments/*/report/figures/*.svg",
    "experiments/gallery/gallery.svg",
    "experiments/**/kept.svg",
    "experiments/traces/*/figures/*.svg",
    "experiments/traces/*.json",
    "experiments/relations/language.py",
    "experiments/relations/trace/figures/*.svg",
    "iit_toolkit/analysis/statistics/resampling.py",
    "tests/traps/test_traps.py",
)

_NOTEBOOK = re.compile(r"(\]\([^)\s]*examples/[\w-]+|\]\(\d[\w-]+)\.ipynb\)")
_PAGES: list[Any] = []
"""The pages of the navigation."""


def on_files(files: Any, config: Any) -> Any:
    """Replace the documents by the repository's files, under their paths in the repository."""
    for file in list(files):
        if file.src_dir == config["docs_dir"]:
            files.remove(file)
    for pattern in PATTERNS:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for path in sorted(ROOT.glob("examples/*.ipynb")):
        for name, content in _of_notebook(path):
            files.append(File.generated(config, f"examples/{name}", content=content))
    return files


def _of_notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """Return the page of a notebook, and its pictures."""
    text, found = MarkdownExporter().from_filename(str(path))
    for name, picture in found["outputs"].items():
        text = text.replace(f"({name})", f"({path.stem}-{name})")
        yield f"{path.stem}-{name}", picture
    yield f"{path.stem}.md", text.replace("![png]", "![what the cell draws]")


def on_nav(nav: Any, **_: Any) -> None:
    """Keep the order of the pages for `on_post_build`."""
    _PAGES[:] = nav.pages


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to notebooks lead to their pages."""
    return _NOTEBOOK.sub(r"\1.md)", markdown)


def on_post_build(config: Any) -> None:
    """Write `llms.txt`, and the Markdown of every page that is not made from docstrings."""
    site, section = Path(config["site_dir"]), ""
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]
    for page in _PAGES:
        address = Path(page.file.dest_uri)
        if "\n::: " not in page.markdown:
            address = address.with_suffix(".md")
            (site / address).write_text(page.markdown, encoding="utf-8")
        if page.ancestors and page.ancestors[-1].title != section:
            section = page.ancestors[-1].title
            lines += ["", f"## {section}", ""]
        lines.append(f"- [{page.title}]({address.as_posix()})")
    (site / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
