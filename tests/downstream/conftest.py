from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` keeps what it has read of a file in the test's own folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and models that the project does not contain; IIT_SHARED names their folder."""
    folder = Path(os.environ.get("IIT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir() or not (folder / "models" / "minilm-mlm").is_dir():
        pytest.skip("no real data and models beside the checkout (IIT_SHARED names their folder)")
    return folder
