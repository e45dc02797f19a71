"""The files of the documentation site: a hook of mkdocs.

Documents link to each other with paths in the repository. So the site has the repository's tree: `docs/guide/train.md`
here is `docs/guide/train/` there, and the README is the first page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "CITATION.cff",
    "docs/**/*.md",
    "docs/*.json",
    "docs/examples/*",
    "docs/images/*",
    "experiments/**/*.md",
    "experiments/**/*.yaml",
    "experiments/*/results/teacher.json",
    "experiments/*/report/figures/*.svg",
    "experiments/gallery/gallery.svg",
    "experiments/*/kept.svg",
    "experiments/traces/*/figures/*.svg",
    "iit_toolkit/analysis/statistics/resampling.py",
    "tests/traps/test_traps.py",
)


def on_files(files: Any, config: Any) -> Any:
    """Replace the documents by the repository's files, under their paths in the repository."""
    for file in list(files):
        if file.src_dir == config["docs_dir"]:
            files.remove(file)
    for pattern in PATTERNS:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files
