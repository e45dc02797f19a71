"""Runs of these tests draw no figures, their embedded teacher is small, and each module has a cache of its own."""

from __future__ import annotations

from collections.abc import Generator

import datasets
import pytest

from tests.drawing import no_figures as no_figures
from tests.embedded import embedded_is_small as embedded_is_small
from tests.embedded import small_teacher as small_teacher


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield
