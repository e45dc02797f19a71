"""A small stand-in for the embedded teacher, a forward pass of which takes a tenth of the time.

It has the embedded one's tokenizer, depth and number of heads, and random weights that are large enough for swaps to
change answers. Tests in which the embedded teacher itself matters take it `in_real_use`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from iit_toolkit.config.loading import EMBEDDED_TEACHER
from iit_toolkit.pipeline import prepare
from tests.families import with_large_weights

WIDTH = 24


@contextmanager
def in_real_use() -> Iterator[None]:
    """The embedded teacher nevertheless, in a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "EMBEDDED_TEACHER", EMBEDDED_TEACHER)
        yield


@pytest.fixture(scope="session")
def small_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("small-teacher")
    config = BertConfig.from_pretrained(EMBEDDED_TEACHER)
    config.hidden_size, config.intermediate_size = WIDTH, 2 * WIDTH
    with_large_weights(BertForMaskedLM(config)).half().save_pretrained(folder)
    AutoTokenizer.from_pretrained(EMBEDDED_TEACHER).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def embedded_is_small(small_teacher: Path) -> Iterator[None]:
    """`teacher: embedded` is the stand-in in all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "EMBEDDED_TEACHER", str(small_teacher))
        yield
