"""Runs of these tests draw no figures, and each module has a cache of its own."""

from __future__ import annotations

from collections.abc import Generator

import datasets
import pytest

from tests.drawing import no_figures as no_figures


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield
